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

# Terms of the Taylor series below that count in float64 at their largest argument, 1/2.
TAYLOR_TERMS = 60


@jax.custom_jvp
def relu_layer(gap: Float[Array, "*s"]) -> tuple[Float[Array, "*s"], Float[Array, "*s"]]:
    """Returns the arc-cosine kernel of order 0 and the gap of order 1, at angles arccos(1 - gap).

    The first is 1 - angle/pi, the second gap + (t cos t - sin t)/pi with t the angle. The derivative of the
    second is the first; that of the first, -1/(pi sin t), counts as 0 at gap 0 and 2, where it is singular.

    With h = sin(t/2)^2 = gap/2, t = 2 sqrt(h) P(h) and t cos t - sin t = -h sqrt(h) Q(h) for t up to pi/2;
    beyond, pi - t takes the place of t. P and Q are polynomials: the platform's arcsin is not vectorized on
    CPUs, and takes ten times as long.
    """
    gap = jnp.clip(gap, 0.0, 2.0)
    half = jnp.minimum(gap, 2 - gap) / 2
    root, scaled = jnp.sqrt(half), 4 * half - 1
    angle, difference = polynomials(float(jnp.finfo(gap.dtype).eps))
    share = 2 / jnp.pi * root * _horner(angle, scaled)
    lifted = root * half * _horner(difference, scaled) / jnp.pi
    is_acute = gap <= 1
    return jnp.where(is_acute, 1 - share, share), jnp.where(is_acute, gap, 1.0) - lifted


@relu_layer.defjvp
def _relu_layer_jvp(
    primals: tuple[Float[Array, "*s"]], tangents: tuple[Float[Array, "*s"]]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    (gap,), (dgap,) = primals, tangents
    slope, next_gap = relu_layer(gap)
    inside = (gap > 0) & (gap < 2)
    sine = jnp.sqrt(jnp.where(inside, gap * (2 - gap), 1.0))
    return (slope, next_gap), (jnp.where(inside, -dgap / (jnp.pi * sine), 0.0), slope * dgap)


@functools.cache
def polynomials(eps: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns P and Q of `relu_layer` in powers of 4h - 1, to rounding for h of 0 to 1/2.

    P(h) = arcsin(sqrt h) / sqrt h has the Taylor coefficients p_k = (2k choose k) / (4^k (2k + 1)), and
    Q(h) = 2 [sqrt(1 - h) - (1 - 2h) P(h)] / h has 2 (s_k - p_k + 2 p_(k-1)), k = 1, 2, ..., with s_k those of
    sqrt(1 - h). Both are cut off as Chebyshev series. All coefficients are positive up to there: nothing
    cancels.
    """
    binomials = [math.comb(2 * k, k) / 4**k for k in range(TAYLOR_TERMS + 1)]
    p = [binomial / (2 * k + 1) for k, binomial in enumerate(binomials)]
    s = [binomial / (1 - 2 * k) for k, binomial in enumerate(binomials)]
    q = [2 * (s[k] - p[k] + 2 * p[k - 1]) for k in range(1, len(p))]
    return _cut_off(p, eps), _cut_off(q, eps)


def _cut_off(taylor: list[float], eps: float) -> tuple[float, ...]:
    in_scaled = Polynomial(taylor)(Polynomial([0.25, 0.25]))
    series = np.asarray(in_scaled.convert(kind=Chebyshev).coef, float)
    needed = 1 + int(np.flatnonzero(series > eps / 4)[-1])
    return tuple(float(value) for value in Chebyshev(series[:needed]).convert(kind=Polynomial).coef)


def _horner(coefficients: tuple[float, ...], x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    value = jnp.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = value * x + coefficient
    return value


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
