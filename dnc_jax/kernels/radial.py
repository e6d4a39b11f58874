"""Radial kernels: two scalar functions of the squared distance, a profile and its slope.

The profile gives the Gram matrix, the slope gives every gradient, hence one closed-form AGOP for all:
grad_x k(x, z) = 2 slope(|x - z|^2) (x - z).
"""

from numbers import Real

import jax.numpy as jnp
from jaxtyping import Array, Float

from dnc_jax.kernels.protocol import Kernel
from dnc_jax.linalg import squared_distances
from dnc_jax.types import Scalar, is_concrete, pytree, static_field


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
        return self._terms(squared_distances(x, z), x is z)

    def at(self, x: Float[Array, "n d"]) -> "RadialAt":
        """Returns the kernel at the rows of x alone, computing their distances once for all that follows."""
        return RadialAt(self, squared_distances(x, x))

    def _terms(self, squared: Float[Array, "n m"], same: bool) -> tuple[Array, Array]:
        other = -2 * self.slope(squared)
        if same:
            other = jnp.where(jnp.eye(squared.shape[0], dtype=bool), 0.0, other)
        return -other, other


@pytree
class RadialAt(Radial):
    """A radial kernel at one set of rows, whose squared distances are kept: it may be called there alone."""

    kernel: Radial
    squared: Array

    def profile(self, squared: Float[Array, "..."]) -> Float[Array, "..."]:
        """Returns that of the kernel."""
        return self.kernel.profile(squared)

    def slope(self, squared: Float[Array, "..."]) -> Float[Array, "..."]:
        """Returns that of the kernel."""
        return self.kernel.slope(squared)

    def __call__(self, x: Float[Array, "n d"], z: Float[Array, "m d"]) -> Float[Array, "n m"]:
        """Returns the Gram matrix of the rows, which x and z must both be, the same object."""
        self._check(x, z)
        return self.profile(self.squared)

    def gradient_terms(
        self, x: Float[Array, "n d"], z: Float[Array, "m d"]
    ) -> tuple[Float[Array, "n m"], Float[Array, "n m"]]:
        """Returns those of the kernel at the rows, which x and z must both be, the same object."""
        self._check(x, z)
        return self._terms(self.squared, same=True)

    def _check(self, x: Float[Array, "n d"], z: Float[Array, "m d"]) -> None:
        if x is not z or x.shape[0] != self.squared.shape[0]:
            raise ValueError(
                f"a kernel at {self.squared.shape[0]} rows can be called at these alone, the same object "
                f"twice: got arrays of {x.shape[0]} and {z.shape[0]} rows"
            )


def at_rows(kernel: Kernel, x: Float[Array, "n d"]) -> Kernel:
    """Returns a kernel that keeps the distances of the rows of x, if it is radial; any other as it is."""
    return kernel.at(x) if isinstance(kernel, Radial) else kernel


def anywhere(kernel: Kernel) -> Kernel:
    """Returns the kernel that `at_rows` was given."""
    return kernel.kernel if isinstance(kernel, RadialAt) else kernel


@pytree
class Laplace(Radial):
    """k(x, z) = exp(-(|x - z| / bandwidth)^exponent), with the Euclidean norm and 0 < exponent <= 2.

    exponent 1 is the Laplace kernel proper, exponent 2 is exp(-|x - z|^2 / bandwidth^2). It is part of the
    structure, not a leaf: a program is compiled for each. Up to exponent 1 the kernel has a cusp at x = z;
    below 2 the slope there is taken as 0, so that a center drops out of the gradient at itself.

    References:
        Schoenberg (1938): positive definite in every dimension exactly for these exponents.
    """

    bandwidth: Scalar
    exponent: float = static_field(default=1.0)

    def profile(self, squared: Float[Array, "..."]) -> Float[Array, "..."]:
        """Returns exp(-(sqrt(squared) / bandwidth)^exponent)."""
        if self.exponent == 2:
            return jnp.exp(-squared / self.bandwidth**2)
        apart = squared != 0
        # The inner where keeps the derivative of the root finite at 0.
        scaled = jnp.sqrt(jnp.where(apart, squared, 1.0)) / self.bandwidth
        power = scaled if self.exponent == 1 else scaled**self.exponent
        return jnp.where(apart, jnp.exp(-power), 1.0)

    def slope(self, squared: Float[Array, "..."]) -> Float[Array, "..."]:
        """Returns -exponent k (sqrt(squared) / bandwidth)^exponent / (2 squared), and 0 at distance 0."""
        if self.exponent == 2:
            return -self.profile(squared) / self.bandwidth**2
        apart = squared != 0
        distance = jnp.sqrt(jnp.where(apart, squared, 1.0))
        scaled = distance / self.bandwidth
        if self.exponent == 1:
            return jnp.where(apart, -jnp.exp(-scaled) / (2 * self.bandwidth * distance), 0.0)
        power = scaled**self.exponent
        return jnp.where(apart, -self.exponent * jnp.exp(-power) * power / (2 * distance * distance), 0.0)

    def check(self) -> None:
        """Raises ValueError unless the bandwidth is positive and 0 < exponent <= 2."""
        check_bandwidth(self.bandwidth)
        if not isinstance(self.exponent, Real) or not 0 < self.exponent <= 2:
            raise ValueError(
                f"exponent must be a number above 0 and at most 2: got {self.exponent}; the kernel is not "
                "positive definite beyond"
            )


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
