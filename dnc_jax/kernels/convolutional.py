"""The neural tangent kernel of convolutional ReLU networks, computed in tiles of pairs of images."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dnc_jax.checks import check_count
from dnc_jax.chunking import map_tiles
from dnc_jax.kernels.conv_recursion import (
    IMAGE_AXES,
    Convolutions,
    Patches,
    kernel_of_pair,
    pair_of,
    sums_over_patches,
)
from dnc_jax.linalg import matmul
from dnc_jax.patches import Padding, check_padding, image_patches, num_patches
from dnc_jax.types import is_concrete, pytree, static_field

# Arrays of the size of the covariances that are alive at once.
LIVE_ARRAYS = 6
# Memory for the patches of all images, in units of tile_bytes; more are computed again for each tile.
KEPT_TILES = 32
# Images of at most so many rows, with as many columns as channels and more, are taken for channels first.
MOST_CHANNELS = 4


@pytree
class ConvNTK:
    """Neural tangent kernel of an infinitely wide convolutional ReLU network, of images (n, h, w, d).

    The network is depth times [convolution (W_std = sqrt 2, no bias), ReLU], then Flatten, or with pooling
    the mean over positions, then Dense (W_std = 1): each layer divides by its fan-in. The first convolution
    has S(a, b) = 2 <u_a(x), u_b(z)> / D for the patches u_a, u_b at positions a, b, flattened to their D
    numbers and times patch_root where that is given. With p, q the variances S_aa(x, x), S_bb(z, z), cos t =
    S / sqrt(pq), T = S in the first layer, and A the mean over the patch around a and, shifted alike, b:

        S <- A[sqrt(pq) (sin t + (pi - t) cos t)/pi],    T <- S + A[T (1 - t/pi)],

    after the last layer without A and halved; k is then the mean of T over a = b, or with pooling over all
    a, b. So a pair costs h w numbers per layer, with pooling h^2 w^2. The kernel is
    homogeneous: k(s x, z) = s k(x, z).

    Patches whose 1 - cos t is below 32 eps count as equal, and above 2 - 32 eps as opposite: the angle floor
    of the dtype is 1e-7 in float64, 3e-3 in float32. Derivatives are finite everywhere; at patches of zeros
    and at cusps the part without a limit counts as 0.

    Args:
        padding: "valid" or "same", of every convolution.
        patch_root: (D, D), applied to patches of the first convolution in the order (row, column, channel);
            None is the identity. A feature matrix M acts through its square root here, and nowhere else:
            transformed patches, which overlap, are no image.
        tile_bytes: memory for the pairs of one tile; at least one pair is taken.

    References:
        Arora, Du, Hu, Li, Salakhutdinov and Wang (2019), Section 4.
        Novak, Xiao, Hron, Lee, Alemi, Sohl-Dickstein and Schoenholz (2020), the parametrization.
    """

    depth: int = static_field()
    patch_size: int = static_field()
    pooling: bool = static_field(default=False)
    padding: Padding = static_field(default="valid")
    stride: int = static_field(default=1)
    patch_root: Array | None = None
    tile_bytes: int = static_field(default=2**26)

    def __call__(self, x: Float[Array, "n h w d"], z: Float[Array, "m h w d"]) -> Float[Array, "n m"]:
        """Returns the Gram matrix of the images x against the images z; tiles once each where z is x."""
        self.check_images(z)
        if z is not x:
            self.check_images(x, z.shape[1:], z.dtype)
        return _jitted_gram(self, x, None if x is z else z)

    @property
    def convolutions(self) -> Convolutions:
        """The structure of the network."""
        return Convolutions(self.depth, self.patch_size, self.pooling, self.padding, self.stride)

    def check(self) -> None:
        """Raises ValueError for hyper-parameters outside their range; a traced patch_root passes."""
        for name in ("depth", "patch_size", "stride", "tile_bytes"):
            check_count(name, getattr(self, name))
        if not isinstance(self.pooling, bool):
            raise ValueError(f"pooling must be True or False: got {self.pooling!r}")
        check_padding(self.padding)
        root = self.patch_root
        if root is not None and not isinstance(root, jax.Array | np.ndarray):
            raise ValueError(f"patch_root must be an array: got {type(root).__name__}; use jnp.asarray")
        if root is not None and (root.ndim != 2 or root.shape[0] != root.shape[1]):
            raise ValueError(f"patch_root must be a square matrix: got shape {root.shape}")
        if root is not None and is_concrete(root) and not np.all(np.isfinite(np.asarray(root))):
            raise ValueError("patch_root must be finite: got NaN or infinite entries")

    def check_images(
        self,
        images: Float[Array, "n h w d"],
        image_shape: tuple[int, ...] | None = None,
        dtype: jnp.dtype | None = None,
    ) -> None:
        """Raises ValueError for what are no images that the network of a kernel can take.

        Args:
            image_shape: (h, w, d) that they must have; None takes any.
            dtype: That they must have; None takes that of patch_root, or any floating one.
        """
        self.check()
        if images.ndim != 4 or not jnp.issubdtype(images.dtype, jnp.floating) or images.shape[0] == 0:
            raise ValueError(
                f"images must be floats of shape (n, height, width, channels): got {images.dtype} of shape "
                f"{images.shape}; of gray images give the channel, images[..., None]"
            )
        num_images, height, width, channels = images.shape
        if height <= MOST_CHANNELS < channels == width:
            raise ValueError(
                f"images must have their channels last: got shape {images.shape}, which looks like "
                f"{num_images} images of {height} channels; use images.transpose(0, 2, 3, 1)"
            )
        if image_shape is not None and images.shape[1:] != image_shape:
            raise ValueError(
                f"all images must have one height, width and number of channels: got {images.shape[1:]} and "
                f"{image_shape}"
            )
        root = self.patch_root
        expected = dtype or (images.dtype if root is None else root.dtype)
        if images.dtype != expected:
            raise ValueError(
                f"images, centers and patch_root must share one dtype: got images in {images.dtype}, "
                f"expected {expected}; use images.astype({str(expected)!r})"
            )
        layer_sizes(self, (height, width))
        dim = self.patch_size**2 * channels
        if root is not None and root.shape[0] != dim:
            raise ValueError(
                f"patch_root must have {dim} rows, for patches of {self.patch_size} x {self.patch_size} "
                f"pixels with {channels} channels: got shape {root.shape}"
            )


def patches_of(kernel: ConvNTK, images: Float[Array, "r h w d"]) -> Patches:
    """Returns what the pairs of the images are made of: pixels, or patches where there is a patch_root.

    Scaled so that 2 <u, v> / D is a product of two of them.
    """
    dim = kernel.patch_size**2 * images.shape[-1]
    if kernel.patch_root is None:
        pixels = jnp.moveaxis(images, 0, 2) * (2 / dim) ** 0.5
        squares = jnp.sum(pixels * pixels, axis=-1)
        return Patches(pixels, sums_over_patches(kernel.convolutions, IMAGE_AXES, squares), are_pixels=True)
    return patch_rows(kernel, images)


def patch_rows(kernel: ConvNTK, images: Float[Array, "r h w d"]) -> Patches:
    """Returns sqrt(2/D) times the patches of the first layer times patch_root: S = u . v."""
    patches = image_patches(images, kernel.patch_size, kernel.padding, kernel.stride)
    patches = jnp.moveaxis(patches, 0, 2) * (2 / patches.shape[-1]) ** 0.5
    if kernel.patch_root is not None:
        patches = matmul(patches, kernel.patch_root)
    return Patches(patches, jnp.sum(patches * patches, axis=-1), are_pixels=False)


def layer_sizes(kernel: ConvNTK, image_shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Returns the rows and columns of positions of every layer, for images of height, width and more.

    Raises:
        ValueError: If a layer receives less than a patch.
    """
    sizes: list[tuple[int, int]] = []
    for layer in range(1, kernel.depth + 1):
        height, width = sizes[-1] if sizes else image_shape[:2]
        if kernel.padding == "valid" and min(height, width) < kernel.patch_size:
            raise ValueError(
                f"patch_size is larger than what layer {layer} receives: got {kernel.patch_size} for "
                f"{height} x {width} of an image of {image_shape[0]} x {image_shape[1]} pixels; take smaller "
                f"patches, a lower depth than {kernel.depth}, or padding='same'"
            )
        sizes.append(num_patches((height, width), kernel.patch_size, kernel.padding, kernel.stride))
    return sizes


def num_positions(kernel: ConvNTK, image_shape: tuple[int, ...]) -> int:
    """Returns how many patches of the first layer an image has."""
    return math.prod(layer_sizes(kernel, image_shape)[0])


@jax.jit
def _jitted_gram(
    kernel: ConvNTK, x: Float[Array, "n h w d"], z: Float[Array, "m h w d"] | None
) -> Float[Array, "n m"]:
    def tile(own: Patches, other: Patches) -> Float[Array, "r s"]:
        return kernel_of_pair(kernel.convolutions, pair_of(kernel.convolutions, own, other))

    numbers = num_positions(kernel, x.shape[1:]) ** (2 if kernel.pooling else 1)
    pair_bytes = LIVE_ARRAYS * numbers * x.dtype.itemsize
    size = max(1, math.isqrt(kernel.tile_bytes // pair_bytes))
    keep_bytes = KEPT_TILES * kernel.tile_bytes
    return map_tiles(tile, x, z, size, prepare=partial(patches_of, kernel), keep_bytes=keep_bytes)
