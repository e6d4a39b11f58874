from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dnc_jax
from dnc_jax import nc1_trace_ratio, within_class_rounding
from tests import collapse_oracles
from tests.builders import assert_close, class_clouds, simplex_means
from tests.instances import DTYPES

nc1 = jax.jit(dnc_jax.nc1, static_argnames="num_classes")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dim", [2, 3, 4, 5, 30])
@pytest.mark.parametrize("counts", [(8, 8, 8, 8, 8), (2, 20, 1, 7, 5)], ids=["balanced", "imbalanced"])
def test_nc1_is_the_oracle_whatever_the_dimension(dtype, dim, counts):
    # Five classes: K - 1 > d for 2 and 3, = d for 4, < d beyond.
    features, labels = class_clouds(counts, dim, spread=0.3, offset=1.0)
    features = features.astype(dtype)
    got = nc1(jnp.asarray(features), jnp.asarray(labels), 5)
    assert_close(got, collapse_oracles.nc1(features, labels, 5), dtype, "product")
    # The explicit matrix has the squared condition number of the means.
    assert_close(got, collapse_oracles.nc1_by_pinv(features, labels, 5), np.dtype(dtype), "solve")


@pytest.mark.parametrize("dim", [3, 12])
def test_nc1_of_linearly_dependent_means_leaves_the_missing_directions_out(dim):
    means = np.zeros((5, dim))
    means[:, 0], means[:, 1] = [0, 1, 2, 3, 4], [0, 1, 0, 1, 0]
    features, labels = class_clouds([6] * 5, dim, spread=0.1, means=means)
    got = nc1(jnp.asarray(features[labels < 5]), jnp.asarray(labels), 5)
    assert_close(got, collapse_oracles.nc1(features, labels, 5), np.float64, "product")
    # Exactly dependent: residuals that cancel in each class keep the means on their plane.
    mirrored = np.concatenate([features, 2 * means[labels] - features])
    twice = np.concatenate([labels, labels])
    got = nc1(jnp.asarray(mirrored), jnp.asarray(twice), 5)
    assert_close(got, collapse_oracles.nc1(mirrored, twice, 5), np.float64, "product")
    assert np.isfinite(got)


def test_nc1_of_isotropic_noise_has_a_value_known_by_hand():
    # Two classes at +-1 on one axis: Sigma_B = 1 there and Sigma_W = 1/4, so the trace over K is 1/8.
    features = jnp.asarray([[1.5, 9.0], [0.5, -9.0], [-0.5, 4.0], [-1.5, -4.0]])
    labels = jnp.asarray([0, 0, 1, 1])
    np.testing.assert_allclose(nc1(features, labels, 2), 0.125, rtol=1e-14)
    np.testing.assert_allclose(nc1_trace_ratio(features, labels, 2), 0.25 + (81 + 16) / 2, rtol=1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("metric", ["nc1", "nc1_trace_ratio"])
def test_collapse_is_measured_to_the_last_digit_of_the_dtype(metric, dtype):
    measure = jax.jit(getattr(dnc_jax, metric), static_argnums=2)
    smallest = 1e-12 if dtype == np.float64 else 1e-5
    values = {}
    for spread in (1e-1, 1e-2, 1e-3, 1e-4, smallest):
        features, labels = class_clouds([100] * 10, 40, spread=spread, offset=3.0)
        features = jnp.asarray(features.astype(dtype))
        values[spread] = float(measure(features, jnp.asarray(labels), 10)) / spread**2
    reference = (
        getattr(collapse_oracles, metric)(*class_clouds([100] * 10, 40, spread=1e-4, offset=3.0), 10) / 1e-8
    )
    for spread in (1e-3, 1e-4, smallest):
        # The data itself is rounded to eps * 3 / spread.
        rounding = 3 * np.finfo(dtype).eps / spread
        np.testing.assert_allclose(values[spread], reference, rtol=5e-3 + rounding**2)
    assert abs(values[1e-1] / reference - 1) > 1e-4


@pytest.mark.parametrize("dim", [9, 40])
@pytest.mark.parametrize("spread", [0.0, 1e-6, 0.5])
def test_gradients_are_finite_and_true_also_at_an_exact_simplex(dim, spread):
    features, labels = class_clouds([4] * 10, dim, spread=spread, means=simplex_means(10, dim))
    measure = partial(dnc_jax.nc1, labels=jnp.asarray(labels), num_classes=10)
    features = jnp.asarray(features)
    gradient = jax.jit(jax.grad(measure))(features)
    assert np.all(np.isfinite(gradient))
    direction = jnp.asarray(np.random.default_rng(1).normal(size=features.shape))
    step = 1e-6 * max(spread, 1e-3)
    jitted = jax.jit(measure)
    numerical = (jitted(features + step * direction) - jitted(features - step * direction)) / (2 * step)
    np.testing.assert_allclose(
        jnp.sum(gradient * direction), numerical, rtol=1e-5, atol=1e-6 * max(spread, 1e-3)
    )


def test_nc1_of_absent_classes_is_that_of_the_present():
    features, labels = class_clouds((6, 7, 8), 6, spread=0.3)
    spread_out = np.array([0, 2, 3])[labels]
    for metric in (nc1, jax.jit(nc1_trace_ratio, static_argnums=2)):
        with_gaps = metric(jnp.asarray(features), jnp.asarray(spread_out), 5)
        np.testing.assert_allclose(
            with_gaps, metric(jnp.asarray(features), jnp.asarray(labels), 3), rtol=1e-12
        )


@pytest.mark.parametrize("metric", ["nc1", "nc1_trace_ratio", "nc2", "nc2_gram_mse"])
def test_one_class_is_refused(metric):
    with pytest.raises(ValueError, match=r"num_classes must be at least 2 for a collapse metric: got 1"):
        getattr(dnc_jax, metric)(jnp.ones((3, 2)), jnp.zeros(3, int), 1)


@pytest.mark.parametrize("metric", ["nc1", "nc1_trace_ratio", "nc2", "nc2_gram_mse"])
def test_labels_out_of_range_are_refused(metric):
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.1: got 1 outside, the first 7 at row 2"):
        getattr(dnc_jax, metric)(jnp.ones((3, 2)), jnp.asarray([0, 1, 7]), 2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_within_class_rounding_is_the_rounding_of_the_dtype_over_the_spread(dtype):
    features, labels = class_clouds([200] * 3, 20, spread=1e-2, means=np.zeros((3, 20)), offset=1.0)
    got = within_class_rounding(jnp.asarray(features, dtype), jnp.asarray(labels), 3)
    np.testing.assert_allclose(got, np.finfo(dtype).eps * 1e4, rtol=0.05)
