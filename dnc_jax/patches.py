"""Patches of images, and what a convolution does to a quantity that each of its positions has."""

from typing import Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

Padding: TypeAlias = Literal["valid", "same"]
"""Patches inside the image alone, or as many as pixels, with zeros around it."""


# Patches larger than this are cut in two steps: a program of one slice for each pixel takes long to compile.
LARGEST_UNROLLED = 11


def image_patches(
    images: Float[Array, "n h w d"], patch_size: int, padding: Padding = "valid", stride: int = 1
) -> Float[Array, "n i j p"]:
    """Returns every patch of every image as a row, in the order (row, column, channel).

    Args:
        padding: "valid" takes the patches inside the image, "same" surrounds it with zeros so that there are
            ceil(h / stride) times ceil(w / stride) of them.

    Raises:
        ValueError: If the padding is unknown or a patch is larger than the image.
    """
    num_patches(images.shape[1:3], patch_size, padding, stride)
    rows = _shifts(images, (1,), patch_size, padding, stride)
    if patch_size <= LARGEST_UNROLLED:
        shifted = [part for row in rows for part in _shifts(row, (2,), patch_size, padding, stride)]
        return jnp.concatenate(shifted, axis=-1)
    columns = _shifts(jnp.stack(rows, axis=3), (2,), patch_size, padding, stride)
    patches = jnp.stack(columns, axis=4)
    return patches.reshape(*patches.shape[:3], -1)


def patch_sums(
    values: Float[Array, "..."],
    row_axes: tuple[int, ...],
    column_axes: tuple[int, ...],
    patch_size: int,
    padding: Padding = "valid",
    stride: int = 1,
) -> Float[Array, "..."]:
    """Returns the sum of values over every patch; several row axes, and so columns, are shifted together."""
    for axes in (row_axes, column_axes):
        values = _window_sums(values, axes, patch_size, padding, stride)
    return values


def spread_patches(
    values: Float[Array, "..."],
    row_axes: tuple[int, ...],
    column_axes: tuple[int, ...],
    shape: tuple[int, ...],
    patch_size: int,
    padding: Padding = "valid",
    stride: int = 1,
) -> Float[Array, "..."]:
    """Returns the transpose of `patch_sums` for its values of this shape: the sum over patches at a place."""
    for axes in (row_axes, column_axes):
        margins = [(0, 0, 0)] * values.ndim
        for axis in axes:
            before, _ = _margins(shape[axis], patch_size, padding, stride)
            low = patch_size - 1 - before
            spread = (values.shape[axis] - 1) * stride + 1
            margins[axis] = (low, shape[axis] + patch_size - 1 - low - spread, stride - 1)
        values = _window_sums(jax.lax.pad(values, jnp.zeros((), values.dtype), margins), axes, patch_size)
    return values


def num_patches(
    image_shape: tuple[int, ...], patch_size: int, padding: Padding = "valid", stride: int = 1
) -> tuple[int, int]:
    """Returns how many patches lie below and beside each other.

    Raises:
        ValueError: If the padding is unknown or a patch is larger than the image.
    """
    check_padding(padding)
    if padding == "valid" and min(image_shape) < patch_size:
        raise ValueError(
            f"patch_size must be at most the height and width of the image: got {patch_size} for "
            f"{image_shape[0]} x {image_shape[1]} pixels; take smaller patches, or padding='same'"
        )
    height, width = (
        (size + sum(_margins(size, patch_size, padding, stride)) - patch_size) // stride + 1
        for size in image_shape
    )
    return height, width


def check_padding(padding: Padding) -> None:
    """Raises ValueError for a padding that is unknown."""
    if padding not in get_args(Padding):
        raise ValueError(f"padding must be one of {', '.join(get_args(Padding))}: got {padding!r}")


def _window_sums(
    values: Float[Array, "..."],
    axes: tuple[int, ...],
    patch_size: int,
    padding: Padding = "valid",
    stride: int = 1,
) -> Float[Array, "..."]:
    if len(axes) != 1:
        shifted = _shifts(values, axes, patch_size, padding, stride)
        return sum(shifted[1:], start=shifted[0])
    axis = axes[-1]
    window, strides, margins = [1] * values.ndim, [1] * values.ndim, [(0, 0)] * values.ndim
    window[axis], strides[axis] = patch_size, stride
    margins[axis] = _margins(values.shape[axis], patch_size, padding, stride)
    zero = np.zeros((), values.dtype)
    return jax.lax.reduce_window(values, zero, jax.lax.add, window, strides, margins)


def _shifts(
    values: Shaped[Array, "..."],
    axes: tuple[int, ...],
    patch_size: int,
    padding: Padding = "valid",
    stride: int = 1,
) -> list[Shaped[Array, "..."]]:
    """Returns the values that lie 0, 1, ... patch_size - 1 after the start of each patch, along all axes."""
    margins = [(0, 0)] * values.ndim
    for axis in axes:
        margins[axis] = _margins(values.shape[axis], patch_size, padding, stride)
    padded = jnp.pad(values, margins)
    shifted = []
    for start in range(patch_size):
        part = padded
        for axis in axes:
            last = padded.shape[axis] - patch_size + start
            part = jax.lax.slice_in_dim(part, start, last + 1, stride, axis)
        shifted.append(part)
    return shifted


def _margins(size: int, patch_size: int, padding: Padding, stride: int) -> tuple[int, int]:
    return jax.lax.padtype_to_pads((size,), (patch_size,), (stride,), padding.upper())[0]
