"""The best of the iterates of a recursive feature machine on held-out points, and their history."""

from itertools import islice

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnc_jax import (
    Laplace,
    NumericalError,
    by_max,
    mean_squared_error,
    misclassification,
    rfm_iterates,
    select_rfm,
)

N, D = 40, 5


def problem(num_rows=N, seed=0):
    x = np.random.default_rng(seed).normal(size=(num_rows, D))
    return jnp.asarray(x), jnp.asarray(np.stack([x[:, 0] * x[:, 1], np.sin(x[:, 2])], axis=1))


def test_the_best_iterate_is_that_of_the_lowest_held_out_error():
    (x, targets), held_out = problem(), problem(30, seed=1)
    options = {"ridge": 1e-3, "power": 2.0, "rescale": by_max}
    machines = list(islice(rfm_iterates(Laplace(3.0), x, targets, **options), 5))
    errors = [float(mean_squared_error(m(held_out[0]), held_out[1])) for m in machines]
    iterates = rfm_iterates(Laplace(3.0), x, targets, **options)
    best, history = select_rfm(iterates, (x, targets), num_iters=4, validation=held_out)
    np.testing.assert_allclose(history.validation_errors, errors, rtol=1e-12)
    assert history.best == int(np.argmin(errors))
    np.testing.assert_array_equal(best.machine.weights, machines[history.best].machine.weights)
    np.testing.assert_allclose(history.feature_matrices, [m.feature_matrix for m in machines], rtol=1e-12)
    true = [np.linalg.eigvalsh(m.feature_matrix)[::-1] for m in machines]
    np.testing.assert_allclose(history.spectra, true, rtol=1e-7, atol=1e-9)


def test_patience_ends_a_fit_and_keeps_the_best():
    (x, targets), held_out = problem(), problem(30, seed=1)
    # The machines come from a list, so that the errors are known: they fall once, then rise.
    machines = list(islice(rfm_iterates(Laplace(3.0), x, targets, ridge=1e-3), 4))
    order = sorted(machines, key=lambda m: float(mean_squared_error(m(held_out[0]), held_out[1])))
    series = [order[1], order[0], order[2], order[3], order[3]]
    best, history = select_rfm(series, (x, targets), num_iters=4, validation=held_out, patience=2)
    assert history.best == 1
    assert best is order[0]
    assert history.train_errors.shape == (4,)
    last, history = select_rfm(series, (x, targets), num_iters=4)
    assert last is order[3]
    assert history.best == 4
    assert history.validation_errors is None


def test_misclassification_is_of_the_largest_output_or_of_the_sign():
    predictions = jnp.asarray([[0.2, 0.1], [0.1, 0.3], [0.5, 0.4]])
    assert float(misclassification(predictions, jnp.asarray([[1.0, -1], [1, -1], [-1, 1]]))) == 2 / 3
    signs = jnp.asarray([[1.0], [-1], [1]])
    assert float(misclassification(jnp.asarray([[0.1], [0.2], [3.0]]), signs)) == 1 / 3


@pytest.mark.parametrize("num_rows", [3, 49, 1861])
def test_all_wrong_is_exactly_one(num_rows):
    ones = jnp.ones((num_rows, 1))
    assert float(jax.jit(misclassification)(ones, -ones)) == 1
    assert float(jax.jit(misclassification)(ones, ones)) == 0


def test_an_error_that_is_not_finite_is_told():
    x, targets = problem()
    machines = rfm_iterates(Laplace(3.0), x, targets, ridge=1e-2)
    with pytest.raises(NumericalError, match=r"the training error of iteration 0 must be finite: got nan"):
        select_rfm(machines, (x, targets), num_iters=1, error=lambda a, _: jnp.sum(a) * jnp.nan)


def test_what_no_selection_can_use_is_refused():
    x, targets = problem()
    machines = rfm_iterates(Laplace(3.0), x, targets, ridge=1e-2)
    with pytest.raises(ValueError, match=r"patience must be at least 1 update and needs validation points"):
        select_rfm(machines, (x, targets), num_iters=2, patience=1)
    with pytest.raises(ValueError, match=r"validation points must be finite: got 1 NaN"):
        select_rfm(machines, (x, targets), num_iters=2, validation=(x.at[0, 0].set(jnp.nan), targets))
