"""Memory and time of a run of `experiments.conv_rfm`, from its sizes and one measured rate."""

import math
from typing import NamedTuple

import jax.numpy as jnp

from dnc_jax.kernels.convolutional import KEPT_TILES, layer_sizes, num_positions
from experiments.support import estimate
from experiments.support.conv_data import DatasetName, ImageSets, known_shape
from experiments.support.conv_options import Settings, agop_images, kernel_of
from experiments.support.estimate import BASE_BYTES, Matrix, largest_fitting
from experiments.support.image_pools import PARTS

# Measured: n x n arrays alive at once in a fit, and D x D ones around the eigendecomposition of M.
GRAM_ARRAYS, FEATURE_ARRAYS = 4, 7
# Measured: memory for tiles of pairs and of their derivatives, in units of tile_bytes.
TILES = 8
# Images are kept in float64 on the host; the smaller of the precisions.
STORED_ITEMSIZE, SINGLE = 8, 4
# Measured: a pair of images takes as long at one position of one layer as so many flops of a matrix product,
# and its derivatives so many times as long.
FLOPS_PER_POSITION, DERIVATIVES = 700, 3
# Measured: products of the patches of a tile run at so much less than the rate of a large product.
SMALL_PRODUCTS = 8


class Sizes(NamedTuple):
    """What the cost of a run depends on, but for the kernel: images of each part, their shape, classes."""

    num_train: int
    num_validation: int
    num_test: int
    image_shape: tuple[int, int, int]
    num_classes: int


def sizes_of(sets: ImageSets) -> Sizes:
    """Returns the sizes of loaded images."""
    train, validation, test = sets.train, sets.validation, sets.test
    _, height, width, channels = train.images.shape
    num_validation = 0 if validation is None else len(validation.labels)
    shape, counts = (height, width, channels), (len(train.labels), num_validation, len(test.labels))
    return Sizes(*counts, shape, sets.num_classes)


def expected_sizes(dataset: DatasetName, settings: Settings) -> Sizes | None:
    """Returns the sizes of images that are not loaded yet; None for those of a folder, which may be any."""
    if dataset == "folder":
        return None
    shape, num_classes = known_shape(dataset)
    num_train, num_validation, num_test = (settings[f"num_{part}"] for part in PARTS)
    return Sizes(num_train, num_validation, num_test, shape, num_classes)


def cost(settings: Settings, sizes: Sizes, dtype: jnp.dtype, free: int) -> str:
    """Returns two lines, on the memory and on the time of a run.

    Raises:
        ValueError: If the images are too small for the network.
        MemoryEstimateError: If more memory is needed than is free; it says the same, and what would fit.
    """
    kernel_of(settings).check_images(jnp.empty((1, *sizes.image_shape)))
    images = STORED_ITEMSIZE * num_numbers(sizes)
    matrices = (
        Matrix("K", dtype.itemsize * sizes.num_train**2),
        Matrix("the images, kept in float64,", images),
    )
    return estimate.plan(
        peak_bytes(settings, sizes, dtype.itemsize),
        max(matrices, key=lambda matrix: matrix.num_bytes),
        dtype,
        free,
        f"time: about {estimate.duration(run_seconds(settings, sizes, dtype))}",
        lambda: what_fits(settings, sizes, dtype.itemsize, free),
    )


def what_fits(settings: Settings, sizes: Sizes, itemsize: int, free: int) -> list[str]:
    """Returns changes of options that each make a run fit."""

    def needed(num_train: int) -> int:
        return peak_bytes(settings, sizes._replace(num_train=num_train), itemsize)

    largest = largest_fitting(needed, sizes.num_train, free)
    ways = [f"--num-train={largest}"] if largest >= sizes.num_classes else []
    single = itemsize > SINGLE and peak_bytes(settings, sizes, SINGLE) <= free
    return ways + ["--precision=float32"] * single


def num_numbers(sizes: Sizes) -> int:
    """Returns how many numbers all images have."""
    return (sizes.num_train + sizes.num_validation + sizes.num_test) * math.prod(sizes.image_shape)


def peak_bytes(settings: Settings, sizes: Sizes, itemsize: int) -> int:
    """Returns the largest memory that one iteration needs at once, images included, at most."""
    n, kernel = sizes.num_train, kernel_of(settings)
    predicted = max(sizes.num_validation, sizes.num_test)
    images = num_numbers(sizes)
    dim = kernel.patch_size**2 * sizes.image_shape[-1]
    numbers = n * max(GRAM_ARRAYS * n, n + predicted) + FEATURE_ARRAYS * dim**2 + images
    positions = num_positions(kernel, sizes.image_shape)
    kept = min(KEPT_TILES * kernel.tile_bytes, n * positions * (dim + 1) * itemsize)
    stored = STORED_ITEMSIZE * images
    return BASE_BYTES + itemsize * numbers + stored + TILES * kernel.tile_bytes + kept


def run_seconds(settings: Settings, sizes: Sizes, dtype: jnp.dtype) -> float:
    """Returns a rough time of the whole run, from the rate of one matrix product on this machine."""
    n, kernel = sizes.num_train, kernel_of(settings)
    held_out = sizes.num_validation + sizes.num_test
    layers = [math.prod(size) for size in layer_sizes(kernel, sizes.image_shape)]
    power = 2 if kernel.pooling else 1
    dim = kernel.patch_size**2 * sizes.image_shape[-1]
    of_pair = FLOPS_PER_POSITION * sum(positions**power for positions in layers)
    product = SMALL_PRODUCTS * 2 * layers[0] ** power * dim
    roots = 2 * layers[0] * dim**2 * (n + held_out)
    pairs = n * n / 2 + n * held_out
    drawn = agop_images(settings, n) or n
    updates = n * drawn * (DERIVATIVES * of_pair + product * (1 + sizes.num_classes))
    plain, others = pairs * of_pair, pairs * (of_pair + product) + roots + updates
    flops = len(settings["seeds"]) * (plain + settings["num_iters"] * others)
    return estimate.COMPILE_SECONDS + flops / estimate.matmul_rate(dtype)
