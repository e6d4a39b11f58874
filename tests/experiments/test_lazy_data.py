"""The points of a seed: fitted, validation and test points apart, drawn by the seed, standardized alone."""

import numpy as np
import pytest

from experiments.support import data
from experiments.support.data.images import DataError
from experiments.support.lazy_data import draw
from tests.experiments.lazy_small import SIZES


@pytest.fixture(scope="module")
def images():
    return data.load("digits")


@pytest.fixture(scope="module")
def trial(images):
    return draw(images, **SIZES, seed=0)


def stored(dataset, statistics):
    """Pixels as they were stored, as a set of rows; those that are constant where it was fitted are 0."""
    pixels = 16 * (dataset.inputs * statistics.deviation + statistics.mean)
    pixels[:, statistics.constant] = 0
    return {tuple(row) for row in np.rint(pixels).astype(int)}


def without(rows, columns):
    """Rows with some columns set to 0."""
    return {tuple(np.where(columns, 0, row)) for row in rows}


def test_final_points_are_training_and_validation_points_together(trial, images):
    tuned, whole = trial.tuning, trial.final
    train, validation = (stored(part, tuned.statistics) for part in (tuned.train, tuned.test))
    together, test = (stored(part, whole.statistics) for part in (whole.train, whole.test))
    assert (len(train), len(validation), len(together), len(test)) == (40, 24, 40 + 24, 30)
    assert train | validation == without(together, tuned.statistics.constant)
    of_file = {tuple(row) for row in images.test.images.reshape(-1, 64).astype(int)}
    assert test <= without(of_file, whole.statistics.constant)


def test_pixels_are_standardized_by_the_points_that_are_fitted(trial):
    for prepared in (trial.tuning, trial.final):
        varying = ~prepared.statistics.constant
        inputs = prepared.train.inputs[:, varying]
        np.testing.assert_allclose(inputs.mean(axis=0), 0, atol=1e-12)
        np.testing.assert_allclose(inputs.std(axis=0), 1, rtol=1e-12)
        assert np.abs(prepared.test.inputs[:, varying].mean(axis=0)).max() > 0.1


def test_a_seed_draws_all_points(images, trial):
    again, other = (draw(images, **SIZES, seed=seed) for seed in (0, 1))
    assert again.sha256 == trial.sha256 != other.sha256
    np.testing.assert_array_equal(again.tuning.test.inputs, trial.tuning.test.inputs)
    for problem in ("tuning", "final"):
        first, second = (getattr(drawn, problem) for drawn in (trial, other))
        assert stored(first.train, first.statistics) != stored(second.train, second.statistics)
        assert stored(first.test, first.statistics) != stored(second.test, second.statistics)


def test_all_parts_are_stratified(trial):
    for part in (trial.tuning.train, trial.tuning.test, trial.final.train, trial.final.test):
        counts = np.bincount(part.labels, minlength=10)
        assert counts.max() - counts.min() <= 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_train": 9}, "--num-train is too small for digits with its 10 classes: got 9"),
        ({"num_validation": 5}, "--num-validation is too small for digits .* got 5, expected at least 10"),
        ({"num_train": 1290}, r"together larger than the training split of digits: got 1290 \+ 24, .* 1297"),
        ({"num_test": 501}, "num_test is larger than the split of digits: got 501"),
    ],
)
def test_counts_that_cannot_be_had_are_refused(images, changes, message):
    with pytest.raises(DataError, match=message):
        draw(images, **SIZES | changes, seed=0)
