"""NC1 where class means are linearly dependent to rounding: no direction of rounding is inverted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dnc_jax
from dnc_jax import NumericalError, accumulate_nc1, accumulate_scatter, class_stats
from tests import collapse_oracles
from tests.instances import DTYPES

nc1 = jax.jit(dnc_jax.nc1, static_argnames="num_classes")

# Classes, dimension, rank of the class means; K > d + 1, = d + 1 and below.
SHAPES = [(10, 4, 3), (10, 8, 7), (100, 64, 63), (100, 64, 1), (5, 4, 3), (12, 40, 10), (12, 40, 1)]


def mirrored(num_classes, dim, rank, seed=17, offset=0.0):
    """Two points a class, at equal distances on either side of a mean in a subspace of the given rank."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(num_classes, rank)) @ rng.normal(size=(rank, dim)) + offset
    noise = rng.normal(size=(num_classes, dim))
    return np.concatenate([means + noise, means - noise]), np.tile(np.arange(num_classes), 2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("offset", [0.0, 30.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_dependent_means_are_the_oracle(shape, offset, dtype):
    features, labels = mirrored(*shape, offset=offset)
    true = collapse_oracles.nc1(features, labels, shape[0])
    # The data is rounded before anything is computed, and offset is what its spread is taken from.
    limit = 1e-11 if dtype == np.float64 else 2e-3
    got = nc1(jnp.asarray(features, dtype), jnp.asarray(labels), num_classes=shape[0])
    np.testing.assert_allclose(got, true, rtol=limit)


@pytest.mark.parametrize("seed", range(20))
def test_no_draw_of_dependent_means_inverts_rounding(seed):
    features, labels = mirrored(10, 4, 3, seed)
    np.testing.assert_allclose(
        nc1(jnp.asarray(features), jnp.asarray(labels), 10),
        collapse_oracles.nc1(features, labels, 10),
        rtol=1e-9,
    )


@pytest.mark.parametrize(("num_classes", "dim"), [(12, 11), (10, 40), (30, 11)])
def test_normalized_features_lie_in_a_plane(num_classes, dim):
    # Rows of layer normalization sum to 0 and rows of softmax to 1: the means lack a direction.
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(num_classes), 20)
    logits = rng.normal(size=(len(labels), dim)) + 3 * rng.normal(size=(num_classes, dim))[labels]
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    centered = logits - logits.mean(axis=1, keepdims=True)
    for features in (softmax, centered / centered.std(axis=1, keepdims=True)):
        got = nc1(jnp.asarray(features), jnp.asarray(labels), num_classes)
        np.testing.assert_allclose(got, collapse_oracles.nc1(features, labels, num_classes), rtol=1e-10)


@pytest.mark.parametrize("shape", [(10, 4, 3), (12, 40, 10)])
def test_accumulators_cut_the_same_directions(shape):
    features, labels = mirrored(*shape)
    true = collapse_oracles.nc1(features, labels, shape[0])
    points = jnp.asarray(features), jnp.asarray(labels)
    second = accumulate_nc1(class_stats(*points, shape[0]))
    one_pass = accumulate_scatter(*shape[:2], jnp.dtype("float64"))
    for accumulator in (second, one_pass):
        value = accumulator.compute(accumulator.update(accumulator.init(), *points))
        np.testing.assert_allclose(value, true, rtol=1e-10)


@pytest.mark.parametrize("shape", [(10, 4, 3), (12, 40, 10)])
def test_gradients_at_dependent_means_are_true_along_moves_that_keep_them_dependent(shape):
    features, labels = mirrored(*shape)
    rng = np.random.default_rng(3)
    # A linear map of all points keeps the rank; a move of one point of a class and its mirror keeps the mean.
    turned = features @ rng.normal(size=(shape[1], shape[1]))
    noise = rng.normal(size=(shape[0], shape[1]))
    direction = turned + np.concatenate([noise, -noise])

    def measure(features):
        return nc1(features, jnp.asarray(labels), shape[0])

    gradient = jax.grad(measure)(jnp.asarray(features))
    step = 1e-6
    moved = [collapse_oracles.nc1(features + s * step * direction, labels, shape[0]) for s in (1, -1)]
    np.testing.assert_allclose((gradient * direction).sum(), (moved[0] - moved[1]) / (2 * step), rtol=1e-6)
    mapped = jax.vmap(jax.grad(measure))(jnp.asarray(features)[None])[0]
    np.testing.assert_allclose(mapped, gradient, rtol=1e-9, atol=1e-9 * np.abs(gradient).max())


def test_means_that_differ_by_rounding_alone_are_not_measured():
    rng = np.random.default_rng(0)
    labels = np.arange(4000) % 4
    features = jnp.asarray(1e3 + 1e-13 * rng.normal(size=(4, 50))[labels])
    with pytest.raises(NumericalError, match="class means of 4000 points of 4 classes coincide"):
        dnc_jax.nc1(features, jnp.asarray(labels), 4)
    assert np.isnan(nc1(features, jnp.asarray(labels), 4))
