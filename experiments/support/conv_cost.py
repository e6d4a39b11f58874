"""Memory and time of a run of `experiments.conv_rfm`, from its sizes and one measured rate."""

import math

import jax.numpy as jnp

from dnc_jax.kernels import ConvNTK
from dnc_jax.patches import num_patches
from experiments.support import estimate
from experiments.support.conv_data import ImageSets
from experiments.support.conv_options import Settings, agop_images, kernel_of
from experiments.support.estimate import BASE_BYTES, MemoryEstimateError

# Measured: n x n arrays alive at once in a fit, and D x D ones around the eigendecomposition of M.
GRAM_ARRAYS, FEATURE_ARRAYS = 4, 7
# Memory for tiles of pairs and of their derivatives, and for kept patches, in units of tile_bytes.
TILES, KEPT = 8, 32
# Measured: a pair of images takes as long at one position of one layer as so many flops of a matrix product,
# and its derivatives so many times as long.
FLOPS_PER_POSITION, DERIVATIVES = 600, 3


def cost(settings: Settings, sets: ImageSets, dtype: jnp.dtype, free: int) -> str:
    """Returns two lines, on the memory and on the time of a run.

    Raises:
        MemoryEstimateError: If more memory is needed than is free; it says the same, and what would fit.
    """
    needed = peak_bytes(settings, sets, dtype.itemsize)
    num_train = len(sets.train.labels)
    memory = (
        f"memory: about {estimate.in_words(needed)} at once (one kernel matrix is "
        f"{estimate.in_words(dtype.itemsize * num_train**2)}), {estimate.in_words(free)} free"
    )
    time = f"time: about {estimate.duration(run_seconds(settings, sets, dtype))}"
    if needed <= free:
        return f"{memory}\n{time}"
    share = max(0.9 * free / needed, 0.0) ** 0.5
    raise MemoryEstimateError(
        f"not enough {memory}; use --num-train={max(int(num_train * share), sets.num_classes)}\n{time}"
    )


def peak_bytes(settings: Settings, sets: ImageSets, itemsize: int) -> int:
    """Returns the largest memory that one iteration needs at once, images included, at most."""
    n, kernel = len(sets.train.labels), kernel_of(settings)
    held_out = [part for part in (sets.validation, sets.test) if part is not None]
    predicted = max(len(part.labels) for part in held_out)
    images = sum(part.images.size for part in (sets.train, *held_out))
    dim = kernel.patch_size**2 * sets.train.images.shape[-1]
    numbers = n * max(GRAM_ARRAYS * n, predicted) + FEATURE_ARRAYS * dim**2 + 2 * images
    positions = math.prod(layer_sizes(kernel, sets.train.images.shape[1:3])[0])
    kept = min(KEPT * kernel.tile_bytes, n * positions * (dim + 1) * itemsize)
    return BASE_BYTES + itemsize * numbers + TILES * kernel.tile_bytes + kept


def run_seconds(settings: Settings, sets: ImageSets, dtype: jnp.dtype) -> float:
    """Returns a rough time of the whole run, from the rate of one matrix product on this machine."""
    n, kernel = len(sets.train.labels), kernel_of(settings)
    held_out = sum(len(part.labels) for part in (sets.validation, sets.test) if part is not None)
    sizes = [math.prod(size) for size in layer_sizes(kernel, sets.train.images.shape[1:3])]
    power = 2 if kernel.pooling else 1
    dim = kernel.patch_size**2 * sets.train.images.shape[-1]
    of_pair = FLOPS_PER_POSITION * sum(size**power for size in sizes)
    products = 2 * sizes[0] ** power * dim
    roots = 2 * sizes[0] * dim**2 * (n + held_out)
    pairs = n * n / 2 + n * held_out
    drawn = agop_images(settings, n) or n
    gradients = 2 * sizes[0] ** power * dim * sets.num_classes
    updates = n * drawn * (DERIVATIVES * of_pair + products + gradients)
    plain, others = pairs * of_pair, pairs * (of_pair + products) + roots + updates
    num_iters, num_seeds = settings["num_iters"], len(settings["seeds"])
    return estimate.COMPILE_SECONDS + num_seeds * (plain + num_iters * others) / estimate.matmul_rate(dtype)


def layer_sizes(kernel: ConvNTK, image_shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Returns the rows and columns of positions of every layer."""
    sizes: list[tuple[int, int]] = []
    for _ in range(kernel.depth):
        before = sizes[-1] if sizes else image_shape
        sizes.append(num_patches(before, kernel.patch_size, kernel.padding, kernel.stride))
    return sizes
