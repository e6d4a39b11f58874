"""Subsets, standardized pixels, targets and noise, each against its definition."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.support.data import DataError, Images, Split
from experiments.support.preprocess import contradicting_duplicates, prepare

CLASSES = ("cat", "dog", "owl")
COUNTS = {"train": (30, 60, 30), "test": (8, 20, 12)}


def make_images(**changes):
    """Images of 3 classes, 120 + 40; the first pixel is constant, the second in training only."""
    rng = np.random.default_rng(0)
    splits = {}
    for part, counts in COUNTS.items():
        labels = np.repeat(np.arange(3), counts)
        pixels = rng.integers(0, 17, (len(labels), 3, 2, 2), dtype=np.uint8)
        pixels[:, 0, 0, 0] = 7
        if part == "train":
            pixels[:, 0, 0, 1] = 9
        splits[part] = Split(pixels, labels)
    images = Images("toys", "Toys", CLASSES, splits["train"], splits["test"], "a test", max_value=16.0)
    return dataclasses.replace(images, **changes)


def with_pixels(part, indices, value):
    """Images as floats, one part with the given pixels set."""
    images = make_images()
    split = getattr(images, part)
    pixels = split.images.astype(float)
    for index in indices:
        pixels[index] = value
    return dataclasses.replace(images, **{part: Split(pixels, split.labels)})


def with_train_labels(labels):
    images = make_images()
    return dataclasses.replace(images, train=Split(images.train.images, labels))


def default(images=None, **changes):
    return prepare(images or make_images(), **{"num_train": None, "num_test": None, "seed": 0} | changes)


def standardized_by_hand(images):
    """The standardized test rows, number by number, in the order of the split."""
    rows = images.train.images.reshape(120, 12) / 16
    result = np.zeros((40, 12))
    for index, image in enumerate(images.test.images.reshape(40, 12)):
        for pixel in range(12):
            column = rows[:, pixel]
            if len(set(column)) > 1:
                result[index, pixel] = (image[pixel] / 16 - column.mean()) / np.sqrt(
                    np.mean((column - column.mean()) ** 2)
                )
    return result


def sorted_rows(rows):
    return rows[np.lexsort(rows.T)]


def test_test_rows_are_standardized_by_training_statistics():
    images = make_images()
    prepared = default(images)
    expected = standardized_by_hand(images)
    np.testing.assert_allclose(
        sorted_rows(prepared.test.inputs.round(9)), sorted_rows(expected.round(9)), atol=2e-9
    )


def test_statistics_are_those_of_the_subset():
    prepared = default(num_train=50)
    vary = np.arange(12) >= 2
    np.testing.assert_allclose(prepared.train.inputs.mean(axis=0), 0, atol=1e-14)
    np.testing.assert_allclose(prepared.train.inputs.std(axis=0)[vary], 1)


@pytest.mark.parametrize("own_statistics", [False, True])
def test_constant_pixels_become_zero(own_statistics):
    prepared = default(own_statistics=own_statistics)
    assert np.all(prepared.train.inputs[:, :2] == 0)
    assert np.all(prepared.test.inputs[:, 0] == 0)
    # Constant in training only: 0 by training statistics, standardized by the test subset's own.
    assert np.any(prepared.test.inputs[:, 1]) == own_statistics
    assert np.all(np.isfinite(prepared.test.inputs))


@pytest.mark.parametrize("value", [0.1, 1 / 3, 0.7])
def test_constant_pixels_whose_mean_is_rounded(value):
    images = with_pixels("train", [(slice(None), 1, 1, 1)], value)
    assert np.mean(images.train.images[:, 1, 1, 1]) != value
    assert np.all(default(images).train.inputs[:, 7] == 0)
    assert np.all(default(images).test.inputs[:, 7] == 0)


def test_own_statistics():
    prepared = default(own_statistics=True)
    np.testing.assert_allclose(prepared.test.inputs.mean(axis=0), 0, atol=1e-14)
    np.testing.assert_allclose(prepared.test.inputs[:, 1:].std(axis=0), 1)
    np.testing.assert_array_equal(prepared.train.inputs, default().train.inputs)


def test_targets_are_signed_one_hot():
    train = default().train
    np.testing.assert_array_equal(train.targets.argmax(axis=1), train.labels)
    np.testing.assert_array_equal(np.sort(train.targets, axis=1), np.tile([-1.0, -1.0, 1.0], (120, 1)))


def test_shapes_and_names():
    prepared = default()
    assert (prepared.num_classes, prepared.class_names, prepared.image_shape) == (3, CLASSES, (3, 2, 2))
    assert prepared.train.inputs.shape == (120, 12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype(dtype):
    prepared = default(dtype=dtype)
    for dataset in (prepared.train, prepared.test):
        assert dataset.inputs.dtype == dataset.targets.dtype == dtype
    np.testing.assert_allclose(prepared.train.inputs, default().train.inputs, atol=1e-5)


def test_input_images_stay_as_they_were():
    images = make_images()
    default(images)
    np.testing.assert_array_equal(images.train.images, make_images().train.images)


@pytest.mark.parametrize(("num_train", "expected"), [(120, [30, 60, 30]), (12, [3, 6, 3]), (4, [1, 2, 1])])
def test_subsets_keep_the_class_proportions(num_train, expected):
    np.testing.assert_array_equal(np.bincount(default(num_train=num_train).train.labels), expected)


def test_subset_depends_on_the_seed_alone():
    first, again, other = default(num_train=30), default(num_train=30), default(num_train=30, seed=1)
    np.testing.assert_array_equal(first.train.inputs, again.train.inputs)
    np.testing.assert_array_equal(first.test.labels, again.test.labels)
    assert not np.array_equal(first.train.inputs, other.train.inputs)
    assert not np.array_equal(first.test.labels, other.test.labels)


def test_rows_are_not_sorted_by_class():
    assert np.any(np.diff(default().train.labels) < 0)
    assert np.any(np.diff(default().test.labels) < 0)


def test_num_test():
    assert len(default().test.labels) == 40
    assert len(default(num_test=15).test.labels) == 15
    labels = np.repeat(np.arange(3), 500)
    pixels = np.random.default_rng(0).integers(0, 17, (1500, 3, 2, 2), dtype=np.uint8)
    assert len(default(make_images(test=Split(pixels, labels))).test.labels) == 1000


def test_label_noise_permutes_training_labels_only():
    clean, noisy = default(), default(label_noise=0.5)
    np.testing.assert_array_equal(np.bincount(clean.train.labels), np.bincount(noisy.train.labels))
    changed = np.mean(clean.train.labels != noisy.train.labels)
    # Half of the labels move, to an equal one in 3 of 8 cases.
    assert 0.5 * 5 / 8 - 0.1 < changed < 0.5 * 5 / 8 + 0.1
    np.testing.assert_array_equal(noisy.train.targets.argmax(axis=1), noisy.train.labels)
    np.testing.assert_array_equal(clean.train.inputs, noisy.train.inputs)
    np.testing.assert_array_equal(clean.test.labels, noisy.test.labels)


def test_label_noise_follows_the_seed_and_its_size():
    labels = [default(label_noise=noise).train.labels for noise in (1.0, 1.0, 0.1, 0.0)]
    np.testing.assert_array_equal(labels[0], labels[1])
    changed = [np.sum(kept != labels[3]) for kept in labels]
    assert changed[0] > 50
    assert 0 < changed[2] <= 12


@pytest.mark.parametrize("label_noise", [-0.1, 1.1, float("nan")])
def test_label_noise_out_of_range(label_noise):
    with pytest.raises(DataError, match=f"label_noise is out of range: got {label_noise}, expected 0 to 1"):
        default(label_noise=label_noise)


def test_label_noise_of_one_label():
    with pytest.raises(
        DataError, match=r"label_noise is too small: got 0\.01 of 120 labels, expected at least 2"
    ):
        default(label_noise=0.01)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_train": 121}, "num_train is larger than the split of toys: got 121, expected at most 120"),
        ({"num_test": 41}, "num_test is larger than the split of toys: got 41, expected at most 40"),
        ({"num_train": 2}, "num_train is too small for toys with its 3 classes: got 2, expected at least 3"),
        ({"num_train": 0}, "num_train is too small"),
        ({"num_test": 0}, "num_test is too small for toys with its 3 classes: got 0, expected at least 1"),
        ({"seed": -1}, "seed is negative: got -1"),
    ],
)
def test_impossible_sizes(changes, message):
    with pytest.raises(DataError, match=message):
        default(**changes)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("part", "words"), [("train", "training"), ("test", "test")])
def test_broken_pixels_are_counted_and_located(part, words, value):
    images = with_pixels(part, [(5, 2, 1, 0), (9, 0, 0, 1)], value)
    message = rf"NaN or infinite in the {words} split of toys: got 2, the first at index \(5, 2, 1, 0\)"
    with pytest.raises(DataError, match=message):
        default(images)


def test_all_pixels_constant():
    with pytest.raises(DataError, match="all pixels are constant in the training subset of toys: got 12"):
        default(with_pixels("train", [...], 3.0))


def test_one_class_only():
    with pytest.raises(DataError, match="training data of toys has only one class: got 1 class"):
        default(with_train_labels(np.ones(120, int)))


def test_empty_class_is_named():
    with pytest.raises(DataError, match="classes of toys have no training point: got none of owl, expected"):
        default(with_train_labels(np.arange(120) % 2))


@pytest.mark.parametrize("wrong", [-1, 3])
def test_labels_out_of_range(wrong):
    labels = make_images().train.labels.copy()
    labels[4] = wrong
    with pytest.raises(
        DataError, match=f"labels out of range in the training split of toys: got {wrong} at index 4"
    ):
        default(with_train_labels(labels))


def test_contradicting_duplicates_by_hand():
    inputs = np.array([[1.0, 0.0], [2.0, 0.0], [1.0, -0.0], [2.0, 0.0], [1.0, 0.0], [3.0, 0.0]])
    assert contradicting_duplicates(inputs, np.array([0, 1, 2, 2, 0, 1])) == [(0, 2), (1, 3)]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 1)), max_size=12))
def test_contradicting_duplicates_are_found_whenever_there_are_any(rows):
    table = np.array(rows, dtype=float).reshape(-1, 3)
    inputs, labels = table[:, :2], table[:, 2].astype(int)
    found = contradicting_duplicates(inputs, labels)
    for i, j in found:
        assert i < j
        assert np.array_equal(inputs[i], inputs[j])
        assert labels[i] != labels[j]
    any_pair = any(
        np.array_equal(inputs[i], inputs[j]) and labels[i] != labels[j]
        for i in range(len(rows))
        for j in range(i)
    )
    assert bool(found) == any_pair
