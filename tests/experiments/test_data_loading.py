"""Names, and the rules of the search: what was asked for, from where it was asked for, or an error."""

import sys
import typing
from pathlib import Path

import numpy as np
import pytest

from experiments.support import data
from experiments.support.data import download, prepared
from experiments.support.data.catalog import CATALOG, Description, title_with_sizes
from experiments.support.data.images import check_split
from experiments.support.data.packaged import PACKAGED
from tests.experiments import original_files as files


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("cifar", "did you mean 'cifar10'"),
        ("SVHN", "choose one of these"),
        ("fashion-mnist", "did you mean 'fashion_mnist'"),
        ("", "choose one of these"),
    ],
)
def test_unknown_name_suggests_the_nearest(name, hint):
    with pytest.raises(
        data.DataError, match=rf"dataset is unknown: got '{name}', expected one of fashion_.*; {hint}"
    ):
        data.load(name)


def test_every_name_is_described_once():
    assert typing.get_args(data.Name) == tuple(CATALOG)
    for name, description in CATALOG.items():
        assert bool(description.tfds_name) == (name not in PACKAGED)
        assert bool(description.originals) == (name not in (*PACKAGED, "gtsrb"))
        assert len(set(description.class_names)) == len(description.class_names)


def test_titles_tell_unusual_sizes():
    assert title_with_sizes(CATALOG["svhn"], 73_257, 26_032) == "SVHN"
    assert title_with_sizes(CATALOG["svhn"], 73_257, 26_031) == "SVHN (73257 + 26031)"


def test_data_dir_must_be_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "absent", tmp_path / "file"):
        with pytest.raises(data.DataError, match=rf"data_dir is no folder: got {path}, expected a folder"):
            data.load("svhn", data_dir=path)


def test_data_dir_may_be_written_with_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    files.write_svhn(tmp_path / "images")
    assert data.load("svhn", data_dir=Path("~/images")).title == "SVHN (30 + 20)"


def test_damage_stops_the_search(tmp_path, monkeypatch):
    files.write_svhn(tmp_path)
    files.cut(tmp_path / "test_32x32.mat")
    for module, name in ((prepared, "find_prepared"), (download, "remotes"), (prepared, "prepare")):
        monkeypatch.setattr(module, name, unwanted)
    with pytest.raises(data.DataError, match=r"test_32x32\.mat is truncated or damaged"):
        data.load("svhn", data_dir=tmp_path)


def unwanted(*_):
    raise AssertionError("the search went on")


def test_other_datasets_files_are_never_taken(tmp_path, monkeypatch):
    files.write_idx(tmp_path / "mnist")
    files.write_svhn(tmp_path / "svhn")
    monkeypatch.setattr(download, "fetch", lambda *_: None)
    with pytest.raises(data.DataError, match=r"download: what was downloaded into .* is not what is read"):
        data.load("fashion_mnist", data_dir=tmp_path)


@pytest.mark.parametrize("name", sorted(set(CATALOG) - set(PACKAGED)))
def test_missing_packages_are_told(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(data.DataError, match=f"no data for dataset '{name}'") as caught:
        data.load(name, data_dir=tmp_path)
    text, originals = str(caught.value), CATALOG[name].originals
    assert "prepared dataset: tensorflow-datasets is not usable" in text
    for promise in ("download: addresses come from", "original files are then downloaded", "into a folder"):
        assert (promise in text) == bool(originals)
    assert all(filename in text for filename in originals)


@pytest.mark.parametrize("lowest", [-1.0, 0.0])
@pytest.mark.parametrize("highest", [1.0, 1.5])
def test_pixels_out_of_range(lowest, highest):
    pixels = np.linspace(lowest, highest, 8).reshape(2, 2, 2, 1)
    split = data.Split(pixels, np.array([0, 1]))
    check = {"image_shape": (2, 2, 1), "num_classes": 2, "max_value": 1.0, "where": "here"}
    if (lowest, highest) == (0.0, 1.0):
        check_split(split, **check)
        return
    with pytest.raises(
        data.DataError, match=rf"pixels out of range in here: got {lowest} to {highest}, expected 0"
    ):
        check_split(split, **check)


def test_description_is_read_only():
    with pytest.raises(AttributeError):
        Description("a", "A", ("x",), (1, 1, 1), (1, 1)).name = "b"
