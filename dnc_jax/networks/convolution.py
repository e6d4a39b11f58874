"""A convolution as every layer here computes it: by the library of the platform, on CPUs by its patches."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def convolve(
    x: Float[Array, "n h w d"],
    weights: Float[Array, "a b d p"],
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
    rows, columns, *_ = weights.shape
    x = jnp.pad(
        x, ((0, 0), _margins(x.shape[1], rows, stride), _margins(x.shape[2], columns, stride), (0, 0))
    )
    height, width = ((n - size) // stride + 1 for n, size in zip(x.shape[1:3], (rows, columns), strict=True))
    shifted = [
        x[:, i : i + (height - 1) * stride + 1 : stride, j : j + (width - 1) * stride + 1 : stride]
        for i in range(rows)
        for j in range(columns)
    ]
    patches = jnp.concatenate(shifted, axis=-1)
    return jnp.matmul(patches, weights.reshape(-1, weights.shape[-1]), precision=precision)


def _margins(size: int, window: int, stride: int) -> tuple[int, int]:
    """Returns the zeros before and after an axis, so that ceil(size / stride) windows fit."""
    missing = max((-(-size // stride) - 1) * stride + window - size, 0)
    return missing // 2, missing - missing // 2
