from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dnc_jax
from dnc_jax import nc2, nc2_gram_mse
from tests import collapse_oracles
from tests.builders import assert_close, class_clouds, rtol, simplex_means
from tests.instances import DTYPES


@pytest.mark.parametrize("name", ["nc2", "nc2_gram_mse"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("num_classes", "dim"), [(2, 3), (4, 9), (10, 3)])
def test_nc2_is_the_oracle(name, dtype, num_classes, dim):
    features, labels = class_clouds(range(2, 2 + num_classes), dim, spread=0.3, offset=1.0)
    features = features.astype(dtype)
    got = getattr(dnc_jax, name)(jnp.asarray(features), jnp.asarray(labels), num_classes)
    true = getattr(collapse_oracles, name)(features, labels, num_classes)
    assert abs(float(got) - true) <= rtol(dtype, "product") * max(true, 1e-3)
    assert got.dtype == dtype


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("num_classes", "dim"), [(3, 2), (10, 9), (10, 40)])
def test_an_exact_simplex_is_fully_collapsed(dtype, num_classes, dim):
    means = 2.5 * simplex_means(num_classes, dim) + 0.5
    features, labels = class_clouds(range(1, 1 + num_classes), dim, spread=0.0, means=means)
    features, labels = jnp.asarray(features, dtype), jnp.asarray(labels)
    rounding = 64 * float(jnp.finfo(dtype).eps)
    for metric in (dnc_jax.nc1, dnc_jax.nc1_trace_ratio, nc2_gram_mse):
        assert 0 <= float(metric(features, labels, num_classes)) < rounding**2
    assert 0 <= float(nc2(features, labels, num_classes)) < rounding


def test_nc2_is_vacuous_for_two_classes():
    features, labels = class_clouds((5, 9), 4, spread=1.0)
    assert float(nc2(jnp.asarray(features), jnp.asarray(labels), 2)) < 1e-14


def test_nc2_of_means_on_a_line_is_known_by_hand():
    # Three means on a line at -1, 0 and 1 moved off it by t: cosines tend to +-1 and the middle one's to 0.
    features = jnp.asarray([[-1.0, 1.0], [0.0, -2.0], [1.0, 1.0]])
    gram = np.array([[1, -np.sqrt(0.5), 0], [-np.sqrt(0.5), 1, -np.sqrt(0.5)], [0, -np.sqrt(0.5), 1]])
    simplex = 1.5 * (np.eye(3) - 1 / 3)
    labels = jnp.arange(3)
    np.testing.assert_allclose(nc2_gram_mse(features, labels, 3), ((gram - simplex) ** 2).mean(), rtol=1e-13)
    expected = np.linalg.norm(gram / np.linalg.norm(gram) - simplex / np.linalg.norm(simplex))
    np.testing.assert_allclose(nc2(features, labels, 3), expected, rtol=1e-13)


def test_the_lengths_of_the_means_do_not_matter_but_their_angles_do():
    means = simplex_means(5, 8)
    lengths = np.array([1.0, 2.0, 3.0, 0.5, 1.0])[:, None]
    features, labels = jnp.asarray(means * lengths), jnp.arange(5)
    # Unequal lengths move the center of the means and so the angles seen from it.
    assert float(nc2(features, labels, 5)) > 1e-2
    assert float(nc2(jnp.asarray(means), labels, 5)) < 1e-14


def test_each_class_counts_once_however_many_points_it_has():
    features, labels = class_clouds((4, 4, 4), 5, spread=0.2)
    repeated = np.concatenate([np.arange(12), np.repeat(np.flatnonzero(labels == 0), 9)])
    for metric in (nc2, nc2_gram_mse):
        once = metric(jnp.asarray(features), jnp.asarray(labels), 3)
        often = metric(jnp.asarray(features[repeated]), jnp.asarray(labels[repeated]), 3)
        np.testing.assert_allclose(often, once, rtol=1e-12)


def test_nc2_of_absent_classes_is_that_of_the_present():
    features, labels = class_clouds((6, 7, 8), 6, spread=0.3)
    for metric in (nc2, nc2_gram_mse):
        with_gaps = metric(jnp.asarray(features), jnp.asarray(np.array([0, 2, 3])[labels]), 5)
        assert_close(with_gaps, metric(jnp.asarray(features), jnp.asarray(labels), 3), np.float64, "entry")


@pytest.mark.parametrize("name", ["nc2", "nc2_gram_mse"])
@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_gradients_are_finite_also_at_an_exact_simplex(name, spread):
    features, labels = class_clouds([3] * 6, 8, spread=spread, means=simplex_means(6, 8))
    measure = partial(getattr(dnc_jax, name), labels=jnp.asarray(labels), num_classes=6)
    assert np.all(np.isfinite(jax.jit(jax.grad(measure))(jnp.asarray(features))))
    # And where a class mean is the center of all.
    centered = jnp.asarray(np.concatenate([np.eye(6)[:5, :], np.full((1, 6), 0.2) * (np.arange(6) < 5)]))
    measure = partial(getattr(dnc_jax, name), labels=jnp.arange(6), num_classes=6)
    assert np.all(np.isfinite(jax.jit(jax.grad(measure))(centered)))
