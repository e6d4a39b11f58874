from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnc_jax import FitError, Gaussian, KernelMachine, Laplace, fit_kernel_machine, kernel_machine_core
from dnc_jax.solvers import eigh_solve
from tests import oracles
from tests.builders import as_a_user, assert_close, class_clouds, one_hot_targets
from tests.instances import DTYPES, KERNELS


def problem(dtype=np.float64, num_points=24):
    x, labels = class_clouds([num_points // 3] * 3, 4, spread=1.0)
    return x.astype(dtype), one_hot_targets(labels, 3).astype(dtype)


@pytest.mark.parametrize("case", KERNELS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ridge", [1e-1, 1e-3])
def test_weights_and_predictions_are_the_oracles(case, dtype, ridge):
    x, targets = problem(dtype)
    machine = fit_kernel_machine(case.kernel, jnp.asarray(x), jnp.asarray(targets), ridge=ridge)
    true = oracles.ridge_weights(case.gram(x, x), targets, ridge)
    assert_close(machine.weights, true, dtype, "solve")
    new = np.random.default_rng(5).normal(size=(10, 4)).astype(dtype)
    assert_close(machine(jnp.asarray(new)), case.gram(new, x) @ true, dtype, "solve")


@pytest.mark.parametrize("case", KERNELS)
def test_ridge_zero_interpolates_and_a_ridge_does_not(case):
    x, targets = map(jnp.asarray, problem())
    interpolating = fit_kernel_machine(case.kernel, x, targets, ridge=0.0)
    np.testing.assert_allclose(interpolating(x), targets, atol=1e-10)
    shrunk = fit_kernel_machine(case.kernel, x, targets, ridge=1.0)
    assert np.max(np.abs(shrunk(x) - targets)) > 0.1


def test_ridge_is_added_as_it_is_whatever_the_number_of_points():
    x = jnp.asarray([[0.0], [100.0], [200.0]])
    machine = fit_kernel_machine(Gaussian(1.0), x, jnp.ones((3, 1)), ridge=1.0)
    np.testing.assert_allclose(machine.weights, 0.5 * np.ones((3, 1)))


def test_the_solver_that_is_given_is_used():
    x, targets = map(jnp.asarray, problem())

    def doubling(a, targets):
        solution = eigh_solve(a, targets)
        return solution._replace(weights=solution.weights * (1 + 1e-7))

    fit = partial(fit_kernel_machine, Laplace(2.0), x, targets, ridge=1e-2)
    np.testing.assert_allclose(fit(solver=eigh_solve).weights, fit().weights, rtol=1e-10)
    np.testing.assert_allclose(fit(solver=doubling).weights, (1 + 1e-7) * fit().weights, rtol=1e-10)


@pytest.mark.parametrize("dtype", DTYPES)
def test_contradicting_duplicates_with_ridge_zero_raise_with_all_that_is_needed(dtype):
    x, targets = problem(dtype)
    x[1], targets[1] = x[0], -targets[0]
    with pytest.raises(FitError, match=r"n = 24") as caught:
        fit_kernel_machine(Laplace(2.0), jnp.asarray(x), jnp.asarray(targets), ridge=0.0)
    message = str(caught.value)
    for part in ("ridge = 0", dtype.name, "condition number", "raise the ridge"):
        assert part in message
    machine = fit_kernel_machine(Laplace(2.0), jnp.asarray(x), jnp.asarray(targets), ridge=1e-2)
    assert np.all(np.isfinite(machine.weights))


def test_fit_error_is_a_numerical_not_a_value_error():
    assert issubclass(FitError, ArithmeticError)
    assert not issubclass(FitError, ValueError)


@pytest.mark.parametrize("ridge", [-1e-3, float("nan"), float("inf")])
def test_a_ridge_out_of_range_is_refused(ridge):
    with pytest.raises(ValueError, match=r"ridge must be a finite number of at least 0: got"):
        fit_kernel_machine(Laplace(2.0), *map(jnp.asarray, problem()), ridge=ridge)


def test_a_bandwidth_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"bandwidth must be a positive finite number: got -2"):
        fit_kernel_machine(Laplace(-2.0), *map(jnp.asarray, problem()), ridge=1e-3)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_named_with_their_place(bad):
    for name, place in (("x", 0), ("targets", 1)):
        arrays = [a.copy() for a in problem()]
        arrays[place][7, 1] = bad
        arrays[place][9, 0] = bad
        with pytest.raises(
            ValueError, match=rf"{name} must be finite: got 2 .* in 2 rows, the first in row 7"
        ):
            fit_kernel_machine(Laplace(2.0), *map(jnp.asarray, arrays), ridge=1e-3)


def test_arguments_that_do_not_fit_together_are_refused():
    x, targets = map(jnp.asarray, problem())

    def refused(match, x, targets):
        with as_a_user(), pytest.raises(ValueError, match=match):
            fit_kernel_machine(Laplace(2.0), x, targets, ridge=1e-3)

    refused(r"same number of rows, at least 1: got 24 and 20", x, targets[:20])
    refused(r"same number of rows, at least 1: got 0 and 0", x[:0], targets[:0])
    refused(r"share one floating dtype: got float64 and float32", x, targets.astype(jnp.float32))
    refused(r"share one floating dtype: got int64 and int64", x.astype(int), targets.astype(int))
    refused(r"must be matrices .* for one output pass targets\[:, None\]", x, targets[:, 0])
    refused(r"targets must not all be 0", x, jnp.zeros_like(targets))


def test_machine_is_a_pytree_that_survives_a_round_trip():
    machine = fit_kernel_machine(Laplace(2.0), *map(jnp.asarray, problem()), ridge=1e-3)
    leaves, treedef = jax.tree.flatten(machine)
    rebuilt = jax.tree.unflatten(treedef, leaves)
    assert isinstance(rebuilt, KernelMachine)
    assert rebuilt.kernel == machine.kernel
    np.testing.assert_array_equal(rebuilt(machine.centers), machine(machine.centers))
    np.testing.assert_allclose(jax.jit(lambda m, x: m(x))(machine, machine.centers), machine(machine.centers))


def test_core_runs_under_jit_and_vmap_and_is_differentiable_in_the_ridge():
    x, targets = map(jnp.asarray, problem())
    ridges = jnp.array([1e-3, 1e-1])

    def weights(ridge):
        return kernel_machine_core(Laplace(2.0), x, targets, ridge)[0].weights

    batched = jax.jit(jax.vmap(weights))(ridges)
    for ridge, got in zip(ridges, batched, strict=True):
        fitted = fit_kernel_machine(Laplace(2.0), x, targets, ridge=float(ridge))
        np.testing.assert_allclose(got, fitted.weights, rtol=1e-9)
    step = 1e-6
    slope = jax.jit(jax.jacfwd(weights))(0.1)
    np.testing.assert_allclose(slope, (weights(0.1 + step) - weights(0.1 - step)) / (2 * step), rtol=1e-5)


def test_diagnostics_tell_a_good_fit_from_a_bad_one():
    x, targets = map(jnp.asarray, problem())
    _, good = kernel_machine_core(Laplace(2.0), x, targets, 1e-3)
    assert bool(good.finite)
    assert float(good.residual) < 1e-12
    spectrum = np.linalg.eigvalsh(oracles.laplace_gram(x, x, 2.0)) + 1e-3
    assert (
        0.5 * spectrum[-1] / spectrum[0] < float(good.condition_estimate) < 1.01 * spectrum[-1] / spectrum[0]
    )


def test_a_kernel_that_cannot_enter_compiled_functions_is_refused():
    x, targets = map(jnp.asarray, problem())
    with pytest.raises(ValueError, match=r"kernel must be a pytree.*jax.tree_util.Partial"):
        fit_kernel_machine(lambda a, b: a @ b.T, x, targets, ridge=1e-3)
    wrapped = jax.tree_util.Partial(lambda a, b: a @ b.T)
    machine = fit_kernel_machine(wrapped, x, targets, ridge=1e-3)
    assert_close(machine(x), x @ x.T @ machine.weights, np.float64, "product")
