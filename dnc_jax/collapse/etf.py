"""NC2: how far the class means are from a simplex equiangular tight frame.

A simplex ETF of K classes is K unit vectors m_k with cosines -1/(K-1), the most negative that K vectors can
share: their Gram matrix is K/(K-1) (I - 11^T/K).
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from dnc_jax.collapse.checks import check_several_classes
from dnc_jax.collapse.measuring import measure_stats
from dnc_jax.collapse.statistics import (
    ClassStats,
    GlobalMean,
    centered_means,
    num_present,
    of_classes,
    present,
)
from dnc_jax.linalg import matmul, norm, safe_sqrt, unit_rows


def nc2(
    features: Float[Array, "n d"],
    labels: Int[Array, "n"],
    num_classes: int,
    *,
    global_mean: GlobalMean = of_classes,
) -> Float[Array, ""]:
    """Returns | G/|G|_F - (I - 11^T/K)/sqrt(K-1) |_F, G the cosines of the centered class means.

    Between 0, an exact simplex, and sqrt(2). Vacuous for K = 2, where it is always 0. K counts the classes
    present. With more than d + 1 classes it cannot reach 0.

    Raises:
        ValueError: If num_classes is below 2, or the labels do not fit.
        NumericalError: If all class means coincide.

    References:
        Papyan, Han and Donoho (2020), NC2; Beaglehole, Sukenik, Mondelli and Belkin (2024).
    """
    return measure_stats(nc2_from_stats, features, labels, num_classes, global_mean=global_mean)


def nc2_from_stats(stats: ClassStats, *, global_mean: GlobalMean = of_classes) -> Float[Array, ""]:
    """Returns `nc2` of points by their class means; NaN if all of them coincide."""
    directions = mean_directions(stats, global_mean)
    return simplex_distance(directions, directions, stats)


def simplex_distance(
    left: Float[Array, "k d"], right: Float[Array, "k d"], stats: ClassStats
) -> Float[Array, ""]:
    """Returns | A/|A|_F - (I - 11^T/K)/sqrt(K-1) |_F for A = left @ right^T, rows of absent classes 0.

    With more than d + 1 classes A is not formed: then it cannot be a simplex, and
    2 - 2 <A, simplex> / (|A| |simplex|), which needs only d x d matrices, does not cancel.
    """

    def direct(left: Float[Array, "q d"], right: Float[Array, "q d"], mask: Bool[Array, "q"]) -> Array:
        product, simplex = matmul(left, right.T), simplex_gram(mask, left.dtype)
        return norm(product / jnp.sqrt(jnp.sum(product**2)) - simplex / norm(simplex))

    def expanded() -> Float[Array, ""]:
        count = num_present(stats)
        size = jnp.sqrt(jnp.sum(matmul(left.T, left) * matmul(right.T, right)))
        sums = jnp.sum(left, axis=0), jnp.sum(right, axis=0)
        overlap = jnp.sum(left * right) - jnp.sum(sums[0] * sums[1]) / count
        return safe_sqrt(2 - 2 * overlap / (size * jnp.sqrt(count - 1)))

    return _by_room_for_a_simplex(direct, expanded, (left, right), stats)


def _by_room_for_a_simplex(
    direct: Callable[..., Float[Array, ""]],
    expanded: Callable[[], Float[Array, ""]],
    per_class: tuple[Float[Array, "k d"], ...],
    stats: ClassStats,
) -> Float[Array, ""]:
    """Returns direct(*rows of classes, which are present) if at most d + 1 are, and expanded() otherwise.

    How many of very many classes are present may be known only at run time; direct never holds more than
    d + 1 of them.
    """
    num_classes, dim = per_class[0].shape
    mask = present(stats)
    if num_classes <= dim + 1:
        return direct(*per_class, mask)

    def of_present() -> Float[Array, ""]:
        classes = jnp.nonzero(mask, size=dim + 1, fill_value=0)[0]
        is_filled = jnp.arange(dim + 1) < jnp.sum(mask)
        rows = (jnp.where(is_filled[:, None], values[classes], 0.0) for values in per_class)
        return direct(*rows, is_filled)

    return jax.lax.cond(num_present(stats) <= dim + 1, of_present, expanded)


def nc2_gram_mse(
    features: Float[Array, "n d"],
    labels: Int[Array, "n"],
    num_classes: int,
    *,
    global_mean: GlobalMean = of_classes,
) -> Float[Array, ""]:
    """Returns the mean squared entry of G - K/(K-1) (I - 11^T/K), G the cosines of the class means.

    What the released Deep RFM code plots as NC2, though its axis says norm.

    Raises:
        ValueError: If num_classes is below 2, or the labels do not fit.
        NumericalError: If all class means coincide.
    """
    return measure_stats(nc2_gram_mse_from_stats, features, labels, num_classes, global_mean=global_mean)


def nc2_gram_mse_from_stats(stats: ClassStats, *, global_mean: GlobalMean = of_classes) -> Float[Array, ""]:
    """Returns `nc2_gram_mse` of points by their class means; NaN if all of them coincide."""
    directions = mean_directions(stats, global_mean)

    def direct(directions: Float[Array, "q d"], mask: Bool[Array, "q"]) -> Float[Array, ""]:
        return (
            jnp.sum((matmul(directions, directions.T) - simplex_gram(mask, directions.dtype)) ** 2)
            / jnp.sum(mask) ** 2
        )

    def expanded() -> Float[Array, ""]:
        count, total = num_present(stats), jnp.sum(directions, axis=0)
        factor = count / (count - 1)
        overlap = factor * (jnp.sum(directions**2) - jnp.sum(total**2) / count)
        squared = jnp.sum(matmul(directions.T, directions) ** 2)
        return (squared - 2 * overlap + factor**2 * (count - 1)) / count**2

    return _by_room_for_a_simplex(direct, expanded, (directions,), stats)


def mean_directions(stats: ClassStats, global_mean: GlobalMean = of_classes) -> Float[Array, "k d"]:
    """Returns the centered class means with unit norm; absent classes, and a mean at mu_G, 0.

    NaN if all class means coincide: they have no directions.
    """
    means = centered_means(stats, global_mean)
    return jnp.where(jnp.any(means != 0), unit_rows(means), jnp.nan)


def simplex_gram(mask: Bool[Array, "k"], dtype: jnp.dtype) -> Float[Array, "k k"]:
    """Returns K/(K-1) (I - 11^T/K) over the K classes of the mask, the Gram of a simplex of unit vectors."""
    mask, count = mask.astype(dtype), jnp.sum(mask).astype(dtype)
    return (jnp.diag(mask) - jnp.outer(mask, mask) / count) * count / (count - 1)


def simplex_etf(
    key: PRNGKeyArray, num_classes: int, dim: int, *, dtype: jnp.dtype | None = None
) -> Float[Array, "k d"]:
    """Returns the k vertices of a centered simplex of unit vectors, turned at random in R^dim.

    Rows m_k with m_k.m_k = 1 and m_k.m_j = -1/(k-1): M M^T = k/(k-1) (I - 11^T/k), and
    M^T M = k/(k-1) times a projection of rank k - 1.

    Args:
        dtype: Of the result; None takes JAX's default floating type.

    Raises:
        ValueError: If num_classes is below 2, or dim below num_classes - 1.

    References:
        Papyan, Han and Donoho (2020), Definition 1.
    """
    check_several_classes(num_classes)
    if dim < num_classes - 1:
        raise ValueError(
            f"dim must be at least num_classes - 1 = {num_classes - 1} for {num_classes} vectors at equal "
            f"angles: got {dim}; use fewer classes or more dimensions"
        )
    rank = num_classes - 1
    gaussian = jax.random.normal(key, (dim, rank), dtype or jnp.result_type(float))
    q, r = jnp.linalg.qr(gaussian)
    turned = q * jnp.sign(jnp.diagonal(r))[None, :]  # uniform over rotations: Mezzadri (2007)
    return matmul(helmert(num_classes, turned.dtype).T, turned.T) * math.sqrt(num_classes / rank)


def helmert(num_classes: int, dtype: jnp.dtype) -> Float[Array, "q k"]:
    """Returns an orthonormal basis, (k - 1, k), of the vectors orthogonal to 1.

    Row i is e_0 + ... + e_i - (i + 1) e_{i+1}, divided by its norm.
    """
    row = jnp.arange(1, num_classes, dtype=dtype)[:, None]
    column = jnp.arange(num_classes, dtype=dtype)[None, :]
    entries = jnp.where(column < row, 1.0, jnp.where(column == row, -row, 0.0))
    return entries / jnp.sqrt(row * (row + 1))
