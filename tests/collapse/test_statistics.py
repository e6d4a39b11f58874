import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnc_jax import ClassStats, class_stats, merge, nc1
from tests import collapse_oracles
from tests.builders import as_a_user, assert_close, class_clouds
from tests.instances import DTYPES

COUNTS = (3, 11, 1, 6)
statistics = jax.jit(class_stats, static_argnames="num_classes")


@pytest.mark.parametrize("dtype", DTYPES)
def test_counts_means_and_scatter_are_the_oracles(dtype):
    features, labels = class_clouds(COUNTS, 5, spread=1.0, offset=3.0)
    features = features.astype(dtype)
    true = collapse_oracles.class_stats(features, labels, 4)
    got = class_stats(jnp.asarray(features), jnp.asarray(labels), 4)
    for name in ClassStats._fields:
        assert_close(getattr(got, name), getattr(true, name), dtype, "entry")


@pytest.mark.parametrize(("dtype", "spread"), [(np.float64, 1e-10), (np.float32, 1e-4)])
def test_scatter_of_collapsed_classes_is_not_lost(dtype, spread):
    features, labels = class_clouds([200] * 3, 5, spread=spread, offset=3.0)
    features = features.astype(dtype)
    true = collapse_oracles.class_stats(features, labels, 3, np.longdouble)
    got = class_stats(jnp.asarray(features), jnp.asarray(labels), 3)
    np.testing.assert_allclose(got.within, true.within.astype(float), rtol=1e-2)


def test_a_class_without_points_has_zeros():
    features, labels = class_clouds((4, 4), 3, spread=1.0)
    got = class_stats(jnp.asarray(features), jnp.asarray(labels), 3)
    np.testing.assert_array_equal(got.counts, [4, 4, 0])
    np.testing.assert_array_equal(got.means[2], np.zeros(3))
    assert got.within[2] == 0


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), share=st.floats(0, 1), spread=st.sampled_from([1.0, 1e-3, 1e-9]))
def test_merging_any_split_equals_one_pass(seed, share, spread):
    features, labels = class_clouds(COUNTS, 5, spread=spread, offset=3.0, seed=seed)
    first = np.random.default_rng(seed).random(len(labels)) < share
    if first.all() or not first.any():
        first = np.arange(len(labels)) < 4
    parts = [statistics(jnp.asarray(features[p]), jnp.asarray(labels[p]), 4) for p in (first, ~first)]
    whole = statistics(jnp.asarray(features), jnp.asarray(labels), 4)
    # A split of points at distance 4 from 0 knows their residuals to 4 eps / spread.
    rtol = max(1e-12, 1e-13 / spread)
    for merged in (merge(*parts), merge(*parts[::-1])):
        np.testing.assert_array_equal(merged.counts, whole.counts)
        np.testing.assert_allclose(merged.means, whole.means, rtol=1e-13, atol=1e-14)
        np.testing.assert_allclose(merged.within, whole.within, rtol=rtol, atol=1e-30)


def test_merging_with_nothing_changes_nothing():
    features, labels = class_clouds(COUNTS, 5, spread=1.0)
    stats = class_stats(jnp.asarray(features), jnp.asarray(labels), 4)
    nothing = ClassStats(*(jnp.zeros_like(part) for part in stats))
    for merged in (merge(stats, nothing), merge(nothing, stats)):
        for got, expected in zip(merged, stats, strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-15)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_dtype_is_kept_and_jit_is_eager(dtype):
    features, labels = class_clouds(COUNTS, 5, spread=1.0)
    features, labels = jnp.asarray(features, dtype), jnp.asarray(labels)
    for got, expected in zip(statistics(features, labels, 4), class_stats(features, labels, 4), strict=True):
        assert got.dtype == dtype
        assert_close(got, expected, dtype, "entry")


def test_labels_and_features_that_do_not_fit_are_refused():
    features, labels = map(jnp.asarray, class_clouds(COUNTS, 5, spread=1.0))

    def refused(match, features, labels, num_classes):
        with as_a_user(), pytest.raises(ValueError, match=match):
            class_stats(features, labels, num_classes)

    refused(r"labels must lie in 0\.\.2: got 6 outside, the first 3 at row", features, labels, 3)
    refused(
        r"labels must lie in 0\.\.3: got 1 outside, the first -1 at row 2", features, labels.at[2].set(-1), 4
    )
    refused(r"must have shapes \(n, d\) and \(n,\): got \(21, 5\) and \(20,\)", features, labels[:20], 4)
    refused(r"must have shapes", features[:, 0], labels, 4)
    refused(r"at least one point and one class: got 0 points", features[:0], labels[:0], 4)
    refused(r"num_classes 0", features, labels, 0)


def test_a_mean_of_many_float32_points_is_not_lost_in_one_long_sum():
    # One running sum of 2^18 threes grows to 8e5, where float32 has steps of 1/16.
    features = np.full((2**18, 1), 3.1, np.float32) + np.random.default_rng(0).normal(
        scale=1e-3, size=(2**18, 1)
    ).astype(np.float32)
    got = statistics(jnp.asarray(features), jnp.zeros(2**18, int), 1)
    np.testing.assert_allclose(got.means[0], features.astype(np.float64).mean(), rtol=1e-6)


def test_nc1_of_float32_points_far_from_the_origin():
    # Projected before their means are subtracted, they would lose one or two digits more.
    features, labels = class_clouds((40, 40, 40), 16, spread=1e-3, offset=30.0)
    features = features.astype(np.float32)
    true = collapse_oracles.nc1(features, labels, 3)
    np.testing.assert_allclose(nc1(jnp.asarray(features), jnp.asarray(labels), 3), true, rtol=2e-5)
