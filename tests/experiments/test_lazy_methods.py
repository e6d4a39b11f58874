"""Every method is tuned to the best point of its grid, by slow oracles, and refitted with what was chosen."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnc_jax import relu_features
from experiments.support import data, lazy_grids, lazy_methods
from experiments.support.lazy_data import draw
from experiments.support.lazy_grids import GRIDS, Choice, best, points_of
from experiments.support.tabular_kernels import Score
from tests import oracles
from tests.experiments.lazy_small import SIZES, small_grids


@pytest.fixture(scope="module", autouse=True)
def grids():
    with small_grids():
        yield


@pytest.fixture(scope="module")
def images():
    return data.load("digits")


@pytest.fixture(scope="module")
def trial(images):
    return draw(images, **SIZES, seed=0)


def scaled(prepared, unit):
    """Training and validation rows, with norm sqrt(d) if unit."""
    parts = [np.asarray(part.inputs) for part in (prepared.train, prepared.test)]
    return [np.sqrt(x.shape[1]) * oracles.unit_rows(x) if unit else x for x in parts]


def median_distance(x):
    squared = oracles.squared_distances(x, x)
    return np.median(np.sqrt(squared[squared > 0]))


def score_of(predictions, prepared):
    """Accuracy, and minus the mean squared distance from targets of -1 and +1, point by point."""
    correct, errors = [], []
    for row, label in zip(predictions, prepared.test.labels, strict=True):
        target = [1.0 if k == label else -1.0 for k in range(prepared.num_classes)]
        correct.append(np.argmax(row) == label)
        errors.append(sum((a - b) ** 2 for a, b in zip(row, target, strict=True)))
    return np.mean(correct), -np.mean(errors)


def assert_same(found, expected, rel=1e-7):
    """Every point of the grid has the score of the oracle, and the chosen one is the oracle's best."""
    assert len(found) == len(expected)
    for choice, (values, score) in zip(found, expected, strict=True):
        assert choice.values == values
        assert choice.score == pytest.approx(score, rel=rel)
    values, _ = max(expected, key=lambda pair: (pair[1][0], round(pair[1][1], 6)))
    assert best(found).values == values


def test_laplace_chooses_the_best_point_of_its_grid(trial):
    prepared, expected = trial.tuning, []
    for values in points_of(GRIDS["laplace"]):
        x, z = scaled(prepared, values["unit_rows"])
        bandwidth = values["bandwidth"] * median_distance(x)
        gram = oracles.laplace_gram(x, x, bandwidth)
        weights = oracles.ridge_weights(gram, prepared.train.targets, values["ridge"])
        expected.append((values, score_of(oracles.laplace_gram(z, x, bandwidth) @ weights, prepared)))
    assert len(expected) == 2 * 3 * 4
    assert_same(list(lazy_methods.plain_choices("laplace", prepared, 0)), expected)


def test_rfm_chooses_the_best_point_of_its_grid(trial):
    prepared, expected = trial.tuning, []
    for values in points_of(GRIDS["rfm"], "iteration"):
        x, z = scaled(prepared, values["unit_rows"])
        root = np.eye(x.shape[1])
        for iteration in GRIDS["rfm"]["iteration"]:
            u = x @ root
            bandwidth = values["bandwidth"] * median_distance(u)
            gram = oracles.laplace_gram(u, u, bandwidth)
            weights = oracles.ridge_weights(gram, prepared.train.targets, values["ridge"])
            predictions = oracles.laplace_gram(z @ root, u, bandwidth) @ weights
            expected.append((values | {"iteration": iteration}, score_of(predictions, prepared)))
            slope = oracles.laplace_radial_derivative
            root = oracles.root_of_agop(oracles.gradients(u, u, weights, slope, bandwidth) @ root)
    assert len({score for _, score in expected}) > 2 * 2 * 3 / 2
    assert_same(list(lazy_methods.rfm_choices(prepared, 0)), expected)


def test_deep_rfm_chooses_the_best_point_of_its_grid(trial):
    prepared, expected, seed = trial.tuning, [], 3
    targets = prepared.train.targets
    for values in points_of(GRIDS["deep_rfm"], "depth"):
        x, z = prepared.train.inputs, prepared.test.inputs
        for depth in GRIDS["deep_rfm"]["depth"]:
            key = jax.random.fold_in(jax.random.key(seed), depth - 1)
            relu = np.asarray(relu_features(key, x.shape[1], 32).weights)
            layer = oracles.deep_rfm_layer(x, targets, relu, bandwidth=2.0, ridge=values["ridge"])
            gram = oracles.laplace_gram(layer.input, layer.input, 2.0)
            weights = oracles.ridge_weights(gram, targets, values["ridge"])
            unit = oracles.unit_rows(z)
            predictions = oracles.laplace_gram(unit, layer.input, 2.0) @ weights
            expected.append((values | {"depth": depth}, score_of(predictions, prepared)))
            root = oracles.psd_power(layer.feature_matrix, 0.5)
            x, z = layer.nonlinear, np.maximum(unit @ root @ relu, 0)
    assert_same(list(lazy_methods.deep_rfm_choices(prepared, seed)), expected, rel=1e-5)


@pytest.mark.parametrize("unit", [False, True])
def test_kernels_are_what_the_grid_says(trial, unit):
    x, z = scaled(trial.tuning, unit)
    rows = lazy_methods.rows_of(trial.tuning, unit)
    np.testing.assert_allclose(rows.x, x, rtol=1e-12)
    np.testing.assert_allclose(rows.test_x, z, rtol=1e-12)
    assert set(np.unique(rows.targets)) == {-1.0, 1.0}
    polynomial = lazy_methods.kernel_of("polynomial", {"degree": 3}, rows.x)
    np.testing.assert_allclose(polynomial(rows.test_x, rows.x), (z @ x.T / 64 + 1) ** 3, rtol=1e-9)
    gaussian = lazy_methods.kernel_of("gaussian", {"bandwidth": 0.5}, rows.x)
    expected = oracles.gaussian_gram(z, x, 0.5 * median_distance(x))
    np.testing.assert_allclose(gaussian(rows.test_x, rows.x), expected, rtol=1e-9)
    tangent = lazy_methods.kernel_of("ntk", {"depth": 1}, rows.x)(rows.test_x, rows.x)
    norms = np.outer(np.linalg.norm(z, axis=1), np.linalg.norm(x, axis=1))
    cosine = np.clip(z @ x.T / norms, -1, 1)
    angle = np.arccos(cosine)
    arc = (np.sin(angle) + 2 * (np.pi - angle) * cosine) / np.pi
    np.testing.assert_allclose(tangent, norms / 64 * arc, rtol=1e-6)


@pytest.mark.parametrize("name", GRIDS)
def test_what_is_tuned_is_what_is_refitted(trial, name):
    choices, evaluate = lazy_methods.METHODS[name]
    found = list(choices(trial.tuning, 0))
    assert [choice.values for choice in found] == list(points_of(GRIDS[name]))
    for choice in found:
        assert evaluate(choice.values, trial.tuning, 0) == pytest.approx(choice.score, rel=1e-6)


OTHER = {"unit_rows": False, "degree": 3, "bandwidth": 0.5, "ridge": 1.0, "iteration": 1}


@pytest.mark.parametrize(
    ("name", "option"),
    [(name, option) for name, grid in GRIDS.items() for option in grid if name != "linear_svm"],
)
def test_every_option_of_a_grid_changes_the_score(trial, name, option):
    values = {key: of_key[-1] for key, of_key in GRIDS[name].items()}
    other = values | {option: 3 - values["depth"] if option == "depth" else OTHER[option]}
    _, evaluate = lazy_methods.METHODS[name]
    scores = [evaluate(point, trial.tuning, 0) for point in (values, other)]
    assert scores[0] != pytest.approx(scores[1], rel=1e-6)


def test_the_linear_svm_follows_c(images):
    prepared = draw(images, num_train=40, num_validation=200, num_test=30, seed=0).tuning
    scores = {lazy_methods.evaluate_linear_svm({"C": c}, prepared, 0).accuracy for c in (1e-6, 1.0)}
    assert len(scores) == 2


def test_random_features_follow_the_seed(trial):
    values = {"ridge": 0.1, "depth": 2}
    scores = [lazy_methods.evaluate_deep_rfm(values, trial.tuning, seed) for seed in (0, 1, 0)]
    assert scores[0] == scores[2] != scores[1]


def test_a_method_is_refitted_on_training_and_validation_points_and_tested_once(trial, monkeypatch):
    calls = []

    def choices(prepared, seed):
        calls.append(("tuned", prepared, seed))
        yield Choice({"a": 1}, Score(0.5, -1.0))
        yield Choice({"a": 2}, Score(0.7, -3.0))
        yield Choice({"a": 3}, Score(0.7, -2.0))
        yield Choice({"a": 4}, Score(0.7, -2.0))

    def evaluate(values, prepared, seed):
        calls.append((values, prepared, seed))
        return Score(0.6, -1.0)

    monkeypatch.setitem(lazy_methods.METHODS, "laplace", (choices, evaluate))
    assert lazy_methods.run_method("laplace", trial) == lazy_methods.Result({"a": 3}, 0.7, 0.6)
    assert [call[0] for call in calls] == ["tuned", {"a": 3}]
    assert calls[0][1] is trial.tuning
    assert calls[1][1] is trial.final


def test_test_labels_choose_nothing(trial):
    shuffled = dataclasses.replace(trial.final.test, labels=trial.final.test.labels[::-1])
    other = trial._replace(final=dataclasses.replace(trial.final, test=shuffled))
    first, second = (lazy_methods.run_method("laplace", t) for t in (trial, other))
    assert first.values == second.values
    assert first.validation_accuracy == second.validation_accuracy
    assert first.test_accuracy != second.test_accuracy


def test_single_precision_is_kept(images):
    jax.config.update("jax_enable_x64", False)
    single = draw(images, **SIZES, seed=0, dtype=np.float32)
    rows = lazy_methods.rows_of(single.tuning, True)
    assert {array.dtype for array in rows} == {jnp.dtype("float32")}
    assert lazy_methods.run_method("laplace", single).test_accuracy > 0.5


def test_the_number_of_fits_counts_shared_ridges_once():
    assert lazy_grids.num_fits("laplace") == 2 * 3
    assert lazy_grids.num_fits("rfm") == 2 * 1 * 2 * 3
