"""Class statistics: counts, means and within-class scatter, in two passes or merged from parts.

Conventions of every metric: Sigma_W averages over all points, mu_G is the mean of the class means, and
Sigma_B averages over classes. A class without points is left out of mu_G and Sigma_B.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dnc_jax.linalg import matmul
from dnc_jax.types import is_concrete


class ClassStats(NamedTuple):
    """What the labeled points of each class amount to.

    counts (k,) points, means (k, d) with zeros for a class without points, and within (k,), the sum of
    squared distances of a class's points to their mean.
    """

    counts: Float[Array, "k"]
    means: Float[Array, "k d"]
    within: Float[Array, "k"]


def class_stats(features: Float[Array, "n d"], labels: Int[Array, "n"], num_classes: int) -> ClassStats:
    """Returns the statistics of each class, computed in two passes: means first, then residuals.

    Raises:
        ValueError: If shapes disagree, num_classes is below 1, or labels, where their values can be read,
            lie outside 0..num_classes - 1. Under a trace a label out of range belongs to no class.
    """
    check_labeled(features, labels, num_classes)
    members = jax.nn.one_hot(labels, num_classes, dtype=features.dtype)
    counts = jnp.sum(members, axis=0)
    means = matmul(members.T, features) / jnp.maximum(counts, 1)[:, None]
    squared = jnp.sum((features - means[labels]) ** 2, axis=1)
    return ClassStats(counts, means, matmul(squared, members))


def merge(a: ClassStats, b: ClassStats) -> ClassStats:
    """Returns the statistics of the union of two disjoint sets of points.

    References:
        Chan, Golub and LeVeque (1983), Eq. 2.1.
    """
    counts = a.counts + b.counts
    share = b.counts / jnp.maximum(counts, 1)
    difference = b.means - a.means
    between = a.counts * share * jnp.sum(difference**2, axis=1)
    return ClassStats(counts, a.means + share[:, None] * difference, a.within + b.within + between)


def residuals(
    features: Float[Array, "n d"], labels: Int[Array, "n"], stats: ClassStats
) -> Float[Array, "n d"]:
    """Returns every point minus the mean of its class."""
    return features - stats.means[labels]


def present(stats: ClassStats) -> Bool[Array, "k"]:
    """Returns which classes have points."""
    return stats.counts > 0


def centered_means(stats: ClassStats) -> Float[Array, "k d"]:
    """Returns mu_k - mu_G, with mu_G the mean of the means of the classes present; absent classes 0."""
    mask = present(stats).astype(stats.means.dtype)[:, None]
    global_mean = jnp.sum(stats.means * mask, axis=0, keepdims=True) / jnp.sum(mask)
    return (stats.means - global_mean) * mask


def check_labeled(features: Float[Array, "n d"], labels: Int[Array, "n"], num_classes: int) -> None:
    """Raises ValueError for features and labels that do not belong together."""
    if features.ndim != 2 or labels.ndim != 1 or features.shape[0] != labels.shape[0]:
        raise ValueError(
            f"features and labels must have shapes (n, d) and (n,): got {features.shape} and {labels.shape}"
        )
    if features.shape[0] == 0 or num_classes < 1:
        raise ValueError(
            f"features and num_classes must describe at least one point and one class: got "
            f"{features.shape[0]} points and num_classes {num_classes}"
        )
    if is_concrete(labels):
        _check_range(np.asarray(labels), num_classes)


def _check_range(labels: np.ndarray, num_classes: int) -> None:
    outside = (labels < 0) | (labels >= num_classes)
    if outside.any():
        raise ValueError(
            f"labels must lie in 0..{num_classes - 1}: got {int(outside.sum())} outside, the first "
            f"{int(labels[outside][0])} at row {int(np.flatnonzero(outside)[0])}; relabel them"
        )


def check_several_classes(num_classes: int) -> None:
    """Raises ValueError for fewer than two classes, between which nothing can be measured."""
    if num_classes < 2:
        raise ValueError(f"num_classes must be at least 2 for a collapse metric: got {num_classes}")
