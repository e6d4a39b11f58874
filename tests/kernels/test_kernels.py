"""What every kernel of the table does, whatever it is a function of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from dnc_jax import KernelMachine, kernel_agop
from dnc_jax.kernels import ClosedFormKernel
from tests import oracles
from tests.builders import assert_close, with_duplicates
from tests.instances import DTYPES, KERNELS

gram_of = jax.jit(lambda kernel, x, z: kernel(x, z))
terms_of = jax.jit(lambda kernel, x, z: kernel.gradient_terms(x, z))


def rows(num_rows, seed=0, dtype=np.float64):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(num_rows, 4)), dtype)


def with_special_rows(dtype=np.float64):
    """Duplicates, multiples, opposites and zeros."""
    x = with_duplicates(4, 4)
    return jnp.asarray(np.concatenate([x, 3 * x[:2], -x[:1], np.zeros((2, 4))]), dtype)


@pytest.mark.parametrize("case", KERNELS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_gram_matrix_is_the_oracles(case, dtype):
    x = with_special_rows(dtype)
    true = case.gram(x, x)
    assert_close(gram_of(case.kernel, x, x + 0), true, dtype, "entry")
    assert_close(case.kernel(x, x), true, dtype, "entry")


@pytest.mark.parametrize("case", KERNELS)
def test_gram_matrix_can_be_mapped(case):
    x, z = rows(5), rows(4, 1)
    mapped = jax.jit(jax.vmap(case.kernel, in_axes=(0, None)))(jnp.stack([x, 2 * x]), z)
    assert_close(mapped, np.stack([case.gram(x, z), case.gram(2 * x, z)]), np.float64, "entry")


@pytest.mark.parametrize("case", KERNELS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_gradient_terms_are_finite_and_those_of_the_oracle(case, dtype):
    assert isinstance(case.kernel, ClosedFormKernel)
    x = with_special_rows(dtype)
    true = case.gradients(x, x, np.eye(len(x)))
    for own, other in (terms_of(case.kernel, x, x + 0), case.kernel.gradient_terms(x, x)):
        assert own.shape == other.shape == (len(x), len(x))
        assert np.all(np.isfinite(own))
        assert np.all(np.isfinite(other))
        got = own[..., None] * x[:, None] + other[..., None] * x[None]
        assert_close(got, true, dtype, "product")


@pytest.mark.parametrize("case", KERNELS)
def test_autodiff_is_finite_at_special_rows(case):
    x = with_special_rows()

    def total(kernel, x, z):
        return jnp.sum(kernel(x, x) ** 2) + jnp.sum(kernel(x, z) ** 2)

    gradient = jax.jit(jax.grad(total, argnums=(0, 1, 2)))(case.kernel, x, x + 0)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("case", KERNELS)
def test_every_leaf_is_a_differentiable_hyper_parameter(case):
    x, z = rows(4), rows(3, 1)
    leaves, structure = jax.tree.flatten(case.kernel)

    @jax.jit
    @jax.value_and_grad
    def total(leaves):
        return jnp.sum(jax.tree.unflatten(structure, leaves)(x, z) ** 2)

    (value, slopes), step = total(leaves), 1e-6
    for index, slope in enumerate(slopes):
        above, below = ([v + sign * step * (i == index) for i, v in enumerate(leaves)] for sign in (1, -1))
        numerical = (total(above)[0] - total(below)[0]) / (2 * step)
        np.testing.assert_allclose(slope, numerical, rtol=1e-6, atol=1e-8 * value)
        moved = jax.tree.unflatten(structure, [v + 0.1 * (i == index) for i, v in enumerate(leaves)])
        assert np.max(np.abs(moved(x, z) - case.kernel(x, z))) > 1e-4


@pytest.mark.parametrize("case", KERNELS)
def test_rows_that_are_not_numbers_stay_visible(case):
    x = rows(4).at[2, 1].set(jnp.nan)
    assert np.all(np.isnan(gram_of(case.kernel, x, rows(3, 1))[2]))


@pytest.mark.parametrize("case", KERNELS)
def test_the_check_passes_good_and_traced_hyper_parameters(case):
    case.kernel.check()

    @jax.jit
    def checked(kernel):
        kernel.check()
        return kernel

    checked(case.kernel)


@pytest.mark.parametrize("case", KERNELS)
def test_gram_and_agop_of_sharded_rows_are_the_oracles(case):
    mesh = jax.make_mesh((8,), ("rows",), axis_types=(AxisType.Auto,))
    x, weights = rows(16), jnp.asarray(np.random.default_rng(1).normal(size=(16, 30)))
    sharded = jax.device_put((x, weights), NamedSharding(mesh, PartitionSpec("rows")))
    gram = gram_of(case.kernel, sharded[0], sharded[0])
    assert_close(gram, case.gram(x, x), np.float64, "entry")
    gram = kernel_agop(KernelMachine(case.kernel, *sharded))
    assert_close(gram, oracles.agop(case.gradients(x, x, weights)), np.float64, "product")
    assert len(sharded[0].sharding.device_set) == 8
