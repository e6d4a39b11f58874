"""What metrics say where nothing can be measured: errors for values that can be read, NaN under a trace."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dnc_jax
from dnc_jax import NumericalError, class_stats, collapse_metrics, nc1, nc2, nc3, nc4, simplex_etf
from tests.builders import as_a_user, class_clouds
from tests.instances import CLASSIFIER_METRICS, METRICS

COUNTS = (5, 9, 3, 7)


def data():
    features, labels = class_clouds(COUNTS, 6, spread=0.4)
    return jnp.asarray(features), jnp.asarray(labels)


@pytest.mark.parametrize("case", METRICS)
def test_values_that_nothing_can_be_measured_on_are_explained(case):
    features, labels = data()
    for bad, message in (
        (
            features.at[7, 2].set(jnp.nan),
            r"features must be finite: got 1 NaN or infinite values in 1 rows, the first in row 7",
        ),
        (features.at[3].set(jnp.inf), r"features must be finite: got 6 .* row 3"),
    ):
        with pytest.raises(ValueError, match=message):
            case.metric(bad, labels, 4)
        assert not np.isfinite(case.jitted(bad, labels, 4))
    with pytest.raises(ValueError, match=r"labels must name at least 2 classes .* got 1 of 4 in 24 points"):
        case.metric(features, jnp.full(24, 2), 4)
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.3: got 2 outside, the first 4 at row 1"):
        case.metric(features, labels.at[1].set(4).at[2].set(-1), 4)
    with pytest.raises(ValueError, match=r"num_classes must be at least 2 for a collapse metric: got 1"):
        case.metric(features, labels * 0, 1)
    with as_a_user(), pytest.raises(ValueError, match=r"shapes \(n, d\) and \(n,\): got \(24, 3, 2\)"):
        case.metric(features.reshape(24, 3, 2), labels, 4)


@pytest.mark.parametrize("name", ["nc1", "nc1_trace_ratio", "nc2", "nc2_gram_mse", "nc2_equinorm"])
def test_class_means_that_coincide_are_no_perfect_simplex(name):
    features, _ = data()
    metric = getattr(dnc_jax, name)
    twice, labels = jnp.concatenate([features, features]), jnp.repeat(jnp.arange(2), 24)
    with pytest.raises(NumericalError, match=r"class means of 48 points of 2 classes coincide in float64"):
        metric(twice, labels, 2)
    assert not np.isfinite(jax.jit(metric, static_argnames="num_classes")(twice, labels, 2))


@pytest.mark.parametrize("case", CLASSIFIER_METRICS)
def test_a_classifier_of_another_shape_is_refused(case):
    features, labels = data()
    with as_a_user(), pytest.raises(ValueError, match=r"classifier must have shape \(6, 4\): got \(4, 6\)"):
        case.metric(features, labels, 4, jnp.ones((4, 6)))


def test_logits_of_another_shape_are_refused():
    features, labels = data()
    for metric in (nc4, dnc_jax.nc4_per_class):
        with as_a_user(), pytest.raises(ValueError, match=r"logits must have shape \(24, 4\): got \(24, 5\)"):
            metric(features, labels, 4, jnp.ones((24, 5)))
    with pytest.raises(NumericalError, match="nothing can be measured"):
        nc3(features, labels, 4, jnp.zeros((6, 4)))


@pytest.mark.parametrize("scale", [1e-30, 1e18])
def test_no_scale_of_float32_is_taken_for_collapse(scale):
    features, labels = data()
    small = (features * scale).astype(jnp.float32)
    for metric in (nc1, nc2):
        np.testing.assert_allclose(metric(small, labels, 4), metric(features, labels, 4), rtol=1e-4)


def test_a_simplex_is_a_simplex_and_needs_room():
    for num_classes, dim in ((2, 1), (5, 4), (10, 32)):
        simplex = simplex_etf(jax.random.key(1), num_classes, dim)
        projection = (np.eye(num_classes) - 1 / num_classes) * num_classes / (num_classes - 1)
        np.testing.assert_allclose(simplex @ simplex.T, projection, atol=1e-14)
        np.testing.assert_allclose(simplex.sum(axis=0), 0, atol=1e-14)
        frame = np.linalg.eigvalsh(simplex.T @ simplex)[1 - num_classes :]
        np.testing.assert_allclose(frame, num_classes / (num_classes - 1), rtol=1e-12)
    assert simplex_etf(jax.random.key(1), 3, 4, dtype=jnp.dtype("float32")).dtype == jnp.float32
    with pytest.raises(ValueError, match=r"dim must be at least num_classes - 1 = 9 .* got 8"):
        simplex_etf(jax.random.key(0), 10, 8)
    with pytest.raises(ValueError, match=r"num_classes must be at least 2"):
        simplex_etf(jax.random.key(0), 1, 8)


def test_the_summary_holds_what_the_functions_give():
    features, labels = data()
    rng = np.random.default_rng(0)
    classifier, logits = jnp.asarray(rng.normal(size=(6, 4))), jnp.asarray(rng.normal(size=(24, 4)))
    found = collapse_metrics(features, labels, 4, classifier, logits)
    for name, value in found._asdict().items():
        operand = {"nc3": (classifier,), "nc4": (logits,)}.get(name[:3], ())
        np.testing.assert_allclose(value, getattr(dnc_jax, name)(features, labels, 4, *operand), rtol=1e-11)
    without = collapse_metrics(features, labels, 4)
    assert without.nc3 is None
    assert without.nc4 is None
    # Two classes at one place: CDNV is undefined, the others stand.
    merged = collapse_metrics(jnp.where((labels == 1)[:, None], features[:1], features[labels]), labels, 4)
    assert np.isfinite(merged.nc1_trace_ratio)
    assert not np.isfinite(merged.nc1_cdnv)
    with pytest.raises(ValueError, match="features must be finite"):
        collapse_metrics(features.at[0, 0].set(jnp.nan), labels, 4)


def test_imbalanced_classes_by_either_global_mean():
    features, labels = class_clouds((2, 30, 4), 5, spread=0.5)
    stats = class_stats(jnp.asarray(features), jnp.asarray(labels), 3)
    for global_mean, center in (
        (dnc_jax.of_classes, np.asarray(stats.means).mean(axis=0)),
        (dnc_jax.of_points, features.mean(axis=0)),
    ):
        centered = np.asarray(stats.means) - center
        between = centered.T @ centered / 3
        residuals = features - np.asarray(stats.means)[labels]
        within = residuals.T @ residuals / len(labels)
        found = nc1(jnp.asarray(features), jnp.asarray(labels), 3, global_mean=global_mean)
        true = np.trace(within @ np.linalg.pinv(between, rcond=1e-10, hermitian=True)) / 3
        np.testing.assert_allclose(found, true, rtol=1e-10)
        ratio = dnc_jax.nc1_trace_ratio_from_stats(stats, global_mean=global_mean)
        np.testing.assert_allclose(ratio, np.trace(within) / np.trace(between), rtol=1e-12)
