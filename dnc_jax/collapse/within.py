"""NC1: within-class variability, against the spread of the class means."""

from functools import partial

import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
from jaxtyping import Array, Bool, Float, Int

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
from dnc_jax.linalg import matmul


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
    """Returns W with |W^T r|^2 = |pinv(D^T) r|^2 for every r, D the centered class means as rows."""
    means, mask = centered_means(stats, global_mean), present(stats)
    # One scale for all, so that no square over- or underflows; the largest entry, as any would do.
    scale = jax.lax.stop_gradient(jnp.max(jnp.abs(means)))
    means = means / scale
    num_classes, dim = means.shape
    if num_classes - 1 > dim:
        return _whitening_of_many(means) / scale
    # The means have null directions: the weights of mu_G, and absent classes. Adding those makes the QR
    # factor invertible and, as they are orthogonal to the image of every residual, changes nothing.
    weights = global_mean(stats)
    null = jnp.outer(weights, weights) / jnp.sum(weights * weights) + jnp.diag(1.0 - mask)
    q, r = jnp.linalg.qr(jnp.concatenate([means.T, null.astype(means.dtype)]))

    def by_triangle() -> Float[Array, "d k"]:
        return jsl.solve_triangular(r, q[:dim].T).T

    return jax.lax.cond(_is_regular(r, dim), by_triangle, lambda: jnp.linalg.pinv(means)) / scale


def _whitening_of_many(means: Float[Array, "k d"]) -> Float[Array, "d d"]:
    r = jnp.linalg.qr(means, mode="r")

    def by_triangle() -> Float[Array, "d d"]:
        return jsl.solve_triangular(r, jnp.eye(r.shape[0], dtype=r.dtype))

    return jax.lax.cond(_is_regular(r, means.shape[0]), by_triangle, lambda: jnp.linalg.pinv(r))


def _is_regular(r: Float[Array, "q q"], num_rows: int) -> Bool[Array, ""]:
    """Returns whether the triangle of a matrix of num_rows rows can be inverted.

    Singular values are only for linearly dependent means: a solve is faster and more exact.
    """
    pivots = jnp.abs(jnp.diagonal(r))
    return jnp.min(pivots) > max(num_rows, r.shape[0]) * jnp.finfo(r.dtype).eps * jnp.max(pivots)
