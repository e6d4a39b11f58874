"""Correlations from factors: they are those of the matrices that are never formed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnc_jax import (
    agop_factor,
    cosine,
    cosine_nfa,
    cosine_of_grams,
    nfa_correlation,
    pearson,
    pearson_of_grams,
    power_factor,
    principal_columns,
    psd_power,
)
from tests.builders import as_a_user, assert_close
from tests.instances import DTYPES


def weights_and_agop(d, p, rank=None, dtype=np.float64):
    rng = np.random.default_rng(d)
    factor = rng.normal(size=(p, p if rank is None else rank))
    return jnp.asarray(rng.normal(size=(d, p)), dtype), jnp.asarray(factor @ factor.T, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("power", [1.0, 0.5, 0.2])
@pytest.mark.parametrize(("d", "p", "rank"), [(30, 7, None), (7, 30, None), (30, 7, 3)])
def test_the_factor_is_one_of_the_power_of_the_agop(d, p, rank, power, dtype):
    weights, agop = weights_and_agop(d, p, rank, dtype)
    factor = power_factor(agop_factor(weights, agop), power)
    assert factor.shape == (d, min(d, p))
    w, k = (np.asarray(a, np.float64) for a in (weights, agop))
    values, vectors = np.linalg.eigh(w @ k @ w.T)
    values[: d - (rank or min(d, p))] = 0.0
    true = (vectors * values**power) @ vectors.T
    assert_close(factor @ factor.T, true, dtype, "solve")


@pytest.mark.parametrize("power", [1.0, 0.5])
@pytest.mark.parametrize(("d", "p"), [(40, 6), (6, 9)])
def test_correlations_of_factors_are_those_of_the_ansatz(d, p, power):
    weights, agop = weights_and_agop(d, p)
    factor, whole = power_factor(agop_factor(weights, agop), power), weights @ agop @ weights.T
    true = nfa_correlation(weights, whole, power=power), cosine_nfa(weights, whole, power=power)
    np.testing.assert_allclose(pearson_of_grams(weights, factor), true[0], rtol=1e-9)
    np.testing.assert_allclose(cosine_of_grams(weights, factor), true[1], rtol=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("offset", [0.0, 2.0])
def test_correlations_of_factors_know_no_scale(scale, offset, dtype):
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(50, q)) + offset for q in (4, 9))
    b[:, :4] += a
    given = [jnp.asarray(factor * scale, dtype) for factor in (a, b)]
    grams = jnp.asarray(a @ a.T), jnp.asarray(b @ b.T)
    assert_close(jax.jit(pearson_of_grams)(*given), pearson(*grams), dtype, "product")
    assert_close(jax.jit(cosine_of_grams)(*given), cosine(*grams), dtype, "product")


def test_gradients_are_those_of_the_matrices():
    weights, agop = weights_and_agop(12, 5)
    ours = jax.grad(lambda w: pearson_of_grams(w, agop_factor(w, agop)))(weights)
    true = jax.grad(lambda w: pearson(w @ w.T, w @ agop @ w.T))(weights)
    np.testing.assert_allclose(ours, true, rtol=1e-8, atol=1e-12)


def test_principal_columns_are_the_weights_turned():
    weights, _ = weights_and_agop(9, 5)
    columns = principal_columns(weights)
    np.testing.assert_allclose(columns @ columns.T, weights @ weights.T, rtol=1e-10, atol=1e-12)
    gram = np.asarray(columns.T @ columns)
    np.testing.assert_allclose(gram, np.diag(np.diagonal(gram)), atol=1e-12)


def test_what_has_no_correlation_is_refused_and_nan_under_a_trace():
    ones, other = jnp.ones((6, 2)), jnp.asarray(np.random.default_rng(0).normal(size=(6, 3)))
    with pytest.raises(ValueError, match=r"pearson_of_grams is undefined: got factors of shapes \(6, 2\)"):
        pearson_of_grams(ones, other)
    with pytest.raises(ValueError, match="cosine_of_grams is undefined"):
        cosine_of_grams(0 * ones, other)
    assert np.isnan(jax.jit(pearson_of_grams)(ones, other))
    with as_a_user():
        with pytest.raises(ValueError, match="as many rows as each other"):
            cosine_of_grams(ones, other[:5])
        with pytest.raises(ValueError, match=r"preactivation_agop must have shape \(2, 2\)"):
            agop_factor(ones, psd_power(jnp.eye(3), 0.5))
    with pytest.raises(ValueError, match=r"power must be positive: got 0\.0"):
        power_factor(other, 0.0)
