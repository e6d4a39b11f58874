import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnc_jax import cosine, effective_rank, pearson, stable_rank
from tests import ansatz_oracles
from tests.builders import as_a_user, assert_close, rotation, without_values
from tests.instances import DTYPES

CORRELATIONS = [
    pytest.param(cosine, ansatz_oracles.cosine, id="cosine"),
    pytest.param(pearson, ansatz_oracles.pearson, id="pearson"),
]
RANKS = [
    pytest.param(stable_rank, ansatz_oracles.stable_rank, id="stable_rank"),
    pytest.param(effective_rank, ansatz_oracles.effective_rank, id="effective_rank"),
]
SEEDS = st.integers(0, 10**6)


def pair(seed=0, shape=(4, 5), offset=0.0):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=shape)
    return a + offset, a + rng.normal(size=shape) - offset


@pytest.mark.parametrize(("measure", "oracle"), CORRELATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(7,), (4, 5), (2, 3, 4)])
def test_correlations_follow_their_oracle(measure, oracle, dtype, shape):
    a, b = (m.astype(dtype) for m in pair(shape=shape))
    assert_close(measure(jnp.asarray(a), jnp.asarray(b)), oracle(a, b), dtype, "product")
    assert_close(without_values(measure)(jnp.asarray(a), jnp.asarray(b)), oracle(a, b), dtype, "product")


@pytest.mark.parametrize(("measure", "oracle"), CORRELATIONS)
@settings(max_examples=10, deadline=None)
@given(seed=SEEDS, scale=st.floats(1e-30, 1e30), sign=st.sampled_from([-1, 1]))
def test_correlations_know_no_scale(measure, oracle, seed, scale, sign):
    # In float32 the squares of such entries under- or overflow.
    a, b = (jnp.asarray(m, jnp.float32) for m in pair(seed))
    np.testing.assert_allclose(measure(sign * scale * a, b), sign * oracle(a, b), atol=1e-5)
    np.testing.assert_allclose(measure(a, sign * scale * b), sign * oracle(a, b), atol=1e-5)
    np.testing.assert_allclose(measure(a, sign * scale * a), sign, rtol=1e-5)


def test_pearson_is_centered_and_the_cosine_is_not():
    a, b = (jnp.asarray(m) for m in pair())
    np.testing.assert_allclose(pearson(a + 3.0, b - 2.0), pearson(a, b), rtol=1e-12)
    assert abs(cosine(a + 3.0, b - 2.0) - cosine(a, b)) > 0.1


@pytest.mark.parametrize("dtype", DTYPES)
def test_pearson_is_true_where_means_dominate(dtype):
    a, b = (m.astype(dtype) for m in pair(shape=(300, 300), offset=1e3))
    got = pearson(jnp.asarray(a), jnp.asarray(b))
    np.testing.assert_allclose(got, ansatz_oracles.pearson(a, b), rtol=1e-4 if dtype == np.float32 else 1e-9)


@pytest.mark.parametrize(("measure", "oracle"), CORRELATIONS)
def test_correlations_have_true_gradients(measure, oracle):
    a, b = pair()
    direction, step = np.random.default_rng(1).normal(size=a.shape), 1e-6
    gradient = jax.grad(measure)(jnp.asarray(a), jnp.asarray(b))
    true = (oracle(a + step * direction, b) - oracle(a - step * direction, b)) / (2 * step)
    np.testing.assert_allclose((gradient * direction).sum(), true, rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("measure", "undefined"), [(cosine, 0.0), (pearson, 0.0), (pearson, 0.1)])
def test_correlations_without_a_definition_raise_or_are_nan_with_gradient_zero(measure, undefined, dtype):
    a, b = jnp.full((300, 300), undefined, dtype), jnp.asarray(pair(shape=(300, 300))[0], dtype)
    for first, second in ((a, b), (b, a), (a, a)):
        with pytest.raises(ValueError, match=r"is undefined: got entries of a in \[.*expected finite arrays"):
            measure(first, second)
        assert np.isnan(without_values(measure)(first, second))
        for gradient in jax.grad(measure, argnums=(0, 1))(first, second):
            np.testing.assert_array_equal(gradient, 0)
    with pytest.raises(ValueError, match=r"a in \[nan, nan\]"):
        measure(jnp.full((2, 2), jnp.nan), jnp.eye(2))


@pytest.mark.parametrize(("measure", "oracle"), CORRELATIONS)
def test_correlations_refuse_shapes_that_differ(measure, oracle):
    for shapes in (((2, 3), (3, 2)), ((2,), (2, 1)), ((0,), (0,))):
        with as_a_user(), pytest.raises(ValueError, match=r"one shape, with at least one entry: got \("):
            measure(*map(jnp.ones, shapes))


@pytest.mark.parametrize(("measure", "oracle"), RANKS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (5, 5), (1, 3)])
def test_ranks_follow_their_oracle(measure, oracle, dtype, shape):
    a = np.random.default_rng(0).normal(size=shape).astype(dtype)
    for scale in (1.0, 1e-30):
        true = oracle(a.astype(np.float64))
        assert_close(measure(jnp.asarray(scale * a, dtype)), true, dtype, "product")
        assert_close(without_values(measure)(jnp.asarray(scale * a, dtype)), true, dtype, "product")


@pytest.mark.parametrize(("measure", "oracle"), RANKS)
@pytest.mark.parametrize("rank", [1, 3, 5])
def test_the_rank_of_a_projection_is_its_rank_with_finite_gradients(measure, oracle, rank):
    basis = rotation(5)[:, :rank]
    np.testing.assert_allclose(measure(jnp.asarray(basis @ basis.T)), rank, rtol=1e-10)
    assert np.all(np.isfinite(jax.grad(measure)(jnp.asarray(basis @ basis.T))))
    np.testing.assert_allclose(measure(jnp.diag(jnp.arange(5) < rank).astype(float)), rank, rtol=1e-12)
    assert np.all(np.isfinite(jax.grad(measure)(jnp.diag(jnp.arange(5) < rank).astype(float))))


@pytest.mark.parametrize(("measure", "oracle"), RANKS)
def test_ranks_have_true_gradients_and_run_under_vmap(measure, oracle):
    stack = np.random.default_rng(0).normal(size=(2, 4, 3))
    direction, step = np.random.default_rng(1).normal(size=(4, 3)), 1e-6
    mapped = jax.jit(jax.vmap(measure))(jnp.asarray(stack))
    gradients = jax.jit(jax.vmap(jax.grad(measure)))(jnp.asarray(stack))
    for a, got, gradient in zip(stack, mapped, gradients, strict=True):
        np.testing.assert_allclose(got, oracle(a), rtol=1e-12)
        true = (oracle(a + step * direction) - oracle(a - step * direction)) / (2 * step)
        np.testing.assert_allclose((gradient * direction).sum(), true, rtol=1e-6)


@pytest.mark.parametrize(("measure", "oracle"), RANKS)
def test_the_rank_of_zero_raises_or_is_nan_with_gradient_zero(measure, oracle):
    zero = jnp.zeros((3, 4))
    with pytest.raises(ValueError, match=r"got a of shape \(3, 4\) with largest entry 0, expected a finite"):
        measure(zero)
    assert np.isnan(without_values(measure)(zero))
    np.testing.assert_array_equal(jax.grad(measure)(zero), 0)
