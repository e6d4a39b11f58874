"""NC2 part by part: equal norms, equal angles, and how evenly many classes spread over the sphere."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dnc_jax.chunking import sum_rows
from dnc_jax.collapse.etf import mean_directions
from dnc_jax.collapse.measuring import measure_stats
from dnc_jax.collapse.statistics import (
    ClassStats,
    GlobalMean,
    centered_means,
    num_present,
    of_classes,
    present,
)
from dnc_jax.collapse.tiles import rows_per_tile
from dnc_jax.linalg import matmul, norm, safe_sqrt, squared_distances


def nc2_equinorm(
    features: Float[Array, "n d"],
    labels: Int[Array, "n"],
    num_classes: int,
    *,
    global_mean: GlobalMean = of_classes,
) -> Float[Array, ""]:
    """Returns the coefficient of variation over classes of |mu_k - mu_G|: std (ddof 1) over mean.

    Raises:
        ValueError: If num_classes is below 2, or the labels do not fit.
        NumericalError: If all class means coincide.

    References:
        Papyan, Han and Donoho (2020), Fig. 2.
    """
    return measure_stats(nc2_equinorm_from_stats, features, labels, num_classes, global_mean=global_mean)


def nc2_equinorm_from_stats(stats: ClassStats, *, global_mean: GlobalMean = of_classes) -> Float[Array, ""]:
    """Returns `nc2_equinorm` of points by their class means; NaN if all of them coincide."""
    norms = jax.vmap(norm)(centered_means(stats, global_mean))
    count = num_present(stats)
    mean = jnp.sum(norms) / count
    deviations = jnp.where(present(stats), norms - mean, 0.0)
    return norm(deviations) / jnp.sqrt(count - 1) / mean


def nc2_equiangularity(
    features: Float[Array, "n d"],
    labels: Int[Array, "n"],
    num_classes: int,
    *,
    global_mean: GlobalMean = of_classes,
) -> Float[Array, ""]:
    """Returns the mean over pairs of classes of |cos(mu_k - mu_G, mu_j - mu_G) + 1/(K-1)|.

    0 at the angle of a simplex, the largest that K vectors can share.

    Raises:
        ValueError: If num_classes is below 2, or the labels do not fit.
        NumericalError: If all class means coincide.

    References:
        Papyan, Han and Donoho (2020), Fig. 4 (maximal-angle equiangularity).
    """
    return measure_stats(
        nc2_equiangularity_from_stats, features, labels, num_classes, global_mean=global_mean
    )


def nc2_equiangularity_from_stats(
    stats: ClassStats, *, global_mean: GlobalMean = of_classes
) -> Float[Array, ""]:
    """Returns `nc2_equiangularity` of points by their class means, in tiles of pairs."""
    count = num_present(stats)
    total = sum_over_pairs(
        lambda cosines: jnp.abs(cosines + 1 / (count - 1)), mean_directions(stats, global_mean), stats
    )
    return total / (count * (count - 1))


def nc2_cosine_std(
    features: Float[Array, "n d"],
    labels: Int[Array, "n"],
    num_classes: int,
    *,
    global_mean: GlobalMean = of_classes,
) -> Float[Array, ""]:
    """Returns the standard deviation (ddof 1) of the cosines of the K (K-1) ordered pairs of classes.

    0 where all angles are equal, whatever they are. Always 0 for two classes.

    Raises:
        ValueError: If num_classes is below 2, or the labels do not fit.
        NumericalError: If all class means coincide.

    References:
        Papyan, Han and Donoho (2020), Fig. 3 (equiangularity).
    """
    return measure_stats(nc2_cosine_std_from_stats, features, labels, num_classes, global_mean=global_mean)


def nc2_cosine_std_from_stats(stats: ClassStats, *, global_mean: GlobalMean = of_classes) -> Float[Array, ""]:
    """Returns `nc2_cosine_std` of points by their class means, in tiles of pairs."""
    directions, count = mean_directions(stats, global_mean), num_present(stats)
    num_pairs = count * (count - 1)
    mean = sum_over_pairs(lambda cosines: cosines, directions, stats) / num_pairs
    variance = sum_over_pairs(lambda cosines: (cosines - mean) ** 2, directions, stats) / (num_pairs - 1)
    return safe_sqrt(variance)


def nc2_log_energy(
    features: Float[Array, "n d"],
    labels: Int[Array, "n"],
    num_classes: int,
    *,
    global_mean: GlobalMean = of_classes,
) -> Float[Array, ""]:
    """Returns the mean over pairs of classes of log(1 / |m_k - m_j|), m the centered means of unit norm.

    Hyperspherical uniformity, for more classes than a simplex has room for: the lower, the more evenly
    spread. A simplex of K <= d + 1 classes attains -log(2K/(K-1))/2.

    Raises:
        ValueError: If num_classes is below 2, or the labels do not fit.
        NumericalError: If two class means point the same way.

    References:
        Liu et al. (2023), hyperspherical uniformity; Wu and Papyan (2024), generalised NC2.
    """
    return measure_stats(nc2_log_energy_from_stats, features, labels, num_classes, global_mean=global_mean)


def nc2_log_energy_from_stats(stats: ClassStats, *, global_mean: GlobalMean = of_classes) -> Float[Array, ""]:
    """Returns `nc2_log_energy` of points by their class means, in tiles of pairs."""
    return _mean_energy(lambda squared: -jnp.log(squared) / 2, stats, global_mean)


def nc2_riesz_energy(
    features: Float[Array, "n d"],
    labels: Int[Array, "n"],
    num_classes: int,
    *,
    exponent: float = 1.0,
    global_mean: GlobalMean = of_classes,
) -> Float[Array, ""]:
    """Returns the mean over pairs of classes of 1 / |m_k - m_j|^exponent, m the centered means of unit norm.

    As `nc2_log_energy`, with a kernel that weighs near pairs more. A simplex of K <= d + 1 classes attains
    ((K-1)/(2K))^(exponent/2).

    Raises:
        ValueError: If num_classes is below 2, the labels do not fit, or exponent is not positive.
        NumericalError: If two class means point the same way.

    References:
        Liu et al. (2023), hyperspherical uniformity; Wu and Papyan (2024), generalised NC2.
    """
    if not exponent > 0:
        raise ValueError(f"exponent must be positive: got {exponent}; for the logarithm use nc2_log_energy")
    return measure_stats(
        nc2_riesz_energy_from_stats,
        features,
        labels,
        num_classes,
        exponent=exponent,
        global_mean=global_mean,
    )


def nc2_riesz_energy_from_stats(
    stats: ClassStats, *, exponent: float = 1.0, global_mean: GlobalMean = of_classes
) -> Float[Array, ""]:
    """Returns `nc2_riesz_energy` of points by their class means, in tiles of pairs."""
    return _mean_energy(lambda squared: squared ** (-exponent / 2), stats, global_mean)


def _mean_energy(
    energy: Callable[[Array], Array], stats: ClassStats, global_mean: GlobalMean
) -> Float[Array, ""]:
    directions, count = mean_directions(stats, global_mean), num_present(stats)

    def of_tile(classes: Int[Array, "b"]) -> Float[Array, "b k"]:
        return squared_distances(directions[classes], directions)

    return _sum_over_tiles(energy, of_tile, stats, fill=1.0) / (count * (count - 1))


def sum_over_pairs(
    fn: Callable[[Array], Array], directions: Float[Array, "k d"], stats: ClassStats
) -> Float[Array, ""]:
    """Returns the sum over ordered pairs of different classes with points of fn(cosine)."""

    def of_tile(classes: Int[Array, "b"]) -> Float[Array, "b k"]:
        return matmul(directions[classes], directions.T)

    return _sum_over_tiles(fn, of_tile, stats, fill=0.0)


def _sum_over_tiles(
    fn: Callable[[Array], Array],
    of_tile: Callable[[Int[Array, "b"]], Float[Array, "b k"]],
    stats: ClassStats,
    fill: float,
) -> Float[Array, ""]:
    mask = present(stats)
    everyone = jnp.arange(mask.shape[0])

    def tile_sum(classes: Int[Array, "b"]) -> Float[Array, ""]:
        is_pair = (classes[:, None] != everyone[None, :]) & mask[classes][:, None] & mask[None, :]
        # Filled before and after: a pair that is left out has no gradient either.
        return jnp.sum(jnp.where(is_pair, fn(jnp.where(is_pair, of_tile(classes), fill)), 0.0))

    return sum_rows(tile_sum, everyone, rows_per_tile(mask.shape[0]))
