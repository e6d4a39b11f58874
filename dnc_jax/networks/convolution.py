"""A convolution as every layer here computes it: by the library of the platform, on CPUs by its patches."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dnc_jax.patches import image_patches


def convolve(
    x: Float[Array, "n h w d"],
    weights: Float[Array, "a a d p"],
    stride: int,
    precision: jax.lax.Precision | None = None,
) -> Float[Array, "n i j p"]:
    """Returns x * W with SAME padding: at every pixel, the patch around it times W as a map of patches.

    On CPUs the patches are gathered and multiplied in one product. Inside a loop, XLA there computes the
    derivative of its own convolution without a library, a hundred times slower.
    """
    options = {"stride": stride, "precision": precision}
    return jax.lax.platform_dependent(
        x, weights, cpu=partial(_by_patches, **options), default=partial(_by_library, **options)
    )


def _by_library(x: Array, weights: Array, *, stride: int, precision: jax.lax.Precision | None) -> Array:
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, weights, (stride, stride), "SAME", dimension_numbers=numbers, precision=precision
    )


def _by_patches(x: Array, weights: Array, *, stride: int, precision: jax.lax.Precision | None) -> Array:
    patches = image_patches(x, len(weights), "same", stride)
    return jnp.matmul(patches, weights.reshape(-1, weights.shape[-1]), precision=precision)
