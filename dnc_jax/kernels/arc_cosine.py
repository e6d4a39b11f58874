"""The arc-cosine recursion of wide ReLU layers, in terms of the gap 1 - cosine instead of the cosine.

A layer with He scaling maps the variances p, q and the correlation 1 - gap of two pre-activations to those of
the next layer. Nearly parallel points lose their angle in a cosine, never in a gap.

References:
    Cho and Saul (2009), Section 2: the arc-cosine kernels of order 0 and 1.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.polynomial import Chebyshev, Polynomial

from dnc_jax.linalg import safe_sqrt
from dnc_jax.types import Scalar

# (t cos t - sin t) = -t^3/3 + t^5/30 - t^7/840 + ..., coefficients (-1)^k 2k/(2k+1)!. With five terms and
# below this angle the series is exact to rounding, and above it the difference loses at most two bits.
SERIES = (-1 / 3, 1 / 30, -1 / 840, 1 / 45360, -1 / 3991680)
SERIES_BELOW = 0.25
# Terms of the arcsine's series that count in float64 at h = 1/2.
TAYLOR_TERMS = 60


@jax.custom_jvp
def relu_layer(gap: Float[Array, "*s"]) -> tuple[Float[Array, "*s"], Float[Array, "*s"]]:
    """Returns the arc-cosine kernel of order 0 and the gap of order 1, at angles arccos(1 - gap).

    The first is 1 - angle/pi, the second gap + (t cos t - sin t)/pi with t the angle. The derivative of the
    second is the first; that of the first, -1/(pi sin t), counts as 0 at gap 0 and 2, where it is singular.
    """
    angle, sine = _angle_and_sine(gap)
    squared = angle * angle
    series = jnp.zeros_like(squared)
    for coefficient in reversed(SERIES):
        series = series * squared + coefficient
    difference = jnp.where(angle < SERIES_BELOW, series * squared * angle, angle * (1 - gap) - sine)
    return 1 - angle / jnp.pi, gap + difference / jnp.pi


@relu_layer.defjvp
def _relu_layer_jvp(
    primals: tuple[Float[Array, "*s"]], tangents: tuple[Float[Array, "*s"]]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    (gap,), (dgap,) = primals, tangents
    slope, next_gap = relu_layer(gap)
    inside = (gap > 0) & (gap < 2)
    sine = jnp.sqrt(jnp.where(inside, gap * (2 - gap), 1.0))
    return (slope, next_gap), (jnp.where(inside, -dgap / (jnp.pi * sine), 0.0), slope * dgap)


def _angle_and_sine(gap: Float[Array, "*s"]) -> tuple[Float[Array, "*s"], Float[Array, "*s"]]:
    """Returns t = arccos(1 - gap) and sin t, with h = sin(t/2)^2 = gap/2: t = 2 arcsin(sqrt h).

    The library's arcsin is not vectorized on CPUs, and takes ten times as long as a polynomial in h.
    """
    gap = jnp.clip(gap, 0.0, 2.0)
    half = jnp.minimum(gap, 2 - gap) / 2
    root = jnp.sqrt(half)
    ratio = jnp.zeros_like(half)
    for coefficient in reversed(_arcsine_coefficients(float(jnp.finfo(gap.dtype).eps))):
        ratio = ratio * (4 * half - 1) + coefficient
    acute = 2 * root * ratio
    return jnp.where(gap <= 1, acute, jnp.pi - acute), 2 * root * jnp.sqrt(1 - half)


@functools.cache
def _arcsine_coefficients(eps: float) -> tuple[float, ...]:
    """Returns the polynomial in 4h - 1 that is arcsin(sqrt h) / sqrt h to rounding, for h of 0 to 1/2.

    The Taylor series in h, whose coefficients are (2k choose k) / (4^k (2k + 1)), cut off as a Chebyshev
    series on this interval. All terms are positive up to there: nothing cancels.
    """
    taylor = [math.comb(2 * k, k) / (4**k * (2 * k + 1)) for k in range(TAYLOR_TERMS)]
    in_scaled = Polynomial(taylor)(Polynomial([0.25, 0.25]))
    series = in_scaled.convert(kind=Chebyshev).coef
    needed = 1 + int(np.flatnonzero(series > eps / 4)[-1])
    return tuple(float(value) for value in Chebyshev(series[:needed]).convert(kind=Polynomial).coef)


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
