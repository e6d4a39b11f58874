"""Radial kernels: two scalar functions of the squared distance, a profile and its slope.

The profile gives the Gram matrix, the slope gives every gradient, hence one closed-form AGOP for all:
grad_x k(x, z) = 2 slope(|x - z|^2) (x - z).
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from dnc_jax.linalg import squared_distances
from dnc_jax.types import Scalar, is_concrete, pytree


class Radial:
    """A kernel k(x, z) = profile(|x - z|^2)."""

    def profile(self, squared: Float[Array, "..."]) -> Float[Array, "..."]:
        """Returns k as a function of the squared distance."""
        raise NotImplementedError

    def slope(self, squared: Float[Array, "..."]) -> Float[Array, "..."]:
        """Returns the derivative of the profile with respect to the squared distance."""
        raise NotImplementedError

    def check(self) -> None:
        """Raises ValueError for hyper-parameters outside their range; traced ones pass."""
        raise NotImplementedError

    def __call__(self, x: Float[Array, "n d"], z: Float[Array, "m d"]) -> Float[Array, "n m"]:
        """Returns the Gram matrix of the rows of x against the rows of z."""
        return self.profile(squared_distances(x, z))

    def gradient_terms(
        self, x: Float[Array, "n d"], z: Float[Array, "m d"]
    ) -> tuple[Float[Array, "n m"], Float[Array, "n m"]]:
        """Returns (2 slope, -2 slope) of the squared distances, 0 on the diagonal if z is x, the same object.

        A point's gradient at itself is slope * 0: dropped, so that it cannot leave rounding behind.
        """
        other = -2 * self.slope(squared_distances(x, z))
        if x is z:
            other = jnp.where(jnp.eye(x.shape[0], dtype=bool), 0.0, other)
        return -other, other


@pytree
class Laplace(Radial):
    """k(x, z) = exp(-|x - z| / bandwidth), with the Euclidean norm.

    Its gradient has a cusp at x = z; the slope there is taken as 0, so that a center drops out of the
    gradient at itself.
    """

    bandwidth: Scalar

    def profile(self, squared: Float[Array, "..."]) -> Float[Array, "..."]:
        """Returns exp(-sqrt(squared) / bandwidth)."""
        apart = squared > 0
        # The inner where keeps the derivative of the root finite at 0.
        distance = jnp.where(apart, jnp.sqrt(jnp.where(apart, squared, 1.0)), 0.0)
        return jnp.exp(-distance / self.bandwidth)

    def slope(self, squared: Float[Array, "..."]) -> Float[Array, "..."]:
        """Returns -k / (2 bandwidth sqrt(squared)), and 0 at distance 0."""
        apart = squared > 0
        distance = jnp.sqrt(jnp.where(apart, squared, 1.0))
        return jnp.where(apart, -jnp.exp(-distance / self.bandwidth) / (2 * self.bandwidth * distance), 0.0)

    def check(self) -> None:
        """Raises ValueError unless the bandwidth is positive."""
        check_bandwidth(self.bandwidth)


@pytree
class Gaussian(Radial):
    """k(x, z) = exp(-|x - z|^2 / (2 bandwidth^2))."""

    bandwidth: Scalar

    def profile(self, squared: Float[Array, "..."]) -> Float[Array, "..."]:
        """Returns exp(-squared / (2 bandwidth^2))."""
        return jnp.exp(-squared / (2 * self.bandwidth**2))

    def slope(self, squared: Float[Array, "..."]) -> Float[Array, "..."]:
        """Returns -k / (2 bandwidth^2)."""
        return -self.profile(squared) / (2 * self.bandwidth**2)

    def check(self) -> None:
        """Raises ValueError unless the bandwidth is positive."""
        check_bandwidth(self.bandwidth)


def check_bandwidth(bandwidth: Scalar) -> None:
    """Raises ValueError unless the bandwidth is a positive finite number; a traced one passes."""
    if is_concrete(bandwidth) and not 0 < float(bandwidth) < float("inf"):
        raise ValueError(f"bandwidth must be a positive finite number: got {float(bandwidth):g}")
