"""AGOPs of machines whose kernel has no gradient terms: differentiated, and equal to the closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnc_jax import Gaussian, Kernel, KernelMachine, fit_kernel_machine, fit_rfm, kernel_agop
from dnc_jax.agop import kernel_agop_core
from dnc_jax.closed_form import direct_gram
from dnc_jax.kernels import ClosedFormKernel
from dnc_jax.types import pytree


@pytree
class OnlyACall:
    """The Gaussian kernel, as somebody might write it who wants no more than its values."""

    bandwidth: float

    def __call__(self, x, z):
        return jnp.exp(-jnp.sum((x[:, None] - z[None]) ** 2, axis=2) / (2 * self.bandwidth**2))


@pytree
class ProductLaplace:
    """exp(-|x - z|_1), whose gradient is not in the plane of x and z."""

    def __call__(self, x, z):
        return jnp.exp(-jnp.sum(jnp.abs(x[:, None] - z[None]), axis=2))


def machines():
    rng = np.random.default_rng(0)
    arrays = jnp.asarray(rng.normal(size=(12, 4))), jnp.asarray(rng.normal(size=(12, 3)))
    return KernelMachine(OnlyACall(1.3), *arrays), KernelMachine(Gaussian(1.3), *arrays)


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("batch_size", [None, 5])
def test_autodiff_is_the_closed_form(centered, batch_size):
    plain, closed = machines()
    x = jnp.asarray(np.random.default_rng(1).normal(size=(7, 4)))
    for points in (None, x):
        options = {"centered": centered, "batch_size": batch_size}
        got, true = (kernel_agop(machine, points, **options) for machine in (plain, closed))
        np.testing.assert_allclose(got, true, rtol=1e-11, atol=1e-13)
        diagonal = kernel_agop(plain, points, diagonal=True, **options)
        np.testing.assert_allclose(diagonal, jnp.diagonal(got), rtol=1e-12)


def test_centered_gradients_lose_nothing_to_a_large_mean():
    # f(x) = 1e6 x_0 + |x|^2/2: gradients 1e6 e_0 + x, whose covariance is that of x.
    @pytree
    class Steep:
        def __call__(self, x, z):
            return jnp.outer(1e6 * x[:, 0] + jnp.sum(x**2, axis=1) / 2, jnp.ones(z.shape[0]))

    x = np.random.default_rng(0).normal(size=(20, 3))
    machine = KernelMachine(Steep(), jnp.asarray(x[:1]), jnp.ones((1, 1)))
    np.testing.assert_allclose(
        kernel_agop(machine, jnp.asarray(x), centered=True), np.cov(x.T, bias=True), atol=1e-9
    )


def test_diagnostics_say_that_nothing_was_summed_over_outputs():
    gram, diagnostics = jax.jit(kernel_agop_core)(machines()[0])
    assert bool(diagnostics.is_direct)
    assert float(diagnostics.cancellation) == 1
    assert gram.dtype == diagnostics.cancellation.dtype == np.float64


def test_only_kernels_with_gradient_terms_have_a_closed_form():
    assert isinstance(Gaussian(1.0), ClosedFormKernel)
    for kernel in (OnlyACall(1.0), ProductLaplace()):
        assert isinstance(kernel, Kernel)
        assert not isinstance(kernel, ClosedFormKernel)
    with pytest.raises(TypeError, match=r"needs a kernel with gradient_terms: got OnlyACall"):
        direct_gram(machines()[0], machines()[0].centers, None, False, False, None)


def test_such_kernels_can_be_fitted_and_learn_features():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(20, 3)))
    targets = x[:, :1] ** 2
    options = {"ridge": 1e-2, "num_iters": 2}
    got, true = (fit_rfm(kernel, x, targets, **options) for kernel in (OnlyACall(1.3), Gaussian(1.3)))
    np.testing.assert_allclose(got.feature_matrix, true.feature_matrix, rtol=1e-8, atol=1e-10)
    machine = fit_kernel_machine(ProductLaplace(), x, targets, ridge=1e-2)
    new = jnp.asarray(rng.normal(size=(5, 3)))
    assert np.linalg.eigvalsh(kernel_agop(machine, new)).min() > 0
