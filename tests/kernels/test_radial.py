import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnc_jax import Gaussian, Laplace
from tests.builders import as_a_user, with_duplicates
from tests.instances import RADIAL


@pytest.mark.parametrize("case", RADIAL)
def test_slope_is_the_derivative_of_the_profile(case):
    squared = jnp.geomspace(1e-4, 30.0, 20)
    by_autodiff = jax.vmap(jax.grad(case.kernel.profile))(squared)
    np.testing.assert_allclose(case.kernel.slope(squared), by_autodiff, rtol=1e-12)
    true = case.radial_derivative(np.sqrt(np.asarray(squared)), case.bandwidth) / 2
    np.testing.assert_allclose(case.kernel.slope(squared), true, rtol=1e-12)


def test_slopes_at_distance_zero():
    zero = jnp.zeros(2)
    for exponent in (0.7, 1.0, 1.4):
        np.testing.assert_array_equal(Laplace(1.7, exponent).slope(zero), [0.0, 0.0])
    np.testing.assert_allclose(Laplace(1.7, 2.0).slope(zero), [-1 / 1.7**2] * 2, rtol=1e-15)
    np.testing.assert_allclose(Gaussian(1.3).slope(zero), [-0.5 / 1.3**2] * 2, rtol=1e-15)


@pytest.mark.parametrize("case", RADIAL)
def test_bandwidth_is_a_differentiable_leaf(case):
    assert jax.tree.leaves(case.kernel) == [case.bandwidth]
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)))

    def total(bandwidth):
        return jnp.sum(dataclasses.replace(case.kernel, bandwidth=bandwidth)(x, x + 0) ** 2)

    step = 1e-6
    numerical = (total(case.bandwidth + step) - total(case.bandwidth - step)) / (2 * step)
    np.testing.assert_allclose(jax.grad(total)(case.bandwidth), numerical, rtol=1e-7)


def test_bandwidth_changes_the_kernel():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2)))
    for kernel in (Laplace, Gaussian):
        narrow, wide = kernel(1.0)(x, x), kernel(3.0)(x, x)
        assert np.all(np.asarray(wide)[~np.eye(3, dtype=bool)] > np.asarray(narrow)[~np.eye(3, dtype=bool)])


@pytest.mark.parametrize("kernel", [Laplace, Gaussian])
@pytest.mark.parametrize("bandwidth", [0.0, -1.0, float("nan"), float("inf")])
def test_bandwidth_out_of_range_is_refused_by_the_check(kernel, bandwidth):
    with pytest.raises(ValueError, match=r"bandwidth must be a positive finite number: got"):
        kernel(bandwidth).check()


def test_exponent_2_is_a_gaussian_and_exponent_1_the_default():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)))
    squared = jnp.concatenate([jnp.zeros(1), jnp.geomspace(1e-6, 30.0, 20)])
    same, gaussian = Laplace(1.7, 2.0), Gaussian(1.7 / np.sqrt(2))
    np.testing.assert_allclose(same(x, x), gaussian(x, x), rtol=1e-14)
    np.testing.assert_allclose(same.slope(squared), gaussian.slope(squared), rtol=1e-14)
    np.testing.assert_allclose(jax.vmap(jax.grad(same.profile))(squared), same.slope(squared), rtol=1e-14)
    assert Laplace(1.7) == Laplace(1.7, 1.0)
    assert np.max(np.abs(Laplace(1.7, 1.01)(x, x) - Laplace(1.7)(x, x))) > 1e-3


def test_the_exponents_next_to_1_and_2_are_not_special():
    squared = jnp.geomspace(1e-3, 30.0, 20)
    for special in (1.0, 2.0):
        near, exact = Laplace(1.7, special - 1e-9), Laplace(1.7, special)
        np.testing.assert_allclose(near.profile(squared), exact.profile(squared), rtol=1e-6)
        np.testing.assert_allclose(near.slope(squared), exact.slope(squared), rtol=1e-6)


@pytest.mark.parametrize("exponent", [0.0, -1.0, 2.1, float("nan"), jnp.ones(())])
def test_exponent_out_of_range_is_refused_by_the_check(exponent):
    with (
        as_a_user(),
        pytest.raises(ValueError, match=r"exponent must be a number above 0 and at most 2: got"),
    ):
        Laplace(1.0, exponent).check()


@pytest.mark.parametrize("kernel", [Laplace(1.5), Laplace(1.5, exponent=1.3), Gaussian(2.0)])
def test_a_kernel_at_its_rows_is_the_kernel_there_and_nowhere_else(kernel):
    x = jnp.asarray(with_duplicates(6, 3))
    at = kernel.at(x)
    np.testing.assert_array_equal(at(x, x), kernel(x, x))
    for kept, true in zip(at.gradient_terms(x, x), kernel.gradient_terms(x, x), strict=True):
        np.testing.assert_array_equal(kept, true)
    for call in (at, at.gradient_terms):
        with pytest.raises(ValueError, match=r"can be called at these alone, the same object twice"):
            call(x, x + 0)
