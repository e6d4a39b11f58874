"""NC2: how far the class means are from a simplex equiangular tight frame."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dnc_jax.collapse.statistics import (
    ClassStats,
    centered_means,
    check_several_classes,
    class_stats,
    present,
)
from dnc_jax.linalg import matmul, norm, unit_rows


def nc2(features: Float[Array, "n d"], labels: Int[Array, "n"], num_classes: int) -> Float[Array, ""]:
    """Returns | G/|G|_F - (I - 11^T/K)/sqrt(K-1) |_F, G the cosines of the centered class means.

    Between 0, an exact simplex, and 2. Vacuous for K = 2, where it is always 0. K counts the classes
    present.

    Raises:
        ValueError: If num_classes is below 2, or the labels do not fit.

    References:
        Papyan, Han and Donoho (2020), NC2; Beaglehole, Sukenik, Mondelli and Belkin (2024).
    """
    check_several_classes(num_classes)
    stats = class_stats(features, labels, num_classes)
    cosines, simplex = mean_cosines(stats), simplex_gram(stats)
    return norm(cosines / norm(cosines) - simplex / norm(simplex))


def nc2_gram_mse(
    features: Float[Array, "n d"], labels: Int[Array, "n"], num_classes: int
) -> Float[Array, ""]:
    """Returns the mean squared entry of G - K/(K-1) (I - 11^T/K), G the cosines of the class means.

    What the released Deep RFM code plots as NC2, though its axis says norm.

    Raises:
        ValueError: If num_classes is below 2, or the labels do not fit.
    """
    check_several_classes(num_classes)
    stats = class_stats(features, labels, num_classes)
    num_present = jnp.sum(present(stats))
    return jnp.sum((mean_cosines(stats) - simplex_gram(stats)) ** 2) / num_present**2


def mean_cosines(stats: ClassStats) -> Float[Array, "k k"]:
    """Returns the cosines between the centered class means; rows of absent classes are 0."""
    directions = unit_rows(centered_means(stats))
    return matmul(directions, directions.T)


def simplex_gram(stats: ClassStats) -> Float[Array, "k k"]:
    """Returns K/(K-1) (I - 11^T/K) over the K classes present, the Gram of a simplex of unit vectors."""
    mask = present(stats).astype(stats.means.dtype)
    count = jnp.sum(mask)
    return (jnp.diag(mask) - jnp.outer(mask, mask) / count) * count / (count - 1)
