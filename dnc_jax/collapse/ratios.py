"""Scalar forms of NC1: within-class variance over between-class, total, or pairwise distance."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dnc_jax.chunking import sum_rows
from dnc_jax.collapse.measuring import measure_stats
from dnc_jax.collapse.statistics import (
    ClassStats,
    GlobalMean,
    centered_means,
    class_stats,
    mean_rounding,
    num_present,
    of_classes,
    of_points,
    present,
)
from dnc_jax.collapse.tiles import rows_per_tile
from dnc_jax.linalg import squared_distances


def nc1_trace_ratio(
    features: Float[Array, "n d"],
    labels: Int[Array, "n"],
    num_classes: int,
    *,
    global_mean: GlobalMean = of_classes,
) -> Float[Array, ""]:
    """Returns tr(Sigma_W) / tr(Sigma_B): mean squared distance to the class mean over that of the means.

    The released Deep RFM code divides Sigma_W by K n instead of n: its values are K times smaller.

    Raises:
        ValueError: If num_classes is below 2, or the labels do not fit.
        NumericalError: If all class means coincide.
    """
    return measure_stats(nc1_trace_ratio_from_stats, features, labels, num_classes, global_mean=global_mean)


def nc1_trace_ratio_from_stats(
    stats: ClassStats, *, global_mean: GlobalMean = of_classes
) -> Float[Array, ""]:
    """Returns `nc1_trace_ratio` of points by their statistics; NaN if all class means coincide."""
    within = jnp.sum(stats.within) / jnp.sum(stats.counts)
    between = jnp.sum(centered_means(stats, global_mean) ** 2) / num_present(stats)
    return within / between


def nc1_within_fraction(
    features: Float[Array, "n d"], labels: Int[Array, "n"], num_classes: int
) -> Float[Array, ""]:
    """Returns tr(Sigma_W) / tr(Sigma_T), the share of the variance of all points that is within classes.

    Sigma_T is the covariance of all points about their own mean. Between 0, collapse, and 1, no class
    structure at all.

    Raises:
        ValueError: If num_classes is below 2, or the labels do not fit.
        NumericalError: If all points coincide.
    """
    return measure_stats(nc1_within_fraction_from_stats, features, labels, num_classes)


def nc1_within_fraction_from_stats(stats: ClassStats) -> Float[Array, ""]:
    """Returns `nc1_within_fraction` of points by their statistics; NaN if all points coincide."""
    squared = jnp.sum(centered_means(stats, of_points) ** 2, axis=1)
    within = jnp.sum(stats.within)
    total = within + jnp.sum(stats.counts * squared)
    return jnp.where(num_present(stats) >= 2, within / total, jnp.nan)


def nc1_cdnv(features: Float[Array, "n d"], labels: Int[Array, "n"], num_classes: int) -> Float[Array, ""]:
    """Returns the class-distance normalized variance, the mean over pairs of classes of `cdnv_matrix`.

    Raises:
        ValueError: If num_classes is below 2, or the labels do not fit.
        NumericalError: If two class means coincide.

    References:
        Galanti, György and Hutter (2022), Definition of the CDNV.
    """
    return measure_stats(nc1_cdnv_from_stats, features, labels, num_classes)


def nc1_cdnv_from_stats(stats: ClassStats) -> Float[Array, ""]:
    """Returns `nc1_cdnv` by class statistics, in tiles of pairs; not finite if two means coincide."""

    def tile_sum(classes: Int[Array, "b"]) -> Float[Array, ""]:
        return jnp.sum(_cdnv_rows(stats, classes))

    num_classes = stats.counts.shape[0]
    total = sum_rows(tile_sum, jnp.arange(num_classes), rows_per_tile(num_classes))
    count = num_present(stats)
    return total / (count * (count - 1))


def cdnv_matrix(stats: ClassStats) -> Float[Array, "k k"]:
    """Returns (v_i + v_j) / (2 |mu_i - mu_j|^2) for each pair of classes, v the mean |x - mu|^2 of a class.

    The diagonal and pairs with an absent class are 0.
    """
    return _cdnv_rows(stats, jnp.arange(stats.counts.shape[0]))


def _cdnv_rows(stats: ClassStats, classes: Int[Array, "b"]) -> Float[Array, "b k"]:
    variances = stats.within / jnp.maximum(stats.counts, 1)
    squared = squared_distances(stats.means[classes], stats.means)
    squared = jnp.where(squared <= mean_rounding(stats) ** 2, 0.0, squared)
    mask = present(stats)
    is_pair = (
        (classes[:, None] != jnp.arange(mask.shape[0])[None, :]) & mask[classes][:, None] & mask[None, :]
    )
    ratios = (variances[classes][:, None] + variances[None, :]) / (2 * jnp.where(is_pair, squared, 1.0))
    return jnp.where(is_pair, ratios, 0.0)


def within_class_rounding(
    features: Float[Array, "n d"], labels: Int[Array, "n"], num_classes: int
) -> Float[Array, ""]:
    """Returns eps mean(|x|^2) / tr(Sigma_W): the relative rounding error of distances within a class.

    A squared distance computed as |x|^2 + |z|^2 - 2 x.z is off by about eps |x|^2. Where points have
    collapsed until this ratio is no longer small, whatever is made of their distances is rounding; infinite
    where every point is its class mean. One class will do.
    """
    stats = class_stats(features, labels, num_classes)
    eps = jnp.finfo(features.dtype).eps
    return eps * jnp.sum(features * features) / jnp.sum(stats.within)
