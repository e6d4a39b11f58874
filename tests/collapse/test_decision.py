import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnc_jax import (
    class_stats,
    collapse_metrics,
    decision_mismatch,
    nc4,
    nc4_per_class,
    ncc_accuracy,
    ncc_accuracy_by_depth,
    nearest_class_mean,
)
from experiments.support.layers import accuracy
from tests import collapse_oracles
from tests.builders import as_a_user, class_clouds
from tests.instances import DTYPES


def case(dtype=np.float64, dim=6):
    features, labels = class_clouds((9, 14, 5), dim, spread=1.0, offset=3.0)
    logits = np.random.default_rng(1).normal(size=(28, 3)) + 1.5 * np.eye(3)[labels]
    return features.astype(dtype), labels, logits.astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_nc4_is_the_oracle(dtype):
    features, labels, logits = case(dtype)
    true = collapse_oracles.nc4(features, labels, 3, logits)
    assert 0 < true < 1
    got = nc4(jnp.asarray(features), jnp.asarray(labels), 3, jnp.asarray(logits))
    assert got.dtype == dtype
    np.testing.assert_allclose(got, true, rtol=1e-6)
    jitted = jax.jit(nc4, static_argnums=2)(
        jnp.asarray(features), jnp.asarray(labels), 3, jnp.asarray(logits)
    )
    assert jitted == got


def test_nc4_is_zero_for_a_nearest_mean_classifier_and_one_for_its_opposite():
    features, labels, _ = case()
    means = collapse_oracles.class_stats(features, labels, 3).means
    distances = jnp.asarray(((features[:, None] - means[None]) ** 2).sum(axis=-1))
    assert nc4(jnp.asarray(features), jnp.asarray(labels), 3, -distances) == 0
    assert nc4(jnp.asarray(features), jnp.asarray(labels), 3, distances) == 1


def test_nearest_class_mean_is_the_oracle():
    features, labels, _ = case()
    means = collapse_oracles.class_stats(features, labels, 3).means
    got = nearest_class_mean(jnp.asarray(features), jnp.asarray(means))
    np.testing.assert_array_equal(got, collapse_oracles.nearest_class_mean(features, means))


def test_mismatch_of_held_out_points_is_against_the_means_that_are_given():
    features, labels, logits = case()
    means = class_stats(jnp.asarray(features), jnp.asarray(labels), 3).means
    own = decision_mismatch(jnp.asarray(features), means, jnp.asarray(logits))
    np.testing.assert_allclose(own, nc4(jnp.asarray(features), jnp.asarray(labels), 3, jnp.asarray(logits)))
    moved = decision_mismatch(jnp.asarray(features), means[::-1], jnp.asarray(logits))
    true = (
        np.argmax(logits, 1) != 2 - collapse_oracles.nearest_class_mean(features, np.asarray(means))
    ).mean()
    np.testing.assert_allclose(moved, true)
    assert moved != own


def test_a_class_without_points_is_nearest_to_none():
    # An absent class has mean 0 in the statistics, where these points lie.
    features, labels = class_clouds((5, 5), 3, spread=0.1, means=np.array([[0.1, 0, 0], [-0.1, 0, 0]]))
    logits = jnp.asarray(np.eye(3)[labels])
    with_gap = nc4(jnp.asarray(features), jnp.asarray(labels), 3, logits)
    assert with_gap == nc4(jnp.asarray(features), jnp.asarray(labels), 2, logits[:, :2])


def test_nc4_runs_under_vmap_and_its_gradient_is_zero():
    features, labels, logits = map(jnp.asarray, case())
    stack = jnp.stack([features, features[::-1]])
    batched = jax.vmap(lambda f: nc4(f, labels, 3, logits))(stack)
    np.testing.assert_array_equal(batched, [nc4(f, labels, 3, logits) for f in stack])
    np.testing.assert_array_equal(jax.grad(lambda f: nc4(f, labels, 3, logits))(features), 0 * features)


def test_logits_and_labels_that_do_not_fit_are_refused():
    features, labels, logits = map(jnp.asarray, case())
    match = r"logits must have shape \(28, 3\): got \(28, 2\)"
    with as_a_user(), pytest.raises(ValueError, match=match):
        nc4(features, labels, 3, logits[:, :2])
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.2: got 1 outside, the first 3 at row 4"):
        nc4(features, labels.at[4].set(3), 3, logits)


@pytest.mark.parametrize("where", ["features", "logits"])
def test_points_that_nobody_decides_are_refused_and_nan_under_a_trace(where):
    features, labels, logits = map(jnp.asarray, case())
    stats = class_stats(features, labels, 3)
    bad = {"features": features, "logits": logits}
    bad[where] = bad[where].at[5, 1].set(jnp.nan)
    named = "features" if where == "features" else "(classifier or )?logits"
    message = rf"{named} must be finite: got 1 NaN or infinite values in 1 rows, the first in row 5"

    def of_points(metric):
        return lambda features, logits: metric(features, labels, 3, logits)

    for measure in (
        of_points(nc4),
        of_points(nc4_per_class),
        lambda features, logits: decision_mismatch(features, stats, logits),
    ):
        with pytest.raises(ValueError, match=message):
            measure(**bad)
        assert np.all(np.isnan(jax.jit(measure)(**bad)))
    if where == "features":
        with pytest.raises(ValueError, match=message):
            nearest_class_mean(bad["features"], stats)
        found = jax.jit(nearest_class_mean)(bad["features"], stats)
        assert found[5] == -1
        assert np.sum(found == -1) == 1


def test_masked_logits_decide():
    features, labels, logits = map(jnp.asarray, case())
    masked = jnp.where(logits < 0, -jnp.inf, logits)
    assert nc4(features, labels, 3, masked) == nc4(features, labels, 3, logits)


def test_shapes_and_dtypes_that_no_decision_can_be_made_of_are_refused():
    features, labels, logits = map(jnp.asarray, case())
    with as_a_user(), pytest.raises(ValueError, match=r"features must have 6 columns: got shape \(28, 5\)"):
        nearest_class_mean(features[:, :5], features[:3])
    with (
        as_a_user(),
        pytest.raises(ValueError, match=r"class_means must be a matrix of floats: got shape \(6,\)"),
    ):
        decision_mismatch(features, features[0], logits)
    with (
        as_a_user(),
        pytest.raises(ValueError, match="features must be floats and labels integers: got uint8"),
    ):
        nc4(features.astype("uint8"), labels, 3, logits)
    with as_a_user(), pytest.raises(ValueError, match=r"labels integers: got float64 and float32"):
        nc4(features, labels.astype("float32"), 3, logits)
    with pytest.raises(ValueError, match="layers must hold the features of at least one layer: got none"):
        ncc_accuracy_by_depth([], labels, 3)


@pytest.mark.parametrize("num_rows", [41, 1000, 3000, 50_001])
def test_of_all_points_the_share_is_exactly_one(num_rows):
    labels = jnp.arange(num_rows) % 2
    features = (2 * labels[:, None] - 1).astype(jnp.float32)
    logits = jnp.concatenate([-features, features], axis=1)
    stats = class_stats(features, labels, 2)
    assert ncc_accuracy(features, labels, 2) == collapse_metrics(features, labels, 2).ncc_accuracy == 1
    for shown, mismatch in ((logits, 0), (-logits, 1)):
        assert nc4(features, labels, 2, shown) == mismatch
        assert jax.jit(decision_mismatch)(features, stats, shown) == mismatch
        assert jax.jit(accuracy)(shown, labels) == 1 - mismatch
