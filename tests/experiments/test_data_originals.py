"""Original files of every layout are read as published, and damage is named."""

import gzip
import pickle
import zipfile

import numpy as np
import pytest
from scipy.io import savemat

from experiments.support import data
from experiments.support.data import originals
from tests.experiments import original_files as files


@pytest.fixture(autouse=True)
def _nothing_else_to_read(monkeypatch, tmp_path):
    """No test of this file reaches a cache or a download: the first way must do."""
    monkeypatch.setenv("DNC_JAX_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("subfolder", [True, False])
def test_idx_files_in_data_dir_or_its_subfolder(tmp_path, name, packed, subfolder):
    files.write_idx(tmp_path / name if subfolder else tmp_path, packed=packed)
    images = data.load(name, data_dir=tmp_path)
    np.testing.assert_array_equal(images.train.images, files.pixels(30, (28, 28, 1)))
    np.testing.assert_array_equal(images.test.images, files.pixels(20, (28, 28, 1)))
    np.testing.assert_array_equal(images.train.labels, files.labels(30))
    assert images.train.labels.dtype == np.int64
    assert "original files train-images-idx3-ubyte" in images.source


def test_own_subfolder_goes_before_data_dir(tmp_path):
    files.write_idx(tmp_path, seed=1)
    files.write_idx(tmp_path / "mnist", seed=2)
    images = data.load("mnist", data_dir=tmp_path)
    np.testing.assert_array_equal(images.train.images, files.pixels(30, (28, 28, 1), seed=2))


def test_gzip_is_recognized_by_content(tmp_path):
    files.write_idx(tmp_path)
    packed = tmp_path / "train-images-idx3-ubyte.gz"
    packed.write_bytes(gzip.decompress(packed.read_bytes()))
    assert data.load("mnist", data_dir=tmp_path).train.images.shape == (30, 28, 28, 1)


def test_emnist_is_turned_upright(tmp_path):
    files.write_idx(tmp_path, stems=files.EMNIST_STEMS, num_classes=47)
    images = data.load("emnist", data_dir=tmp_path)
    np.testing.assert_array_equal(images.train.images[3, 5, 9], files.pixels(30, (28, 28, 1))[3, 9, 5])
    assert images.num_classes == 47
    assert images.class_names[10] == "A"


def test_emnist_archive_equals_its_files(tmp_path):
    (tmp_path / "archive").mkdir()
    files.write_emnist_archive(tmp_path / "archive")
    files.write_idx(tmp_path / "files", stems=files.EMNIST_STEMS, num_classes=47)
    archive = data.load("emnist", data_dir=tmp_path / "archive")
    single = data.load("emnist", data_dir=tmp_path / "files")
    np.testing.assert_array_equal(archive.train.images, single.train.images)
    np.testing.assert_array_equal(archive.test.labels, single.test.labels)


def test_svhn_files(tmp_path):
    images = data.load("svhn", data_dir=files.write_svhn(tmp_path))
    np.testing.assert_array_equal(images.train.images, files.pixels(30, (32, 32, 3)))
    np.testing.assert_array_equal(images.test.labels, files.labels(20))
    assert images.title == "SVHN (30 + 20)"


def test_cifar10_tarball_and_folder(tmp_path):
    members = files.cifar10_members()
    folder = tmp_path / "extracted" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for name, raw in members.items():
        (folder / name).write_bytes(raw)
    files.write_tarball(tmp_path / "cifar-10-binary.tar.gz", members, prefix="cifar-10-batches-bin")
    first_batch = files.pixels(6, (32, 32, 3), seed=1)
    for place in (tmp_path, tmp_path / "extracted", folder):
        images = data.load("cifar10", data_dir=place)
        np.testing.assert_array_equal(images.train.images[:6], first_batch)
        np.testing.assert_array_equal(images.test.images, files.pixels(20, (32, 32, 3)))
        np.testing.assert_array_equal(images.train.labels, np.tile(np.arange(6), 5))
    assert "batches-bin" in images.source


def test_cifar100_takes_the_fine_labels(tmp_path):
    path = tmp_path / "cifar-100-binary.tar.gz"
    files.write_tarball(path, files.cifar100_members(), prefix="cifar-100-binary")
    images = data.load("cifar100", data_dir=tmp_path)
    np.testing.assert_array_equal(images.train.labels, np.arange(100))
    assert len(set(images.class_names)) == images.num_classes == 100
    assert list(images.class_names) == sorted(images.class_names)


def test_missing_files_are_named(tmp_path):
    files.write_idx(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(
        data.DataError, match=r"incomplete: got 3 of 4, expected also t10k-labels-idx1-ubyte;"
    ):
        data.load("mnist", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("packed", "stem"), [(True, "train-images-idx3-ubyte.gz"), (False, "train-images-idx3-ubyte")]
)
@pytest.mark.parametrize("fraction", [0.0, 0.0005, 0.5, 0.999])
def test_truncated_idx(tmp_path, packed, stem, fraction):
    files.write_idx(tmp_path, packed=packed)
    files.cut(tmp_path / stem, fraction)
    with pytest.raises(data.DataError, match=rf"{stem}.*get the file again"):
        data.load("mnist", data_dir=tmp_path)


def test_idx_with_bytes_left_over(tmp_path):
    files.write_idx(tmp_path, packed=False)
    path = tmp_path / "train-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(data.DataError, match="has bytes left over: got 31 bytes of data, expected 30"):
        data.load("mnist", data_dir=tmp_path)


def test_idx_with_wrong_magic(tmp_path):
    files.write_idx(tmp_path, packed=False)
    labels = (tmp_path / "train-labels-idx1-ubyte").read_bytes()
    (tmp_path / "train-images-idx3-ubyte").write_bytes(labels)
    with pytest.raises(data.DataError, match=r"wrong magic number .* got 0x00000801, expected 0x00000803"):
        data.load("mnist", data_dir=tmp_path)


def test_label_count_must_equal_image_count(tmp_path):
    files.write_idx(tmp_path, packed=False)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(files.idx_bytes(files.labels(29)))
    with pytest.raises(data.DataError, match=r"label count differs from image count .* got 29 labels for 30"):
        data.load("mnist", data_dir=tmp_path)


def test_labels_out_of_range(tmp_path):
    files.write_idx(tmp_path, packed=False, num_classes=12)
    with pytest.raises(
        data.DataError, match=r"labels out of range in the training split of mnist .* got 10 at"
    ):
        data.load("mnist", data_dir=tmp_path)


def test_wrong_image_shape(tmp_path):
    files.write_idx(tmp_path, packed=False)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(files.idx_bytes(np.zeros((30, 28, 27))))
    with pytest.raises(
        data.DataError, match=r"wrong shape: got \(30, 28, 27, 1\), expected \(n, \*\(28, 28, 1\)\)"
    ):
        data.load("mnist", data_dir=tmp_path)


def test_empty_split(tmp_path):
    files.write_idx(tmp_path, packed=False)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(files.idx_bytes(np.zeros((0, 28, 28))))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(files.idx_bytes(np.zeros(0)))
    with pytest.raises(data.DataError, match="no images in the test split of mnist"):
        data.load("mnist", data_dir=tmp_path)


@pytest.mark.parametrize(("name", "other"), [("mnist", "fashion_mnist"), ("fashion_mnist", "mnist")])
def test_mnist_and_fashion_mnist_are_told_apart(tmp_path, name, other):
    files.write_idx(tmp_path, packed=False)
    numbers = np.resize(originals._FIRST_TEST_LABELS[other], 20)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(files.idx_bytes(numbers))
    with pytest.raises(data.DataError, match=f"got the labels of {other}, expected those of {name}"):
        data.load(name, data_dir=tmp_path)
    assert data.load(other, data_dir=tmp_path).name == other


@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.3, 0.9])
def test_truncated_mat(tmp_path, fraction):
    files.write_svhn(tmp_path)
    files.cut(tmp_path / "train_32x32.mat", fraction)
    with pytest.raises(data.DataError, match=r"train_32x32\.mat (is truncated or damaged|lacks)"):
        data.load("svhn", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"X": np.zeros((32, 32, 3, 2), np.uint8)}, r"lacks y: got \['X'\]"),
        (
            {"X": np.zeros((32, 32, 3), np.uint8), "y": np.ones((3, 1), int)},
            r"other arrays: got X \(32, 32, 3\)",
        ),
        ({"X": np.zeros((32, 32, 3, 2)), "y": np.ones((2, 1), int)}, "other arrays: .* of float64 and y"),
        ({"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.ones((2, 1))}, "other arrays: .* of float64, exp"),
        (
            {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.array([[0], [11]])},
            "got 0 to 11, expected 1 to 10",
        ),
    ],
)
def test_mat_with_other_contents(tmp_path, fields, message):
    files.write_svhn(tmp_path)
    savemat(tmp_path / "train_32x32.mat", fields)
    with pytest.raises(data.DataError, match=message):
        data.load("svhn", data_dir=tmp_path)


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.99])
def test_truncated_tarball(tmp_path, fraction):
    path = tmp_path / "cifar-10-binary.tar.gz"
    files.write_tarball(path, files.cifar10_members(), prefix="cifar-10-batches-bin")
    files.cut(path, fraction)
    with pytest.raises(data.DataError, match=r"cifar-10-binary\.tar\.gz is truncated or damaged"):
        data.load("cifar10", data_dir=tmp_path)


def test_changed_byte_in_tarball(tmp_path):
    path = tmp_path / "cifar-10-binary.tar.gz"
    files.write_tarball(path, files.cifar10_members(), prefix="cifar-10-batches-bin")
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(data.DataError, match=r"cifar-10-binary\.tar\.gz is truncated or damaged"):
        data.load("cifar10", data_dir=tmp_path)


def test_truncated_batch(tmp_path):
    members = files.cifar10_members()
    members["data_batch_3.bin"] = members["data_batch_3.bin"][:-1]
    files.write_tarball(tmp_path / "cifar-10-binary.tar.gz", members, prefix="cifar-10-batches-bin")
    with pytest.raises(
        data.DataError, match=r"data_batch_3\.bin is truncated: got 18437 bytes, expected a mult"
    ):
        data.load("cifar10", data_dir=tmp_path)


def test_tarball_without_a_batch(tmp_path):
    members = files.cifar10_members()
    del members["test_batch.bin"]
    files.write_tarball(tmp_path / "cifar-10-binary.tar.gz", members, prefix="cifar-10-batches-bin")
    with pytest.raises(data.DataError, match=r"lacks a file: got .*test_batch\.bin' not found"):
        data.load("cifar10", data_dir=tmp_path)


def test_damaged_emnist_archive(tmp_path):
    files.write_emnist_archive(tmp_path)
    files.cut(tmp_path / "gzip.zip")
    with pytest.raises(data.DataError, match=r"gzip\.zip is truncated or damaged"):
        data.load("emnist", data_dir=tmp_path)
    with zipfile.ZipFile(tmp_path / "gzip.zip", "w") as archive:
        archive.writestr("gzip/other", "")
    with pytest.raises(data.DataError, match=r"gzip\.zip lacks a member"):
        data.load("emnist", data_dir=tmp_path)


@pytest.mark.parametrize(
    "filename", ["cifar-10-python.tar.gz", "cifar10.pkl", "batches.pickle", "data_batch_1"]
)
@pytest.mark.parametrize("subfolder", [True, False])
def test_pickles_are_refused_and_never_read(tmp_path, filename, subfolder):
    folder = tmp_path / "cifar10" if subfolder else tmp_path
    folder.mkdir(exist_ok=True)
    (folder / filename).write_bytes(pickle.dumps(_Bomb()))
    message = (
        rf"{filename} is a pickle in place of data: .* expected cifar-10-binary\.tar\.gz; .* never unpickled"
    )
    with pytest.raises(data.DataError, match=message):
        data.load("cifar10", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("name", "filename"), [("svhn", "train_32x32.mat"), ("mnist", "train-images-idx3-ubyte")]
)
def test_pickle_under_the_name_of_an_original(tmp_path, name, filename):
    (files.write_svhn if name == "svhn" else files.write_idx)(tmp_path)
    (tmp_path / filename).write_bytes(pickle.dumps(_Bomb()))
    with pytest.raises(data.DataError, match=filename):
        data.load(name, data_dir=tmp_path)


class _Bomb:
    """Fails the test when it is unpickled."""

    def __reduce__(self):
        return pytest.fail, ("a pickle was unpickled",)
