"""Untrained random feature maps, and the samplers that draw them.

Samplers draw in float32 and return the default float type, so that one key gives the same map in either
precision. They run outside jitted code.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from dnc_jax.linalg import matmul
from dnc_jax.types import pytree


@pytree
class ReLUFeatures:
    """phi(x) = max(x W, 0) for weights W of shape (d, p)."""

    weights: Array

    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, "n p"]:
        """Returns the features of every row of x."""
        return jax.nn.relu(matmul(x, self.weights))


@pytree
class FourierFeatures:
    """phi(x) = sqrt(2 / p) cos(x F + b), for frequencies F of shape (d, p) and phases b of shape (p,).

    phi(x).phi(z) estimates the shift-invariant kernel whose Fourier transform the columns of F are drawn
    from, with an error of order p^(-1/2).

    References:
        Rahimi and Recht (2007), Algorithm 1.
    """

    frequencies: Array
    phases: Array

    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, "n p"]:
        """Returns the features of every row of x."""
        angles = matmul(x, self.frequencies) + self.phases[None, :]
        return jnp.sqrt(2.0 / self.phases.shape[0]).astype(angles.dtype) * jnp.cos(angles)


def relu_features(key: PRNGKeyArray, in_dim: int, width: int) -> ReLUFeatures:
    """Returns ReLU features with weights uniform on [-1/sqrt(d), 1/sqrt(d)], d = in_dim.

    References:
        Beaglehole, Sukenik, Mondelli and Belkin (2024), as in their released code.
    """
    _check_sizes(in_dim, width)
    # 2 u - 1 is exact and its product rounded once: CPUs and GPUs draw the same bits, though some fuse a
    # product with a sum after it. Normal and Cauchy draws may differ in their last bits.
    uniform = jax.random.uniform(key, (in_dim, width), jnp.float32)
    return ReLUFeatures(((2.0 * uniform - 1.0) * in_dim**-0.5).astype(float))


def gaussian_fourier_features(
    key: PRNGKeyArray, in_dim: int, width: int, *, bandwidth: float
) -> FourierFeatures:
    """Returns Fourier features of exp(-|r|^2 / (2 bandwidth^2)): frequencies N(0, I / bandwidth^2)."""
    _check_sizes(in_dim, width)
    frequency_key, phase_key = jax.random.split(key)
    draws = jax.random.normal(frequency_key, (in_dim, width), jnp.float32)
    return _fourier(draws, phase_key, bandwidth)


def laplace_fourier_features(
    key: PRNGKeyArray, in_dim: int, width: int, *, bandwidth: float
) -> FourierFeatures:
    """Returns Fourier features of exp(-|r|_2 / bandwidth): frequencies multivariate Cauchy.

    A multivariate Cauchy vector is g / |s| with g ~ N(0, I) and one scalar s ~ N(0, 1) per vector.
    """
    _check_sizes(in_dim, width)
    frequency_key, phase_key = jax.random.split(key)
    normals = jax.random.normal(frequency_key, (in_dim + 1, width), jnp.float32)
    return _fourier(normals[1:] / jnp.abs(normals[:1]), phase_key, bandwidth)


def product_laplace_fourier_features(
    key: PRNGKeyArray, in_dim: int, width: int, *, bandwidth: float
) -> FourierFeatures:
    """Returns Fourier features of exp(-|r|_1 / bandwidth): frequencies Cauchy, independent by coordinate.

    These are the "Laplace" features of the released Deep RFM code; its gamma is 1 / bandwidth.
    """
    _check_sizes(in_dim, width)
    frequency_key, phase_key = jax.random.split(key)
    draws = jax.random.cauchy(frequency_key, (in_dim, width), jnp.float32)
    return _fourier(draws, phase_key, bandwidth)


def _fourier(draws: Float[Array, "d p"], phase_key: PRNGKeyArray, bandwidth: float) -> FourierFeatures:
    if not 0 < bandwidth < float("inf"):
        raise ValueError(f"bandwidth of the features must be a positive finite number: got {bandwidth:g}")
    phases = jax.random.uniform(phase_key, draws.shape[1:], jnp.float32, 0.0, 2 * jnp.pi)
    return FourierFeatures(draws.astype(float) / bandwidth, phases.astype(float))


def _check_sizes(in_dim: int, width: int) -> None:
    if in_dim < 1 or width < 1:
        raise ValueError(f"in_dim and width must be at least 1: got in_dim {in_dim}, width {width}")
