"""Kernels of inner products and norms: polynomials, and the neural tangent kernel of ReLU networks."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dnc_jax.checks import check_count
from dnc_jax.kernels.arc_cosine import add_bias, relu_layer
from dnc_jax.linalg import CANCELLATION_UNITS, matmul, safe_sqrt, squared_distances, unit_rows
from dnc_jax.types import Scalar, is_concrete, pytree, static_field

# Two rows whose angle is below so many units of rounding are taken to be parallel: scaling rows to unit norm
# leaves that much between x and 3 x.
ANGLE_UNITS = 32.0


@pytree
class Polynomial:
    """k(x, z) = (scale x.z + offset)^degree, for a whole degree of at least 1.

    The degree is part of the structure, not a leaf: a power of a negative number by repeated products.
    """

    degree: int = static_field()
    offset: Scalar = 1.0
    scale: Scalar = 1.0

    def __call__(self, x: Float[Array, "n d"], z: Float[Array, "m d"]) -> Float[Array, "n m"]:
        """Returns the Gram matrix of the rows of x against the rows of z."""
        return self._base(x, z) ** self.degree

    def gradient_terms(
        self, x: Float[Array, "n d"], z: Float[Array, "m d"]
    ) -> tuple[Float[Array, "n m"], Float[Array, "n m"]]:
        """Returns 0 and degree scale (scale x.z + offset)^(degree - 1)."""
        base = self._base(x, z)
        return jnp.zeros_like(base), self.degree * self.scale * base ** (self.degree - 1)

    def check(self) -> None:
        """Raises ValueError unless the degree is whole and positive, offset at least 0 and scale positive."""
        check_count("degree", self.degree)
        _check_nonnegative("offset", self.offset)
        if is_concrete(self.scale) and not 0 < float(self.scale) < float("inf"):
            raise ValueError(f"scale must be a positive finite number: got {float(self.scale):g}")

    def _base(self, x: Float[Array, "n d"], z: Float[Array, "m d"]) -> Float[Array, "n m"]:
        return self.scale * matmul(x, z.T) + self.offset


@pytree
class NTK:
    """Neural tangent kernel of an infinitely wide ReLU network with depth hidden layers.

    The network is depth times [Dense(W_std = sqrt 2, b_std = bias), ReLU], then Dense(W_std = 1,
    b_std = bias): each Dense divides by its fan-in, and the biases are trained too. With p, q the variances
    and 1 - g the correlation of a layer's pre-activations, S their covariance, T their tangent kernel, T = S
    in the first layer, and cos t = 1 - g:

        S <- sqrt(pq) (sin t + (pi - t) cos t)/pi + bias^2,    T <- S + T (1 - t/pi),

    and in the last layer both terms are halved, the bias is not. The depth is part of the structure. A row of
    zeros is finite: with bias 0 its kernel and its gradient are 0, though the kernel has a cusp there.
    Nearly parallel rows keep their angle, nearly opposite ones keep it to sqrt(eps), exactly opposite ones
    keep pi. The gradient has a cusp where rows are parallel; the part without a limit counts as 0.

    References:
        Jacot, Gabriel and Hongler (2018), Theorem 1.
        Lee, Xiao, Schoenholz, Bahri, Novak, Sohl-Dickstein and Pennington (2019), the NTK parametrization.
    """

    depth: int = static_field()
    bias: Scalar = 0.0

    def __call__(self, x: Float[Array, "n d"], z: Float[Array, "m d"]) -> Float[Array, "n m"]:
        """Returns the Gram matrix of the rows of x against the rows of z."""
        variance = self.bias**2
        p, q = _variances(x, variance)[:, None], _variances(z, variance)[None, :]
        return _tangent_kernel(self.depth, p, q, _first_gap(x is z, x, z, variance), variance)

    def gradient_terms(
        self, x: Float[Array, "n d"], z: Float[Array, "m d"]
    ) -> tuple[Float[Array, "n m"], Float[Array, "n m"]]:
        """Returns own and other from k = F(p, q, g), p, q, g of the first layer's pre-activations.

        As p = 2 |x|^2 / d + bias^2 and sqrt(pq) (1 - g) = 2 x.z / d + bias^2, own is
        (4/d) [F_p + F_g (1 - g)/(2p)] and other is -(2/d) F_g / sqrt(pq).
        """
        variance = self.bias**2
        p, q = _variances(x, variance)[:, None], _variances(z, variance)[None, :]
        gap = _first_gap(x is z, x, z, variance)

        def kernel(p: Float[Array, "n 1"], gap: Float[Array, "n m"]) -> Float[Array, "n m"]:
            return _tangent_kernel(self.depth, p, q, gap, variance)

        by_p = jax.jvp(kernel, (p, gap), (jnp.ones_like(p), jnp.zeros_like(gap)))[1]
        by_gap = jax.jvp(kernel, (p, gap), (jnp.zeros_like(p), jnp.ones_like(gap)))[1]
        covariance = safe_sqrt(p) * safe_sqrt(q)
        # The gap has no slope where it is 0 or 2, and F none with respect to it.
        by_gap = jnp.where((gap > 0) & (gap < 2) & (covariance > 0), by_gap, 0.0)
        own = by_p + by_gap * (1 - gap) / (2 * jnp.where(p > 0, p, 1.0))
        other = -by_gap / jnp.where(covariance > 0, covariance, 1.0)
        return 4 / x.shape[1] * own, 2 / x.shape[1] * other

    def check(self) -> None:
        """Raises ValueError unless the depth is whole and positive and the bias finite and at least 0."""
        check_count("depth", self.depth)
        _check_nonnegative("bias", self.bias)


@partial(jax.jit, static_argnums=0)
def _tangent_kernel(
    depth: int, p: Float[Array, "n 1"], q: Float[Array, "1 m"], gap: Float[Array, "n m"], variance: Scalar
) -> Float[Array, "n m"]:
    """Returns the tangent kernel of variances and gaps of the first pre-activations; variance is bias^2."""
    covariance = tangent = safe_sqrt(p) * safe_sqrt(q) * (1 - gap)
    for layer in range(depth):
        slope, next_gap = relu_layer(gap)
        covariance, tangent = safe_sqrt(p) * safe_sqrt(q) * (1 - next_gap), tangent * slope
        if layer < depth - 1:
            tangent = covariance + variance + tangent
            gap = add_bias(p, q, next_gap, variance)
            p, q = p + variance, q + variance
    return (covariance + tangent) / 2 + variance


def _variances(x: Float[Array, "n d"], variance: Scalar) -> Float[Array, "n"]:
    return 2 * jnp.sum(x * x, axis=1) / x.shape[1] + variance


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _first_gap(
    same: bool, x: Float[Array, "n d"], z: Float[Array, "m d"], variance: Scalar
) -> Float[Array, "n m"]:
    """Returns 1 - correlation of the first pre-activations, from the distances of unit rows."""
    unit_x = unit_rows(x)
    squared = squared_distances(unit_x, unit_x if same else unit_rows(z))
    eps = jnp.finfo(squared.dtype).eps
    gap = add_bias(_variances(x, 0.0)[:, None], _variances(z, 0.0)[None, :], squared / 2, variance)
    gap = jnp.where(gap < (ANGLE_UNITS * eps) ** 2 / 2, 0.0, gap)
    return jnp.where(gap > 2 - CANCELLATION_UNITS * eps, 2.0, gap)


@_first_gap.defjvp
def _first_gap_jvp(
    same: bool, primals: tuple[Array, Array, Scalar], tangents: tuple[Array, Array, Scalar]
) -> tuple[Float[Array, "n m"], Float[Array, "n m"]]:
    # By way of unit rows the derivative would be lost at a row of zeros, where with a bias it is not 0.
    (x, z, variance), (dx, dz, dvariance) = primals, tangents
    gap = _first_gap(same, x, z, variance)
    p, dp = jax.jvp(_variances, (x, variance), (dx, dvariance))
    q, dq = jax.jvp(_variances, (z, variance), (dz, dvariance))
    dcovariance = 2 / x.shape[1] * (matmul(dx, z.T) + matmul(x, dz.T)) + dvariance
    covariance = safe_sqrt(p)[:, None] * safe_sqrt(q)[None, :]
    positive = covariance > 0
    relative = (dp / jnp.where(p > 0, p, 1.0))[:, None] + (dq / jnp.where(q > 0, q, 1.0))[None, :]
    slope = (1 - gap) / 2 * relative - dcovariance / jnp.where(positive, covariance, 1.0)
    return gap, jnp.where(positive, slope, 0.0)


def _check_nonnegative(name: str, value: Scalar) -> None:
    if is_concrete(value) and not 0 <= float(value) < float("inf"):
        raise ValueError(f"{name} must be a finite number of at least 0: got {float(value):g}")
