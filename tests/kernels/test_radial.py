import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnc_jax import Gaussian, Laplace
from tests.builders import assert_close, with_duplicates
from tests.instances import DTYPES, KERNELS


@pytest.mark.parametrize("case", KERNELS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_gram_matrix_is_the_oracles(case, dtype):
    rng = np.random.default_rng(0)
    x, z = rng.normal(size=(9, 4)).astype(dtype), rng.normal(size=(7, 4)).astype(dtype)
    assert_close(case.kernel(jnp.asarray(x), jnp.asarray(z)), case.gram(x, z), dtype, "entry")


@pytest.mark.parametrize("case", KERNELS)
def test_slope_is_the_derivative_of_the_profile(case):
    squared = jnp.geomspace(1e-4, 30.0, 20)
    by_autodiff = jax.vmap(jax.grad(case.kernel.profile))(squared)
    np.testing.assert_allclose(case.kernel.slope(squared), by_autodiff, rtol=1e-12)
    true = case.radial_derivative(np.sqrt(np.asarray(squared)), case.bandwidth) / 2
    np.testing.assert_allclose(case.kernel.slope(squared), true, rtol=1e-12)


def test_slopes_at_distance_zero():
    zero = jnp.zeros(2)
    np.testing.assert_array_equal(Laplace(1.7).slope(zero), [0.0, 0.0])
    np.testing.assert_allclose(Gaussian(1.3).slope(zero), [-0.5 / 1.3**2] * 2, rtol=1e-15)


@pytest.mark.parametrize("case", KERNELS)
def test_gradients_are_finite_at_coincident_points(case):
    x = jnp.asarray(with_duplicates(3, 2))
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(case.kernel(x, x + 0))))(x)
    assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize("case", KERNELS)
def test_bandwidth_is_a_differentiable_leaf(case):
    assert jax.tree.leaves(case.kernel) == [case.bandwidth]
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)))

    def total(bandwidth):
        return jnp.sum(type(case.kernel)(bandwidth)(x, x + 0) ** 2)

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
