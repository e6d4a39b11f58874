"""Merged and padded kernel machines equal plain ones; grids are searched and folds evaluated as published."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from dnc_jax import NTK, FitError, Laplace
from experiments.support import tabular_methods, tabular_peers
from experiments.support.tabular_data import Split, read_task
from experiments.support.tabular_kernels import (
    Fit,
    Score,
    Shape,
    fit_ridge,
    fit_ridges,
    grams,
    identity_root,
    pad,
    padded_shape,
    rung,
    scores,
    updated_root,
)
from experiments.support.tabular_methods import GRIDS, RIDGES, Session, run_method
from tests.experiments.tabular_files import write_task

TIGHT, WIDE = Shape(16, 16, 8, 4), Shape(32, 32, 16, 8)
LAPLACE = Laplace(10.0)


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """A task in whose tuning split two rows are equal, with different labels, and a third one is too."""
    read = read_task(write_task(tmp_path_factory.mktemp("uci"), "one"), standardize=True)
    train = read.tuning.train
    x, labels = read.x.copy(), read.labels.copy()
    x[train[1]] = x[train[0]]
    x[train[2]] = x[train[0]]
    labels[train[:3]] = [0, 1, 1]
    return replace(read, x=x, labels=labels)


def distances(x, z):
    return np.array([[np.sqrt(np.sum((a - b) ** 2)) for b in z] for a in x])


def oracle(x, targets, test_x, ridge):
    """Weights and predictions of the plain Laplace kernel on all rows, equal ones included."""
    gram = np.exp(-distances(x, x) / 10)
    weights = np.linalg.solve(gram + ridge * np.eye(len(x)), targets)
    return weights, np.exp(-distances(test_x, x) / 10) @ weights


def oracle_feature_matrix(x, weights):
    """The mean over rows of the sum over outputs of gradient outer products, center by center."""
    total = np.zeros((x.shape[1], x.shape[1]))
    for row in x:
        for column in weights.T:
            gradient = np.zeros(x.shape[1])
            for center, weight in zip(x, column, strict=True):
                distance = np.sqrt(np.sum((row - center) ** 2))
                if distance > 0:
                    gradient -= weight * np.exp(-distance / 10) / (10 * distance) * (row - center)
            total += np.outer(gradient, gradient)
    return total / len(x)


def split_arrays(task, unit=False):
    x = task.x / np.linalg.norm(task.x, axis=1, keepdims=True) if unit else task.x
    targets = np.eye(task.num_classes)[task.labels]
    return x[task.tuning.train], targets[task.tuning.train], x[task.tuning.test]


@pytest.mark.parametrize("shape", [TIGHT, WIDE])
@pytest.mark.parametrize("unit", [False, True])
def test_one_eigendecomposition_equals_a_solve_per_ridge_on_all_rows(task, shape, unit):
    padded = pad(task, task.tuning, shape, unit=unit)
    fit = fit_ridges(grams(LAPLACE, padded, identity_root(shape.columns)), padded, jnp.asarray(RIDGES))
    for number, ridge in enumerate(RIDGES):
        _, predictions = oracle(*split_arrays(task, unit), ridge)
        np.testing.assert_allclose(fit.predictions[number, :12, :3], predictions, rtol=0, atol=1e-11)


@pytest.mark.parametrize("shape", [TIGHT, WIDE])
def test_an_update_on_padded_rows_equals_the_agop_of_all_rows(task, shape):
    padded = pad(task, task.tuning, shape, unit=False)
    root = identity_root(shape.columns)
    matrices = grams(LAPLACE, padded, root)
    fit = fit_ridge(matrices, padded, jnp.asarray([0.1]))
    learned, is_usable = updated_root(LAPLACE, matrices.rooted, fit.weights[0], padded.counts, root)
    x, targets, test_x = split_arrays(task)
    weights, predictions = oracle(x, targets, test_x, 0.1)
    expected = oracle_feature_matrix(x, weights)
    assert is_usable
    np.testing.assert_allclose(fit.predictions[0, :12, :3], predictions, rtol=0, atol=1e-12)
    np.testing.assert_allclose((learned @ learned)[:3, :3], expected, rtol=1e-9, atol=1e-14)
    assert not np.any(np.asarray(learned)[3:])
    # The next machine lives on x M^(1/2).
    values, vectors = np.linalg.eigh(expected)
    sqrt = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    again = fit_ridge(grams(LAPLACE, padded, learned), padded, jnp.asarray([0.1]))
    expected_again = oracle(x @ sqrt, targets, test_x @ sqrt, 0.1)[1]
    np.testing.assert_allclose(again.predictions[0, :12, :3], expected_again, rtol=0, atol=1e-9)


@pytest.mark.parametrize("shape", [TIGHT, WIDE])
def test_padding_leaves_weights_of_exactly_zero(task, shape):
    padded = pad(task, task.tuning, shape, unit=False)
    fit = fit_ridge(grams(LAPLACE, padded, identity_root(shape.columns)), padded, jnp.asarray([0.1]))
    assert np.sum(np.asarray(padded.counts) > 0) == 10  # 12 rows, three of them equal
    assert not np.any(np.asarray(fit.weights)[0, 10:])
    assert not np.any(np.asarray(fit.predictions)[0, :, 3:])


def test_added_columns_do_not_change_the_tangent_kernel(task):
    view = Session(task).tuning[False]
    matrices = grams(NTK(2), view.padded, tabular_methods._ntk_root(view))
    distinct = np.unique(task.x[task.tuning.train], axis=0)
    expected = NTK(2)(jnp.asarray(task.x[task.tuning.test]), jnp.asarray(distinct))
    np.testing.assert_allclose(matrices.cross[:12, :10], expected, rtol=1e-12)


def test_folds_and_tasks_of_near_sizes_share_their_programs(task, tmp_path):
    other = read_task(write_task(tmp_path, "other", num_rows=30, num_classes=4, seed=3), standardize=True)
    session = Session(task)
    run_method("laplace", session)
    run_method("rfm", session)
    programs = [grams, fit_ridges, fit_ridge, updated_root]
    before = [program._cache_size() for program in programs]
    for near in (Session(replace(task, evaluation=task.evaluation[::-1])), Session(other)):
        run_method("laplace", near)
        run_method("rfm", near)
    assert [program._cache_size() for program in programs] == before


def test_the_ladder_of_sizes():
    assert [rung(size, fine=True) for size in (0, 1, 8, 9, 500, 513, 1024, 1025, 3750)] == [
        *(8, 8, 8, 16, 512, 576, 1024, 1152, 3840)
    ]
    assert [rung(size, fine=False) for size in (1, 33, 600)] == [8, 64, 1024]
    for size in range(513, 4000):
        assert size <= rung(size, fine=True) < 1.125 * size


def test_large_tasks_are_padded_by_their_distinct_rows(task):
    rows = np.arange(2000)
    x = np.repeat(task.x[:20], 100, axis=0)
    halves = Split(rows[:1000], rows[1000:])
    large = replace(task, x=x, labels=np.arange(2000) % 3, tuning=halves, evaluation=(halves,))
    assert padded_shape(large, [halves]) == Shape(16, 1024, 8, 4)
    assert padded_shape(task, [task.tuning]) == padded_shape(task, task.evaluation) == Shape(32, 32, 8, 4)


def test_scores_put_accuracy_first_and_the_squared_error_second():
    predictions = np.array([[[0.5, 0.25], [0.0, 1.0]], [[1.0, 0.0], [0.0, 0.5]], [[1.0, 0.0], [1.0, 0.0]]])
    fit = Fit(jnp.zeros((3, 1, 2)), jnp.asarray(predictions))
    found = scores(fit, np.array([0, 1]), 2, "here")
    assert found == [Score(1.0, -0.3125 / 2), Score(1.0, -0.125), Score(0.5, -1.0)]
    assert max(found) == found[1]


def test_equal_predictions_go_to_the_first_class():
    predictions = np.array([[[0.3, 0.3 + 1e-13, 0.0, 9.0], [0.1, 0.4, 0.4 - 1e-13, 9.0], [0.0] * 4]])
    fit = Fit(jnp.zeros((1, 1, 4)), jnp.asarray(predictions))
    assert scores(fit, np.array([0, 1]), 3, "here")[0].accuracy == 1.0
    assert scores(fit, np.array([1, 1]), 3, "here")[0].accuracy == 0.5


def test_predictions_that_are_not_finite_name_the_fit():
    fit = Fit(jnp.zeros((1, 1, 2)), jnp.asarray([[[jnp.nan, 0.0]]]))
    with pytest.raises(FitError, match=r"fit of fold 2 of one has no finite predictions"):
        scores(fit, np.array([0]), 2, "fold 2 of one")


def test_rfm_chooses_the_best_point_of_its_grid(task):
    session = Session(task)
    choice = tabular_methods.tune_rfm(session)
    found = {}
    for unit in (False, True):
        x, targets, test_x = split_arrays(task, unit)
        test_labels = task.labels[task.tuning.test]
        for ridge in RIDGES:
            points, root = x, np.eye(3)
            for iteration in range(5):
                weights, predictions = oracle(x @ root, targets, test_x @ root, ridge)
                accuracy = np.mean(predictions.round(9).argmax(axis=1) == test_labels)
                error = np.mean(np.sum((predictions - np.eye(3)[test_labels]) ** 2, axis=1))
                found[unit, iteration, ridge] = accuracy, -error
                points = x @ root
                values, vectors = np.linalg.eigh(root @ oracle_feature_matrix(points, weights) @ root)
                root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    best = max(found, key=lambda point: found[point])
    assert sum(accuracy == found[best][0] for accuracy, _ in found.values()) > 1
    assert choice.tuning == pytest.approx(found[best])
    assert tuple(choice.values.values()) == best


def test_the_published_way_keeps_the_feature_matrix_of_the_tuning_split(task):
    kept, relearned = Session(task, "of_tuning_split"), Session(task, "of_each_fold")
    root = tabular_methods.tune_rfm(kept).root
    choice = tabular_methods.Choice(
        {"unit_rows": False, "iteration": 2, "ridge": 0.1}, Score(1.0, 0.0), 5 * root
    )
    (view, *_) = relearned.folds(False)
    moved = choice._replace(root=identity_root(8))
    evaluate = tabular_methods.evaluate_rfm
    assert evaluate(relearned, choice, view) == evaluate(relearned, moved, view)
    plain = tabular_methods.evaluate_laplace(kept, moved, view)
    assert evaluate(kept, moved, view) == plain
    calls = []
    original = tabular_methods._fit_one

    def spy(kernel, view, used, ridge):
        calls.append(used)
        return original(kernel, view, used, ridge)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tabular_methods, "_fit_one", spy)
        evaluate(kept, choice, view)
        assert [used is choice.root for used in calls] == [True]
        evaluate(relearned, choice, view)
        assert len(calls) == 4


def test_a_constant_predictor_ends_its_iterations(task):
    blank = replace(task, x=np.zeros_like(task.x))
    assert tabular_methods.tune_rfm(Session(blank)).values["iteration"] == 0
    choice = tabular_methods.Choice({"unit_rows": False, "iteration": 1, "ridge": 0.1}, Score(1.0, 0.0))
    session = Session(blank)
    with pytest.raises(FitError, match="AGOP of iteration 1 on fold 1 of one is 0"):
        tabular_methods.evaluate_rfm(session, choice, next(session.folds(False)))


@pytest.mark.parametrize("name", ["laplace", "ntk", "svm", "gradient_boosting", "random_forest"])
def test_every_method_is_tuned_within_its_grid_and_scored_on_every_fold(task, name, monkeypatch):
    monkeypatch.setattr(tabular_peers, "NUM_TREES", 5)
    monkeypatch.setattr(tabular_peers, "MAX_ROUNDS", 3)
    result = run_method(name, Session(task))
    assert set(result.values) == set(GRIDS[name])
    assert all(value in GRIDS[name][key] for key, value in result.values.items())
    assert len(result.test_accuracies) == 4
    assert min(*result.test_accuracies, result.tuning_accuracy) >= 0
    assert result == run_method(name, Session(task))


def test_the_rounds_of_boosting_are_cut_for_many_classes_only():
    assert [tabular_peers.boosting_rounds(k) for k in (2, 20, 100)] == [100, 100, 20]
