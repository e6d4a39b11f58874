"""Many classes of which few have points: as if the others did not exist, and as exact."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dnc_jax
from dnc_jax import class_stats, decision_mismatch, nc5, nearest_class_mean, simplex_etf
from tests import collapse_oracles
from tests.builders import class_clouds
from tests.instances import DTYPES

# More names of classes than the features have dimensions, so that a simplex of all would have no room.
NUM_CLASSES = 30
NAMES = np.array([3, 7, 8, 20, 29])


def wide_classifier(classifier):
    wide = np.ones((classifier.shape[0], NUM_CLASSES), classifier.dtype)
    wide[:, NAMES] = classifier
    return jnp.asarray(wide)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["nc2", "nc2_gram_mse", "nc3"])
def test_a_simplex_of_the_classes_present_is_exact(name, dtype):
    simplex = simplex_etf(jax.random.key(0), 5, 10, dtype=dtype)
    operands = (wide_classifier(np.asarray(simplex).T),) if name == "nc3" else ()
    metric = jax.jit(getattr(dnc_jax, name), static_argnums=2)
    value = metric(simplex, jnp.asarray(NAMES), NUM_CLASSES, *operands)
    assert 0 <= value < 16 * float(jnp.finfo(dtype).eps)
    gradient = jax.grad(metric)(simplex, jnp.asarray(NAMES), NUM_CLASSES, *operands)
    assert bool(jnp.all(jnp.isfinite(gradient)))


@pytest.mark.parametrize("dim", [2, 4, 10])
@pytest.mark.parametrize("name", ["nc1", "nc2", "nc2_gram_mse", "nc3"])
def test_few_of_many_classes_are_the_oracle(name, dim):
    # Five classes present: K > d + 1, = d + 1 and below it.
    features, labels = class_clouds((5, 9, 3, 7, 4), dim, spread=0.4)
    classifier = np.random.default_rng(0).normal(size=(dim, 5))
    operands = ((classifier,), (wide_classifier(classifier),)) if name == "nc3" else ((), ())
    true = getattr(collapse_oracles, name)(features, labels, 5, *operands[0])

    def measure(features):
        return getattr(dnc_jax, name)(features, jnp.asarray(NAMES[labels]), NUM_CLASSES, *operands[1])

    np.testing.assert_allclose(measure(jnp.asarray(features)), true, rtol=1e-11)
    np.testing.assert_allclose(jax.vmap(measure)(jnp.asarray(features)[None]), [true], rtol=1e-11)


def test_statistics_know_which_classes_may_decide_and_plain_means_do_not():
    # Far from the origin, at which the statistics hold the means of classes without points.
    means = np.array([[0.1, 0, 0], [-0.1, 0, 0]])
    features, labels = class_clouds((5, 5), 3, spread=0.01, means=means)
    held_out, names = jnp.asarray(features[::-1] * 0.3), jnp.asarray(labels[::-1].copy())
    stats = class_stats(jnp.asarray(features), jnp.asarray(labels), 3)
    logits = jnp.asarray(np.eye(3)[np.asarray(names)])
    np.testing.assert_array_equal(nearest_class_mean(held_out, stats), names)
    assert decision_mismatch(held_out, stats, logits) == 0
    np.testing.assert_array_equal(nearest_class_mean(held_out, stats.means), 2)
    np.testing.assert_allclose(nc5(stats, held_out), nc5(stats.means[:2], held_out))
    nobody = stats._replace(counts=0 * stats.counts)
    for call in (lambda: nearest_class_mean(held_out, nobody), lambda: nc5(nobody, held_out)):
        with pytest.raises(
            ValueError, match="class_means must hold at least one class with points: got none"
        ):
            call()
