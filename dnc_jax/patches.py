"""Overlapping patches of images: what the first layer of a convolutional kernel sees."""

from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Padding: TypeAlias = Literal["valid", "same"]


def image_patches(
    images: Float[Array, "n h w c"], patch_size: int, padding: Padding, stride: int
) -> Float[Array, "n i j d"]:
    """Returns every q x q patch of every image, flattened in the order (row, column, channel).

    Patch (i, j) has its upper left pixel at (stride i, stride j): of the image for "valid", of the image
    with margins of zeros for "same", which gives ceil(h / stride) x ceil(w / stride) patches.

    Raises:
        ValueError: If images are no (n, h, w, c) array, a size is not positive, the padding is unknown, or
            no patch fits into an image.
    """
    _check(images.shape, patch_size, padding, stride)
    sides = images.shape[1:3]
    pads = jax.lax.padtype_to_pads(sides, (patch_size,) * 2, (stride,) * 2, padding.upper())
    padded = jnp.pad(images, ((0, 0), *pads, (0, 0)))
    rows, columns = ((size - patch_size) // stride + 1 for size in padded.shape[1:3])
    shifted = [
        padded[:, a : a + stride * rows : stride, b : b + stride * columns : stride]
        for a in range(patch_size)
        for b in range(patch_size)
    ]
    return jnp.concatenate(shifted, axis=-1)


def _check(shape: tuple[int, ...], patch_size: int, padding: str, stride: int) -> None:
    if len(shape) != 4:
        raise ValueError(f"images must have the axes (n, h, w, channels): got shape {shape}")
    if min(patch_size, stride) < 1:
        raise ValueError(f"patch_size and stride must be at least 1: got {patch_size} and {stride}")
    if padding not in ("valid", "same"):
        raise ValueError(f"padding must be 'valid' or 'same': got {padding!r}")
    if padding == "valid" and patch_size > min(shape[1:3]):
        raise ValueError(
            f"a patch must fit into an image: got patch_size {patch_size} and images of {shape[1]} x "
            f"{shape[2]}; take smaller patches, or padding 'same'"
        )
