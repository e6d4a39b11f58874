"""The arc-cosine recursion of wide ReLU layers, in terms of the gap 1 - cosine instead of the cosine.

A layer with He scaling maps the variances p, q and the correlation 1 - gap of two pre-activations to those of
the next layer. Nearly parallel points lose their angle in a cosine, never in a gap.

References:
    Cho and Saul (2009), Section 2: the arc-cosine kernels of order 0 and 1.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from dnc_jax.linalg import safe_sqrt
from dnc_jax.types import Scalar

# (t cos t - sin t) = -t^3/3 + t^5/30 - t^7/840 + ..., coefficients (-1)^k 2k/(2k+1)!. With five terms and
# below this angle the series is exact to rounding, and above it the difference loses at most two bits.
SERIES = (-1 / 3, 1 / 30, -1 / 840, 1 / 45360, -1 / 3991680)
SERIES_BELOW = 0.25


def relu_layer(gap: Float[Array, "*s"]) -> tuple[Float[Array, "*s"], Float[Array, "*s"]]:
    """Returns the arc-cosine kernel of order 0 and the gap of order 1, at angles arccos(1 - gap).

    The first is 1 - angle/pi, the second gap + (t cos t - sin t)/pi with t the angle. Their derivatives at
    gap 0 and 2, singular for the first, are those of a constant angle.
    """
    angle = _angle(gap)
    squared = angle * angle
    series = jnp.zeros_like(squared)
    for coefficient in reversed(SERIES):
        series = series * squared + coefficient
    difference = jnp.where(
        angle < SERIES_BELOW, series * squared * angle, angle * jnp.cos(angle) - jnp.sin(angle)
    )
    return 1 - angle / jnp.pi, gap + difference / jnp.pi


def _angle(gap: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """Returns 2 arcsin(sqrt(gap / 2)): 1 - cos t = 2 sin(t/2)^2."""
    inside = (gap > 0) & (gap < 2)
    angle = 2 * jnp.arcsin(jnp.sqrt(jnp.where(inside, gap, 1.0) / 2))
    return jnp.where(inside, angle, jnp.where(gap > 0, jnp.pi, 0.0).astype(gap.dtype))


def add_bias(
    p: Float[Array, "*a"], q: Float[Array, "*b"], gap: Float[Array, "*s"], variance: Scalar
) -> Float[Array, "*s"]:
    """Returns the gap after the same variance is added to p, q and the covariance sqrt(pq) (1 - gap).

    With P = p + v and Q = q + v it is [v (sqrt p - sqrt q)^2 / (sqrt(PQ) + sqrt(pq) + v) + sqrt(pq) gap] /
    sqrt(PQ), where nothing cancels. Where PQ = 0 the gap is kept.
    """
    before, after = safe_sqrt(p) * safe_sqrt(q), safe_sqrt(p + variance) * safe_sqrt(q + variance)
    positive = after > 0
    safe = jnp.where(positive, after, 1.0)
    spread = variance * (safe_sqrt(p) - safe_sqrt(q)) ** 2 / (safe + before + variance)
    return jnp.where(positive, (spread + before * gap) / safe, gap)
