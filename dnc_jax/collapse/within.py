"""NC1: within-class variability, against the spread of the class means."""

from functools import partial

import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
from jaxtyping import Array, Float, Int

from dnc_jax.collapse.statistics import (
    centered_means,
    check_labeled,
    check_several_classes,
    class_stats,
    present,
    residuals,
)
from dnc_jax.linalg import matmul


def nc1(features: Float[Array, "n d"], labels: Int[Array, "n"], num_classes: int) -> Float[Array, ""]:
    """Returns tr(Sigma_W pinv(Sigma_B)) / K, K the number of classes present; 0 is full collapse.

    Computed from residuals r_i, never from second moments: with D the centered class means as rows,
    Sigma_B = D^T D / K, and the result is the mean over points of |pinv(D^T) r_i|^2. Invariant to scale,
    rotation and translation. NaN if all class means coincide.

    Raises:
        ValueError: If num_classes is below 2, or the labels do not fit.

    References:
        Papyan, Han and Donoho (2020), Eq. NC1.
    """
    check_several_classes(num_classes)
    check_labeled(features, labels, num_classes)
    return _nc1(features, labels, num_classes)


@partial(jax.jit, static_argnames="num_classes")
def _nc1(features: Float[Array, "n d"], labels: Int[Array, "n"], num_classes: int) -> Float[Array, ""]:
    stats = class_stats(features, labels, num_classes)
    means = centered_means(stats)
    # One scale for all, so that no power of it over- or underflows.
    scale = jnp.sqrt(jnp.sum(means * means) / jnp.sum(present(stats)))
    noise = residuals(features, labels, stats) / scale
    whitened = _whiten(means / scale, present(stats).astype(features.dtype), noise)
    return jnp.mean(jnp.sum(whitened * whitened, axis=1))


def _whiten(
    means: Float[Array, "k d"], mask: Float[Array, "k"], noise: Float[Array, "n d"]
) -> Float[Array, "n q"]:
    """Returns pinv(means^T) applied to each row of noise, up to an isometry."""
    num_classes, dim = means.shape
    is_wide = num_classes - 1 > dim
    # The means have the null directions 1 and absent classes. Adding those makes the QR factor invertible
    # and, as they are orthogonal to the image of every residual, changes nothing.
    null = jnp.outer(mask, mask) / jnp.sum(mask) + jnp.diag(1 - mask)
    q, r = jnp.linalg.qr(means if is_wide else jnp.concatenate([means.T, null]))

    def by_triangle() -> Float[Array, "n q"]:
        if is_wide:
            return jsl.solve_triangular(r, noise.T, trans=1).T
        return jsl.solve_triangular(r, matmul(q[:dim].T, noise.T)).T

    def by_singular_values() -> Float[Array, "n q"]:
        return matmul(noise, jnp.linalg.pinv(r if is_wide else means))

    pivots = jnp.abs(jnp.diagonal(r))
    cutoff = max(num_classes, dim) * jnp.finfo(means.dtype).eps * jnp.max(pivots)
    # Singular values are only for linearly dependent means: their gradient is NaN at an exact simplex.
    return jax.lax.cond(jnp.min(pivots) > cutoff, by_triangle, by_singular_values)


def nc1_trace_ratio(
    features: Float[Array, "n d"], labels: Int[Array, "n"], num_classes: int
) -> Float[Array, ""]:
    """Returns tr(Sigma_W) / tr(Sigma_B): mean squared distance to the class mean over that of the means.

    The released Deep RFM code divides Sigma_W by K n instead of n: its values are K times smaller.

    Raises:
        ValueError: If num_classes is below 2, or the labels do not fit.
    """
    check_several_classes(num_classes)
    stats = class_stats(features, labels, num_classes)
    within = jnp.sum(stats.within) / jnp.sum(stats.counts)
    between = jnp.sum(centered_means(stats) ** 2) / jnp.sum(present(stats))
    return within / between


def within_class_rounding(
    features: Float[Array, "n d"], labels: Int[Array, "n"], num_classes: int
) -> Float[Array, ""]:
    """Returns eps mean(|x|^2) / tr(Sigma_W): the relative rounding error of distances within a class.

    A squared distance computed as |x|^2 + |z|^2 - 2 x.z is off by about eps |x|^2. Where points have
    collapsed until this ratio is no longer small, whatever is made of their distances is rounding.
    """
    stats = class_stats(features, labels, num_classes)
    eps = jnp.finfo(features.dtype).eps
    return eps * jnp.sum(features * features) / jnp.sum(stats.within)
