"""The TFDS path for real: a tiny dataset under a stock name, version and features, without TensorFlow."""

import importlib.util

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import downloader

from experiments.support import data
from experiments.support.data import download, prepared
from experiments.support.data.catalog import describe
from experiments.support.data.images import Unavailable
from tests.experiments import original_files as files
from tests.experiments.prepared_files import tiny_builder

NAMES = ("svhn", "emnist")


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A folder with a tiny prepared SVHN and a tiny prepared EMNIST; not to be written to."""
    root = tmp_path_factory.mktemp("prepared")
    for name in NAMES:
        tiny_builder(name, root).download_and_prepare()
    return root


@pytest.fixture(autouse=True)
def _only_prepared(monkeypatch, tmp_path):
    monkeypatch.setenv("DNC_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path / "default"))
    monkeypatch.setattr(download, "remotes", unlisted)


def unlisted(description):
    raise Unavailable(f"no address for {description.name}")


def copy_of(stored, folder):
    for path in stored.rglob("svhn_cropped/*/*"):
        target = folder / path.relative_to(stored)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    return folder


def in_order(split):
    """Images in the order of their bytes: TFDS shuffles while it writes."""
    rows = split.images.reshape(len(split.images), -1)
    order = np.lexsort(rows.T)
    return rows[order], split.labels[order]


@pytest.mark.parametrize("batch_size", [7, 4096])
def test_prepared_dataset_is_read(stored, monkeypatch, batch_size):
    monkeypatch.setattr(prepared, "_BATCH_SIZE", batch_size)
    images = data.load("svhn", data_dir=stored)
    for split, count in ((images.train, 30), (images.test, 20)):
        expected = data.Split(files.pixels(count, (32, 32, 3)), files.labels(count))
        for got, want in zip(in_order(split), in_order(expected), strict=True):
            np.testing.assert_array_equal(got, want)
    assert images.source == f"TensorFlow Datasets svhn_cropped (array_record) in {stored}"


def test_emnist_is_turned_upright(stored):
    images = data.load("emnist", data_dir=stored)
    upright = data.Split(files.pixels(30, (28, 28, 1)).transpose(0, 2, 1, 3), files.labels(30, 47))
    np.testing.assert_array_equal(in_order(images.train)[0], in_order(upright)[0])


def test_default_folder_is_used_without_data_dir(stored, monkeypatch):
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(stored))
    assert data.load("svhn").title == "SVHN (30 + 20)"


def test_original_files_go_first(stored, tmp_path):
    folder = files.write_svhn(copy_of(stored, tmp_path / "both"))
    assert data.load("svhn", data_dir=folder).source.startswith("original files")


def test_second_load_reads_the_cache(stored, monkeypatch):
    first = data.load("svhn", data_dir=stored)
    monkeypatch.setattr(prepared, "_read_split", None)
    second = data.load("svhn", data_dir=stored)
    np.testing.assert_array_equal(first.train.images, second.train.images)


@pytest.mark.parametrize("size", [0, 70_000])
def test_damaged_dataset_is_an_error(stored, tmp_path, size):
    folder = copy_of(stored, tmp_path / "damaged")
    (record,) = folder.rglob("*train*")
    record.write_bytes(record.read_bytes()[:size])
    with pytest.raises(data.DataError, match=r"prepared dataset in .*svhn_cropped cannot be read: got"):
        data.load("svhn", data_dir=folder)


def test_another_version_is_an_error(stored, tmp_path):
    folder = copy_of(stored, tmp_path / "old") / "svhn_cropped"
    (folder / "3.1.0").rename(folder / "3.0.0")
    with pytest.raises(data.DataError, match="expected a whole one of the installed version"):
        data.load("svhn", data_dir=folder.parent)


def test_another_format_is_passed_over_and_told(stored, tmp_path):
    folder = copy_of(stored, tmp_path / "other")
    for record in folder.rglob("*.array_record*"):
        record.rename(record.with_name(record.name.replace("array_record", "tfrecord")))
    with pytest.raises(data.DataError, match=r"prepared dataset: .* is not in the array_record format"):
        data.load("svhn", data_dir=folder)


def test_interrupted_preparation_is_no_dataset(stored, tmp_path):
    folder = copy_of(stored, tmp_path / "interrupted") / "svhn_cropped"
    (folder / "3.1.0").rename(folder / "incomplete.ABC_3.1.0")
    with pytest.raises(data.DataError, match="prepared dataset: no prepared dataset in"):
        data.load("svhn", data_dir=folder.parent)


def test_nothing_is_prepared_without_tensorflow(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(data.DataError, match="preparation: TensorFlow is not installed"):
        data.load("svhn", data_dir=tmp_path)


def test_preparation_where_tensorflow_is_installed(tmp_path, monkeypatch):
    retries = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(downloader, "MAX_RETRIES", 10)

    def tiny(name, *, data_dir, file_format):
        retries.append(downloader.MAX_RETRIES)
        assert (name, file_format) == ("svhn_cropped", "array_record")
        return tiny_builder("svhn", data_dir)

    monkeypatch.setattr(tfds, "builder", tiny)
    found = prepared.prepare(describe("svhn"), tmp_path)
    assert found.read()[0].images.shape == (30, 32, 32, 3)
    assert retries == [1]
    assert downloader.MAX_RETRIES == 10


def test_failed_preparation_is_told(tmp_path, monkeypatch):
    def failing(*_, **__):
        raise OSError("disk is full\nmore")

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(tfds, "builder", failing)
    with pytest.raises(data.DataError, match="preparation: preparation failed: OSError: disk is full"):
        data.load("svhn", data_dir=tmp_path)
