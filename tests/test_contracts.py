"""Laws that every member of the table of instances keeps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnc_jax import KernelMachine, kernel_agop
from tests.builders import rotation, rtol, with_duplicates
from tests.instances import DTYPES, KERNELS, RADIAL, SAMPLERS

SEEDS = st.integers(0, 10**6)
agop_of = jax.jit(lambda machine: kernel_agop(machine))
gram_of = jax.jit(lambda kernel, x, z: kernel(x, z))


def test_members_of_different_types_have_different_structures():
    # jit finds its programs by the structure of their arguments: equal structures of two types would let it
    # run the program of the one on the other.
    kernels = [param.values[0].kernel for param in KERNELS]
    machines = [KernelMachine(kernel, jnp.ones((2, 3)), jnp.ones((2, 1))) for kernel in kernels]
    maps = [param.values[0](jax.random.key(0), 3, 2) for param in SAMPLERS[:2]]
    structures = [jax.tree.structure(member) for member in (*kernels, *machines, *maps)]
    for i, structure in enumerate(structures):
        assert structure not in structures[i + 1 :], structure


@pytest.mark.parametrize("case", KERNELS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_kernels_are_symmetric_and_positive_semidefinite(case, dtype):
    x = with_duplicates(15, 4).astype(dtype)
    for z in (x, x.copy()):
        gram = np.asarray(gram_of(case.kernel, jnp.asarray(x), jnp.asarray(z)), np.float64)
        np.testing.assert_allclose(gram, gram.T, rtol=rtol(dtype, "entry"))
        values = np.linalg.eigvalsh(gram)
        assert values.min() > -64 * np.finfo(dtype).eps * max(values.max(), 1)


@pytest.mark.parametrize("case", RADIAL)
@pytest.mark.parametrize("dtype", DTYPES)
def test_radial_kernels_are_1_at_the_same_point_and_below_elsewhere(case, dtype):
    x = with_duplicates(15, 4).astype(dtype)
    for z in (x, x.copy()):
        gram = np.asarray(case.kernel(jnp.asarray(x), jnp.asarray(z)))
        assert np.all(np.diagonal(gram) == 1)
        assert np.all((gram > 0) & (gram <= 1))
        twins = (x[:, None] == x[None]).all(axis=2)
        assert np.all(gram[twins] == 1)
        assert np.all(gram[~twins] < 1)


@pytest.mark.parametrize("case", KERNELS)
@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_kernels_are_invariant_to_rotation(case, seed):
    rng = np.random.default_rng(seed)
    x, z, q = rng.normal(size=(7, 4)), rng.normal(size=(5, 4)), rotation(4, seed)
    turned = gram_of(case.kernel, jnp.asarray(x @ q), jnp.asarray(z @ q))
    gram = gram_of(case.kernel, jnp.asarray(x), jnp.asarray(z))
    np.testing.assert_allclose(turned, gram, rtol=1e-10, atol=1e-12 * np.abs(gram).max())


@pytest.mark.parametrize("case", RADIAL)
@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_radial_kernels_are_invariant_to_translation(case, seed):
    rng = np.random.default_rng(seed)
    x, z, shift = rng.normal(size=(7, 4)), rng.normal(size=(5, 4)), rng.normal(size=4)
    moved = gram_of(case.kernel, jnp.asarray(x + shift), jnp.asarray(z + shift))
    np.testing.assert_allclose(moved, gram_of(case.kernel, jnp.asarray(x), jnp.asarray(z)), rtol=1e-10)


@pytest.mark.parametrize("case", KERNELS)
@pytest.mark.parametrize("num_outputs", [1, 20])
@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_agops_are_symmetric_positive_semidefinite_and_covariant_under_rotation(case, num_outputs, seed):
    rng = np.random.default_rng(seed)
    centers, weights = rng.normal(size=(12, 4)), jnp.asarray(rng.normal(size=(12, num_outputs)))
    q = rotation(4, seed)
    matrix = np.asarray(agop_of(KernelMachine(case.kernel, jnp.asarray(centers), weights)))
    rotated = agop_of(KernelMachine(case.kernel, jnp.asarray(centers @ q), weights))
    np.testing.assert_allclose(matrix, matrix.T, rtol=1e-12, atol=1e-14 * np.abs(matrix).max())
    values = np.linalg.eigvalsh(matrix)
    assert values.min() > -1e-13 * values.max()
    np.testing.assert_allclose(rotated, q.T @ matrix @ q, rtol=1e-9, atol=1e-11 * values.max())
