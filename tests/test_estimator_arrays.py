"""Estimators become arrays and come back: the same predictions, the same refit, and no pickle."""

import json

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from dnc_jax import NTK, Gaussian
from dnc_jax.estimators import DeepRFMClassifier, RFMClassifier, RFMRegressor
from dnc_jax.types import pytree
from tests.builders import as_a_user

N, D = 40, 5
CASES = {
    "regressor": RFMRegressor(num_iters=1),
    "diagonal": RFMRegressor(num_iters=1, diagonal=True, scaling="standard", rescale="trace"),
    "kernel object": RFMRegressor(Gaussian(3.0), num_iters=1, scaling="unit_rows"),
    "classifier": RFMClassifier(NTK(2), num_iters=1),
    "early stopping": RFMClassifier(num_iters=2, validation_fraction=0.25, random_state=0),
    "numpy options": RFMClassifier(num_iters=1, bandwidth=np.float64(5.0)),
    "deep": DeepRFMClassifier(depth=2, width=8, random_state=0),
    "deep, twice": DeepRFMClassifier("polynomial", depth=2, width=8, num_iters=2, random_state=0),
    "fourier": DeepRFMClassifier(
        depth=2, width=8, features="laplace_fourier", feature_bandwidth=1.0, random_state=0
    ),
}


def problem(estimator, dtype=np.float64):
    x = np.random.default_rng(0).normal(size=(N, D))
    labels = np.where(x[:, 0] > 0, "plus", "minus")
    return x.astype(dtype), x[:, 0] * x[:, 1] if isinstance(estimator, RFMRegressor) else labels


def outputs(model, x):
    return model.predict(x) if isinstance(model, RFMRegressor) else model.decision_function(x)


@pytest.mark.parametrize("name", CASES)
def test_a_file_of_arrays_gives_the_same_estimator(name, tmp_path):
    x, y = problem(CASES[name])
    model = CASES[name].fit(x, y)
    np.savez(tmp_path / "model.npz", **model.to_arrays())
    with np.load(tmp_path / "model.npz", allow_pickle=False) as arrays:
        loaded = type(model).from_arrays(arrays)
    np.testing.assert_array_equal(outputs(loaded, x), outputs(model, x))
    np.testing.assert_array_equal(loaded.predict(x), model.predict(x))
    np.testing.assert_array_equal(loaded.transform(x), model.transform(x))
    np.testing.assert_array_equal(loaded.feature_importances_, model.feature_importances_)
    assert str(loaded.get_params()) == str(model.get_params()).replace("np.float64(5.0)", "5.0")
    np.testing.assert_array_equal(outputs(loaded.fit(x, y), x), outputs(model.fit(x, y), x))


def test_the_dtype_survives():
    model = RFMRegressor(Gaussian(3.0), num_iters=1)
    x, y = problem(model, np.float32)
    loaded = RFMRegressor.from_arrays(model.fit(x, y).to_arrays())
    np.testing.assert_array_equal(loaded.predict(x), model.predict(x))
    assert loaded.predict(x).dtype == np.float32
    assert loaded.fit(x, y).predict(x).dtype == np.float32


def test_names_of_columns_and_labels_of_frames_survive():
    model = RFMClassifier(num_iters=1)
    x, labels = problem(model)
    frame = pd.DataFrame(x, columns=list("abcde"))
    loaded = RFMClassifier.from_arrays(model.fit(frame, pd.Series(labels, dtype=object)).to_arrays())
    assert loaded.feature_names_in_.dtype == object
    np.testing.assert_array_equal(loaded.predict(frame), model.predict(frame))


def test_arrays_are_numbers_and_strings():
    model = RFMClassifier(num_iters=1)
    arrays = model.fit(*problem(model)).to_arrays()
    assert {array.dtype.kind for array in arrays.values()} <= set("biufU")
    assert json.loads(arrays["options"].item())["bandwidth"] == 10.0


@pytree
class Twice:
    """A kernel of a user."""

    def __call__(self, x, z):
        return 2 * jnp.exp(-jnp.abs(x[:, None] - z[None]).sum(axis=-1))


def test_what_is_no_array_is_refused():
    model = RFMRegressor(Gaussian(3.0), num_iters=0, random_state=np.random.RandomState(0))
    x, y = problem(model)
    with as_a_user():
        with pytest.raises(TypeError, match=r"options must be numbers, names or None .*RandomState"):
            model.fit(x, y).to_arrays()
        with pytest.raises(TypeError, match=r"options.kernel cannot become an array of numbers or strings"):
            RFMRegressor(Twice(), num_iters=0).fit(x, y).to_arrays()
        arrays = RFMRegressor(num_iters=0).fit(x, y).to_arrays()
        with pytest.raises(
            ValueError, match=r"those of RFMClassifier.to_arrays, format 1: got an estimator RFMR"
        ):
            RFMClassifier.from_arrays(arrays)
        with pytest.raises(ValueError, match=r"got an estimator None of format None"):
            RFMRegressor.from_arrays({})


def damaged(change):
    model = RFMClassifier(num_iters=1)
    x, labels = problem(model)
    arrays = model.fit(x, labels).to_arrays()
    change(arrays)
    with as_a_user(), pytest.raises(ValueError, match=r"arrays must be whole, as RFMClassifier.to_arrays"):
        RFMClassifier.from_arrays(arrays)


@pytest.mark.parametrize(
    "name",
    [
        *("options", "options.kernel", "rfm_.class", "rfm_.machine.weights"),
        *("classes_", "scaler_.class", "n_features_in_"),
    ],
)
def test_a_missing_array_is_told(name):
    damaged(lambda arrays: arrays.pop(name))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("options", np.asarray("{")),
        ("options", np.asarray('{"no_option": 1}')),
        ("rfm_.class", np.asarray("Evil")),
        ("rfm_.machine.weights", np.zeros((3, 2))),
        ("rfm_.machine.weights", np.full((N, 2), np.nan)),
        ("classes_", np.asarray(["minus"])),
        ("predict_", np.asarray(1)),
        ("__class__", np.asarray(1)),
    ],
)
def test_a_damaged_or_foreign_array_is_told(name, value):
    damaged(lambda arrays: arrays.update({name: value}))
