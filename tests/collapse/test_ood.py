"""Scores for points of no class, and the attribution of collapse to stages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnc_jax import (
    NumericalError,
    Stages,
    centered_neco_score,
    class_stats,
    collapse_attribution,
    nc1,
    nc1_trace_ratio,
    nc5,
    ncc_accuracy,
    ncc_accuracy_by_depth,
    neco_score,
    principal_directions,
    simplex_distance_score,
)
from tests.builders import as_a_user, class_clouds, simplex_means


def test_nc5_is_the_mean_absolute_cosine_with_uncentered_means():
    rng = np.random.default_rng(0)
    means, foreign = rng.normal(size=(4, 6)) + 1, rng.normal(size=(30, 6)) - 1
    center = foreign.mean(axis=0)
    cosines = [m @ center / np.sqrt((m @ m) * (center @ center)) for m in means]
    np.testing.assert_allclose(
        nc5(jnp.asarray(means), jnp.asarray(foreign)), np.abs(cosines).mean(), rtol=1e-12
    )
    assert np.isfinite(jax.grad(nc5)(jnp.asarray(means), jnp.zeros((3, 6)))).all()
    with (
        as_a_user(),
        pytest.raises(ValueError, match=r"ood_features must have 6 columns: got shape \(3, 5\)"),
    ):
        nc5(jnp.asarray(means), jnp.ones((3, 5)))


def test_neco_is_the_share_of_the_norm_in_the_principal_directions():
    features, _ = class_clouds((20, 20, 20), 6, spread=0.01, means=3 * simplex_means(3, 6))
    directions = principal_directions(jnp.asarray(features), 2)
    centered = features - features.mean(axis=0)
    top = np.linalg.svd(centered)[2][:2]
    np.testing.assert_allclose(directions @ directions.T, top.T @ top, atol=1e-10)
    rows = np.random.default_rng(1).normal(size=(5, 6))
    true = np.linalg.norm(rows @ top.T, axis=1) / np.linalg.norm(rows, axis=1)
    np.testing.assert_allclose(neco_score(jnp.asarray(rows), directions), true, rtol=1e-9)
    assert np.all(neco_score(jnp.asarray(features), directions) > 0.99)
    np.testing.assert_array_equal(neco_score(jnp.zeros((2, 6)), directions), 0)
    assert np.isfinite(jax.grad(lambda x: jnp.sum(neco_score(x, directions)))(jnp.zeros((2, 6)))).all()
    with pytest.raises(ValueError, match=r"num_directions must lie in 1\.\.6, the dimension: got 7"):
        principal_directions(jnp.asarray(features), 7)


def test_centered_neco_leaves_the_mean_of_the_training_features_out():
    features, _ = class_clouds((20, 20, 20), 6, spread=0.01, means=3 * simplex_means(3, 6) + 4)
    directions, center = principal_directions(jnp.asarray(features), 2), jnp.asarray(features.mean(axis=0))
    scores = centered_neco_score(jnp.asarray(features), directions, center)
    moved = features - features.mean(axis=0)
    true = np.linalg.norm(moved @ np.asarray(directions), axis=1) / np.linalg.norm(moved, axis=1)
    np.testing.assert_allclose(scores, true, rtol=1e-9)
    assert np.all(np.asarray(scores) > 0.99)
    assert np.all(np.asarray(neco_score(jnp.asarray(features), directions)) < 0.9)
    with as_a_user(), pytest.raises(ValueError, match=r"center must have shape \(6,\): got \(5,\)"):
        centered_neco_score(jnp.asarray(features), directions, jnp.zeros(5))


def test_simplex_distances_are_in_units_of_its_radius():
    means = 5 * simplex_means(4, 6)
    features, labels = class_clouds((6, 6, 6, 6), 6, spread=0.0, means=means)
    stats = class_stats(jnp.asarray(features), jnp.asarray(labels), 6)
    points = np.concatenate([means, means.mean(axis=0, keepdims=True), 3 * means[:1]])
    np.testing.assert_allclose(
        simplex_distance_score(jnp.asarray(points), stats), [0, 0, 0, 0, 1, 2], atol=1e-12
    )


def test_attribution_adds_up_to_the_layer():
    rng = np.random.default_rng(0)
    features, labels = class_clouds((9, 9, 9), 5, spread=0.5)
    x, labels = jnp.asarray(features), jnp.asarray(labels)
    stages = Stages(x, x @ jnp.asarray(rng.normal(size=(5, 4))), jnp.tanh(x))
    for metric in (nc1, nc1_trace_ratio):
        linear, nonlinear = collapse_attribution(stages, labels, 3, metric)
        whole = jnp.log10(metric(x, labels, 3) / metric(stages.nonlinear, labels, 3))
        np.testing.assert_allclose(linear + nonlinear, whole, rtol=1e-10)
        np.testing.assert_allclose(10**-linear, metric(stages.linear, labels, 3) / metric(x, labels, 3))


def test_nearest_class_mean_accuracy_by_depth():
    layers = [class_clouds((9, 9, 9), dim, spread=spread) for dim, spread in ((5, 3.0), (4, 0.01))]
    labels = jnp.asarray(layers[0][1])
    found = ncc_accuracy_by_depth([jnp.asarray(features) for features, _ in layers], labels, 3)
    assert found.shape == (2,)
    assert found[0] == ncc_accuracy(jnp.asarray(layers[0][0]), labels, 3) < found[1] == 1


def test_what_no_score_can_be_made_of_is_refused():
    means = jnp.asarray(simplex_means(4, 6))
    with pytest.raises(
        ValueError, match="ood_features must be finite: got 2 NaN or infinite values in 1 rows"
    ):
        nc5(means, jnp.ones((3, 6)).at[1, 2:4].set(jnp.inf))
    with pytest.raises(ValueError, match="ood_features must hold at least one point: got none"):
        nc5(means, jnp.ones((0, 6)))
    for call in (
        lambda: nc5(means[0], jnp.ones((3, 6))),
        lambda: neco_score(means[0], jnp.eye(6)),
        lambda: principal_directions(means[0], 2),
    ):
        with as_a_user(), pytest.raises(ValueError, match=r"must be a matrix of floats: got shape \(6,\)"):
            call()
    together = class_stats(jnp.ones((4, 6)), jnp.arange(4), 4)
    with pytest.raises(
        NumericalError, match="the 4 class means must not all coincide: got a simplex of radius 0"
    ):
        simplex_distance_score(means, together)
    assert np.all(np.isnan(jax.jit(simplex_distance_score)(means, together)))
