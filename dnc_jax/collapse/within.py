"""NC1: within-class variability, against the spread of the class means."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
from jaxtyping import Array, Float, Int

from dnc_jax.collapse.measuring import measure_points
from dnc_jax.collapse.statistics import (
    ClassStats,
    GlobalMean,
    centered_means,
    class_counts_and_means,
    of_classes,
    present,
    residuals,
    rows_of_class,
)
from dnc_jax.linalg import matmul, norm, pinv

# Units of rounding by which an entry of a class mean may be off: partial sums of about 64 rows are rounded.
ROUNDING_UNITS = 8.0


def nc1(
    features: Float[Array, "n d"],
    labels: Int[Array, "n"],
    num_classes: int,
    *,
    global_mean: GlobalMean = of_classes,
) -> Float[Array, ""]:
    """Returns tr(Sigma_W pinv(Sigma_B)) / K, K the number of classes present; 0 is full collapse.

    With D the centered class means as rows, Sigma_B = D^T D / K, and the result is the mean over points of
    |pinv(D^T) r_i|^2, r_i the distance of a point to its class mean: no second moment is formed, and no
    square matrix larger than min(K, d). Invariant to scale, rotation and translation. NaN under a trace if
    all class means coincide.

    Raises:
        ValueError: If num_classes is below 2, or the labels do not fit.
        NumericalError: If all class means coincide.

    References:
        Papyan, Han and Donoho (2020), Eq. NC1.
    """
    return measure_points(_nc1, features, labels, num_classes, global_mean=global_mean)


def _nc1(
    features: Float[Array, "n d"], labels: Int[Array, "n"], num_classes: int, global_mean: GlobalMean
) -> Float[Array, ""]:
    stats = class_counts_and_means(features, labels, num_classes)
    return whitened_scatter(features, labels, stats, whitening(stats, global_mean)) / features.shape[0]


@jax.jit
def whitened_scatter(
    features: Float[Array, "n d"],
    labels: Int[Array, "n"],
    stats: ClassStats,
    whitener: Float[Array, "d q"],
) -> Float[Array, ""]:
    """Returns sum_i |whitener^T (x_i - mu)|^2, mu the class mean of the point.

    The means are first projected, then subtracted, unless that would lose the residuals in the rounding of
    the points: then they are subtracted first.
    """
    projected = matmul(features, whitener) - rows_of_class(matmul(stats.means, whitener), labels)
    total = jnp.sum(projected * projected)
    eps = jnp.finfo(features.dtype).eps
    size = jnp.max(jnp.sum(stats.means * stats.means, axis=1)) * jnp.sum(whitener * whitener)
    is_lost = eps * size * features.shape[0] > total

    def subtracted_first() -> Float[Array, ""]:
        noise = matmul(residuals(features, labels, stats), whitener)
        return jnp.sum(noise * noise)

    return jax.lax.cond(is_lost, subtracted_first, lambda: total)


@partial(jax.jit, static_argnames="global_mean")
def whitening(stats: ClassStats, global_mean: GlobalMean = of_classes) -> Float[Array, "d q"]:
    """Returns W with |W^T r|^2 = |pinv(D^T) r|^2 for every r, D the centered class means as rows.

    Singular values of D that may be rounding of the class means are cut; NaN if that leaves none.
    """
    means, mask = centered_means(stats, global_mean), present(stats)
    # One scale for all, so that no square over- or underflows; the largest entry, as any would do.
    scale = jax.lax.stop_gradient(jnp.max(jnp.abs(means)))
    tolerance = jax.lax.stop_gradient(_rounding_of_centering(stats, means) / scale)
    means = means / scale
    num_classes, dim = means.shape
    is_many = num_classes - 1 > dim
    # Few means have null directions: the weights of mu_G, and absent classes. Adding those makes the triangle
    # invertible and, as they are orthogonal to the image of every residual, changes nothing.
    weights = global_mean(stats)
    null = jnp.outer(weights, weights) / jnp.sum(weights * weights) + jnp.diag(1.0 - mask)
    matrix = means if is_many else jnp.concatenate([means.T, null.astype(means.dtype)])
    is_regular = _smallest_singular_value(jax.lax.stop_gradient(matrix)) > tolerance
    # Under vmap both branches run, and the one not taken must not divide by 0.
    regular = jnp.where(is_regular, matrix, jnp.eye(*matrix.shape, dtype=matrix.dtype))

    def by_triangle() -> Float[Array, "d q"]:
        q, r = jnp.linalg.qr(regular)
        inverse = _inverse_of_triangle(r)
        return inverse if is_many else matmul(q[:dim], inverse.T)

    def by_singular_values() -> Float[Array, "d q"]:
        inverse = pinv(means, tolerance)
        inverse = jnp.where(jnp.any(inverse != 0), inverse, jnp.nan)
        basis, _ = jnp.linalg.qr(jax.lax.stop_gradient(means))
        # The basis holds the image of every residual, so that it changes no distance, nor its derivative.
        return matmul(inverse, basis) if is_many else inverse

    return jax.lax.cond(is_regular, by_triangle, by_singular_values) / scale


def _rounding_of_centering(stats: ClassStats, centered: Float[Array, "k d"]) -> Float[Array, ""]:
    """Returns what rounding may add to a singular value of the centered class means.

    That of the factorisation, in units of their norm, and that of means which lie far from zero: a matrix
    of k x d entries of size e has norm (sqrt k + sqrt d) e.
    """
    num_classes, dim = centered.shape
    entries = (math.sqrt(num_classes) + math.sqrt(dim)) * jnp.max(jnp.abs(stats.means))
    return ROUNDING_UNITS * jnp.finfo(centered.dtype).eps * (norm(centered) + entries)


def _smallest_singular_value(matrix: Float[Array, "m q"]) -> Float[Array, ""]:
    """Returns a lower bound of the smallest singular value: 1 / |R^-1|_F, R the triangle of the matrix.

    Pivots would not do: that of a dependent column may lie far above its singular value.
    """
    return 1 / norm(_inverse_of_triangle(jnp.linalg.qr(matrix, mode="r")))


def _inverse_of_triangle(r: Float[Array, "q q"]) -> Float[Array, "q q"]:
    return jsl.solve_triangular(r, jnp.eye(r.shape[0], dtype=r.dtype))
