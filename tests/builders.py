"""Seeded data for tests, and the one place that says how exact a result must be."""

from contextlib import contextmanager

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

# Relative tolerance by kind of computation, in units of rounding of the dtype.
#   entry       one formula per entry; product: sums over rows; solve: a well conditioned linear system;
#   collapsed   ratios of points that nearly coincide
UNITS = {"entry": 64, "product": 4096, "solve": 2.0**18, "collapsed": 2.0**26}


def rtol(dtype, kind):
    """Relative tolerance of a kind of computation; never more than two percent."""
    return min(UNITS[kind] * float(jnp.finfo(dtype).eps), 0.02)


def assert_close(actual, expected, dtype, kind):
    """Asserts |actual - expected| <= rtol * largest |expected|, and that actual has the dtype."""
    assert actual.dtype == dtype
    expected = np.asarray(expected, np.float64)
    error = np.max(np.abs(np.asarray(actual, np.float64) - expected), initial=0.0)
    limit = rtol(dtype, kind) * max(np.max(np.abs(expected)), np.finfo(np.float64).tiny)
    assert error <= limit, f"error {error:.2e} above {limit:.2e}"


def rotation(dim, seed=0):
    """A random orthogonal matrix."""
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, dim)))[0]


def with_spectrum(values, seed=0):
    """A symmetric matrix with the given eigenvalues."""
    q = rotation(len(values), seed)
    return (q * np.asarray(values)) @ q.T


def simplex_means(num_classes, dim, seed=0):
    """The k vertices of a centered simplex of unit vectors, in a random rotation of R^dim."""
    simplex = (np.eye(num_classes) - 1 / num_classes) * np.sqrt(num_classes / (num_classes - 1))
    basis = np.linalg.svd(simplex)[2][: num_classes - 1]
    embedded = np.zeros((num_classes, dim))
    embedded[:, : num_classes - 1] = simplex @ basis.T
    return embedded @ rotation(dim, seed)


def class_labels(counts, seed=0):
    """Labels with the given count of each class, in random order."""
    labels = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(seed).permutation(labels)


def class_clouds(counts, dim, *, spread, seed=0, means=None, offset=0.0):
    """Points around class means, random ones if none are given, and their labels: (n, d), (n,)."""
    rng = np.random.default_rng(seed)
    labels = class_labels(counts, seed)
    means = rng.normal(size=(len(counts), dim)) if means is None else means
    return means[labels] + offset + spread * rng.normal(size=(len(labels), dim)), labels


def with_duplicates(num_distinct, dim, copies=2, seed=0):
    """Every one of num_distinct random rows, copies times, shuffled."""
    rng = np.random.default_rng(seed)
    return rng.permutation(np.repeat(rng.normal(size=(num_distinct, dim)), copies, axis=0))


def one_hot_targets(labels, num_classes):
    """+1 at the class of the row and -1 elsewhere."""
    return 2.0 * np.eye(num_classes)[labels] - 1.0


@contextmanager
def as_a_user():
    """Switches off the tests' runtime type checks, so that the library's own messages are seen."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def over_devices(a):
    """The same array with its rows spread over all eight devices."""
    mesh = jax.make_mesh((jax.device_count(),), ("rows",), axis_types=(AxisType.Auto,))
    return jax.device_put(a, NamedSharding(mesh, PartitionSpec("rows")))


def without_values(fn):
    """fn under a trace, where no value can be read."""
    return jax.jit(lambda *args: fn(*args))
