"""Class statistics: counts, means and within-class scatter, in two passes or merged from parts.

Conventions of every metric: Sigma_W averages over all points, mu_G is the mean of the class means, and
Sigma_B averages over classes. A class without points is left out of mu_G and Sigma_B; K counts the others.
Where classes are imbalanced, global_mean=of_points puts the mean of all points in the place of mu_G.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dnc_jax.checks import check_matrix
from dnc_jax.collapse.checks import check_labeled
from dnc_jax.linalg import matmul

# A class sum adds at most about this many rows one after the other, then the partial sums: in float32 the
# rounding of one long sum would reach 1e-4 of the mean.
ROWS_PER_SUM = 64
# Class means that differ by no more than this many roundings of their largest entry coincide.
COINCIDENCE_UNITS = 16.0
# Up to this many classes a product with one-hot rows is faster than a gather.
ONE_HOT_CLASSES = 64


class ClassStats(NamedTuple):
    """What the labeled points of each class amount to.

    counts (k,) points, means (k, d) with zeros for a class without points, and within (k,), the sum of
    squared distances of a class's points to their mean. All that NC2, NC3, NC4, CDNV and the trace ratios
    need; NC1 by pseudo-inverse needs the points once more, or their scatter matrix.
    """

    counts: Float[Array, "k"]
    means: Float[Array, "k d"]
    within: Float[Array, "k"]


ClassMeans: TypeAlias = Float[Array, "k d"] | ClassStats
"""Class means (k, d), every row that of a class; or statistics, which know the classes without points."""


def class_stats(features: Float[Array, "n d"], labels: Int[Array, "n"], num_classes: int) -> ClassStats:
    """Returns the statistics of each class, computed in two passes: means first, then residuals.

    Raises:
        ValueError: If shapes disagree, num_classes is below 1, or labels, where their values can be read,
            lie outside 0..num_classes - 1. Under a trace a label out of range makes every count NaN.
    """
    check_labeled(features, labels, num_classes)
    counts, means = _counts_and_means(features, labels, num_classes)
    squared = jnp.sum((features - rows_of_class(means, labels)) ** 2, axis=1)
    return ClassStats(counts, means, class_sums(squared[:, None], labels, num_classes)[:, 0])


def class_counts_and_means(
    features: Float[Array, "n d"], labels: Int[Array, "n"], num_classes: int
) -> ClassStats:
    """Returns `class_stats` without its second pass: within is 0."""
    check_labeled(features, labels, num_classes)
    counts, means = _counts_and_means(features, labels, num_classes)
    return ClassStats(counts, means, jnp.zeros_like(counts))


def _counts_and_means(
    features: Float[Array, "n d"], labels: Int[Array, "n"], num_classes: int
) -> tuple[Float[Array, "k"], Float[Array, "k d"]]:
    ones = jnp.ones((features.shape[0], 1), features.dtype)
    counts = class_sums(ones, labels, num_classes)[:, 0]
    counts = counts + nan_if_out_of_range(labels, num_classes)
    return counts, class_sums(features, labels, num_classes) / jnp.maximum(counts, 1)[:, None]


def nan_if_out_of_range(labels: Int[Array, "n"], num_classes: int) -> Float[Array, ""]:
    """Returns 0, or NaN if a label is not in 0..num_classes - 1: for a trace, that cannot raise."""
    return jnp.where(jnp.all((labels >= 0) & (labels < num_classes)), 0.0, jnp.nan)


@partial(jax.jit, static_argnames="num_classes")
def class_sums(values: Float[Array, "n q"], labels: Int[Array, "n"], num_classes: int) -> Float[Array, "k q"]:
    """Returns the sum of the rows of values in each class."""

    def by_addition(values: Float[Array, "n q"], labels: Int[Array, "n"]) -> Float[Array, "k q"]:
        num_parts = max(1, values.shape[0] // (ROWS_PER_SUM * num_classes))
        part = jnp.arange(values.shape[0]) * num_parts // values.shape[0]
        sums = jax.ops.segment_sum(values, labels + num_classes * part, num_classes * num_parts)
        return jnp.sum(sums.reshape(num_parts, num_classes, -1), axis=0)

    def by_product(values: Float[Array, "n q"], labels: Int[Array, "n"]) -> Float[Array, "k q"]:
        return matmul(jax.nn.one_hot(labels, num_classes, dtype=values.dtype).T, values)

    # Accelerators add to few addresses slowly, and in any order; CPUs multiply by zeros slowly.
    on_accelerators = by_product if num_classes <= 1024 else by_addition
    return jax.lax.platform_dependent(values, labels, cpu=by_addition, default=on_accelerators)


def rows_of_class(per_class: Float[Array, "k q"], labels: Int[Array, "n"]) -> Float[Array, "n q"]:
    """Returns the row of each point's class."""
    if per_class.shape[0] <= ONE_HOT_CLASSES:
        return matmul(jax.nn.one_hot(labels, per_class.shape[0], dtype=per_class.dtype), per_class)
    return per_class[labels]


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
    return features - rows_of_class(stats.means, labels)


def present(stats: ClassStats) -> Bool[Array, "k"]:
    """Returns which classes have points."""
    return ~(stats.counts <= 0)


def means_and_presence(class_means: ClassMeans) -> tuple[Float[Array, "k d"], Bool[Array, "k"]]:
    """Returns the means (k, d) and which of them are those of a class with points.

    Raises:
        ValueError: If an array is not a matrix.
    """
    if isinstance(class_means, ClassStats):
        return class_means.means, present(class_means)
    check_matrix("class_means", class_means)
    return class_means, jnp.ones(class_means.shape[0], bool)


def num_present(stats: ClassStats) -> Float[Array, ""]:
    """Returns K, the number of classes with points, as a float; NaN below 2, between which nothing lies."""
    count = jnp.sum(jnp.where(stats.counts > 0, 1, stats.counts))
    return jnp.where(count < 2, jnp.nan, count)


def of_classes(stats: ClassStats) -> Float[Array, "k"]:
    """Returns the weights of the class means in mu_G if every class present counts alike: 1/K each."""
    return present(stats) / num_present(stats)


def of_points(stats: ClassStats) -> Float[Array, "k"]:
    """Returns the weights of the class means in mu_G if every point counts alike: n_k / N."""
    return stats.counts / jnp.sum(stats.counts)


GlobalMean: TypeAlias = Callable[[ClassStats], Float[Array, "k"]]
"""`of_classes` or `of_points`: which mean mu_G is where classes are imbalanced."""


def centered_means(stats: ClassStats, global_mean: GlobalMean = of_classes) -> Float[Array, "k d"]:
    """Returns mu_k - mu_G; 0 for a class without points, and for all if they differ by rounding alone."""
    center = matmul(global_mean(stats)[None, :], stats.means)
    means = jnp.where(present(stats)[:, None], stats.means - center, 0.0)
    return jnp.where(jnp.max(jnp.abs(means)) <= mean_rounding(stats), 0.0, means)


def mean_rounding(stats: ClassStats) -> Float[Array, ""]:
    """Returns the difference of two class means below which they coincide: rounding of their entries."""
    return COINCIDENCE_UNITS * jnp.finfo(stats.means.dtype).eps * jnp.max(jnp.abs(stats.means))
