"""The average gradient outer product of a kernel machine on images with respect to their patches."""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from dnc_jax.checks import check_finite
from dnc_jax.chunking import tree_bytes
from dnc_jax.kernels import ConvNTK
from dnc_jax.kernels.conv_recursion import Patches, pair_derivatives, pair_of, variance_gradients
from dnc_jax.kernels.convolutional import KEPT_TILES, num_positions, patch_rows
from dnc_jax.linalg import matmul
from dnc_jax.machine import KernelMachine

# Images on a side of a tile at most: beyond, arrays of pairs leave the cache.
LARGEST_TILE = 32
# Memory for derivatives, in units of the kernel's tile_bytes.
DERIVATIVE_TILES = 4


def patch_agop(machine: KernelMachine, images: Float[Array, "n h w d"] | None = None) -> Float[Array, "p p"]:
    """Returns (1/(n P)) sum_i sum_a G_ia^T G_ia, G_ia (c, D) the gradients of f by patch a of image i.

    The P patches of an image are those of the first layer of a `ConvNTK`, flattened in the order (row,
    column, channel) and taken as independent variables, before patch_root; the sum over outputs is in
    G^T G. At the machine's own centers where images is None.

    The derivatives of a pair of images are computed once, for all positions and outputs: by the covariance
    and the variances of the first layer, S = 2 <u_a, u_b> / D, so that with weights a_mc the gradient by u_a
    is the sum over m, b of a_mc [dk/dS (2/D) u_b + dk/dp (4/D) u_a].

    Raises:
        ValueError: If the machine's kernel is no `ConvNTK`, or images are none that it can take or hold NaN.

    References:
        Beaglehole, Radhakrishnan, Pandit and Belkin (2023), arXiv:2309.00570, on convolutional RFM.
    """
    kernel = conv_kernel(machine)
    if images is not None:
        kernel.check_images(images, machine.centers.shape[1:], machine.centers.dtype)
        check_finite("images", images)
    return _jitted_core(machine, images)


def patch_agop_core(
    machine: KernelMachine, images: Float[Array, "n h w d"] | None = None
) -> Float[Array, "p p"]:
    """Returns `patch_agop` without its checks, for use under jit."""
    kernel, centers = conv_kernel(machine), machine.centers
    images = centers if images is None else images
    size = _tile_size(machine)
    others = Others(*(_blocks(a, size) for a in (centers, machine.weights)))
    to_patches = partial(patch_rows, kernel)
    kept = KEPT_TILES * kernel.tile_bytes
    if len(others.images) * tree_bytes(jax.eval_shape(to_patches, others.images[0])) <= kept:
        others = others._replace(images=jax.lax.map(to_patches, others.images))
    rows = _blocks(images, size)
    is_image = _blocks(jnp.ones(len(images), centers.dtype), size)

    def add(total: Array, block: tuple[Array, Array]) -> tuple[Array, None]:
        gradients = _gradients(kernel, block[0], others) * block[1][None, None, :, None, None]
        flat = gradients.reshape(-1, gradients.shape[-1])
        return total + matmul(flat.T, flat), None

    dim = kernel.patch_size**2 * centers.shape[-1]
    total, _ = jax.lax.scan(add, jnp.zeros((dim, dim), centers.dtype), (rows, is_image))
    root = kernel.patch_root
    total = total if root is None else matmul(root, matmul(total, root.T))
    total = total * (2 / dim) / (len(images) * num_positions(kernel, centers.shape[1:]))
    return (total + total.T) / 2


_jitted_core = jax.jit(patch_agop_core)


class Others(NamedTuple):
    """The centers in blocks, as images or as patches, with their weights."""

    images: PyTree
    weights: Float[Array, "b s c"]


def _gradients(kernel: ConvNTK, images: Float[Array, "r h w d"], others: Others) -> Float[Array, "i j r c p"]:
    """Returns the gradients of every output by u, the patches as `patch_rows` scales them."""
    network, own = kernel.convolutions, patch_rows(kernel, images)
    num_outputs = others.weights.shape[-1]

    def add(sums: tuple[Array, Array], block: Others) -> tuple[tuple[Array, Array], None]:
        other = block.images if isinstance(block.images, Patches) else patch_rows(kernel, block.images)
        pair = pair_of(network, own, other)
        by_covariance, by_variances = pair_derivatives(network, pair)
        across = _contract(kernel, by_covariance, other.values, block.weights)
        along = variance_gradients(network, pair.own, by_variances, block.weights)
        return (sums[0] + across, sums[1] + along), None

    shape, dtype = (*own.variances.shape, num_outputs), images.dtype
    start = (jnp.zeros((*shape, own.values.shape[-1]), dtype), jnp.zeros(shape, dtype))
    (across, along), _ = jax.lax.scan(add, start, others)
    return across + 2 * along[..., None] * own.values[:, :, :, None, :]


def _contract(
    kernel: ConvNTK,
    by_covariance: Float[Array, "*positions r s"],
    v: Float[Array, "i j s p"],
    weights: Float[Array, "s c"],
) -> Float[Array, "i j r c p"]:
    """Returns the sum over the other images, and their positions, of derivative, weight and patch."""
    weighted = (weights[None, None, :, :, None] * v[:, :, :, None, :]).reshape(*v.shape[:3], -1)
    if kernel.pooling:
        contracted = jnp.einsum("ijklrs,klsq->ijrq", by_covariance, weighted, precision="highest")
    else:
        contracted = matmul(by_covariance, weighted)
    return contracted.reshape(*contracted.shape[:3], weights.shape[1], v.shape[-1])


def _blocks(x: Float[Array, "n ..."], size: int) -> Float[Array, "b s ..."]:
    """Returns x in blocks of at most size rows, filled up with zeros."""
    num_blocks = -(-len(x) // size)
    length = -(-len(x) // num_blocks)
    filled = jnp.pad(x, [(0, num_blocks * length - len(x))] + [(0, 0)] * (x.ndim - 1))
    return filled.reshape(num_blocks, length, *x.shape[1:])


def _tile_size(machine: KernelMachine) -> int:
    """Returns how many images a tile has on a side, so that what is alive fits the memory of the kernel.

    With s images that is (4 + 4 depth) s^2 numbers for each pair of positions, and twice 2 s c D, the
    gradients and the weighted patches, for each position.
    """
    kernel, centers = conv_kernel(machine), machine.centers
    positions = num_positions(kernel, centers.shape[1:])
    pairs = (4 + 4 * kernel.depth) * positions ** (2 if kernel.pooling else 1)
    gradients = 4 * positions * machine.weights.shape[1] * kernel.patch_size**2 * centers.shape[-1]
    numbers = DERIVATIVE_TILES * kernel.tile_bytes / centers.dtype.itemsize
    return min(
        LARGEST_TILE, max(1, int(2 * numbers / (gradients + math.sqrt(gradients**2 + 4 * pairs * numbers))))
    )


def conv_kernel(machine: KernelMachine) -> ConvNTK:
    """Returns the kernel of a machine; raises ValueError for one that has no patches."""
    if not isinstance(machine.kernel, ConvNTK):
        raise ValueError(
            f"a patch AGOP needs a machine with a ConvNTK: got {type(machine.kernel).__name__}; kernel_agop "
            "takes other kernels"
        )
    return machine.kernel
