"""Memory and time of a run on CelebA, from its options alone: at most, since attributes may be rare."""

import jax.numpy as jnp

from dnc_jax.cost import LayerSize
from experiments.support import estimate
from experiments.support.celeba_rows import MIN_PER_CLASS, num_train_per_class
from experiments.support.data.celeba import NUM_TEST
from experiments.support.estimate import largest_fitting

NUM_CLASSES, NUM_CHANNELS = 2, 3


def largest_size(image_size: int, num_per_class: int) -> LayerSize:
    """Returns the size of an attribute that has all the images that are asked for."""
    num_train = NUM_CLASSES * num_train_per_class(num_per_class)
    num_validation = NUM_CLASSES * num_per_class - num_train
    num_test = NUM_CLASSES * min(num_per_class, NUM_TEST // NUM_CLASSES)
    in_dim = NUM_CHANNELS * image_size**2
    return LayerSize(num_train, num_validation + num_test, in_dim, 0, NUM_CLASSES)


def cost(image_size: int, num_per_class: int, num_fits: int, dtype: jnp.dtype, free: int) -> str:
    """Returns two lines, on the memory and on the time of a run at most.

    Raises:
        MemoryEstimateError: If more memory is needed than is free; it says the same, and what would fit.
    """
    size = largest_size(image_size, num_per_class)
    seconds = estimate.run_seconds([size], num_fits, dtype)
    return estimate.plan(
        estimate.peak_bytes(size, dtype.itemsize),
        estimate.largest_matrix(size, dtype.itemsize),
        dtype,
        free,
        f"time: about {estimate.duration(seconds)} at most, and that of reading images",
        lambda: what_fits(image_size, num_per_class, dtype.itemsize, free),
    )


def what_fits(image_size: int, num_per_class: int, itemsize: int, free: int) -> list[str]:
    """Returns changes of options that each make a run fit: of one where that suffices, else of two."""

    def needed(image_size: int, num_per_class: int) -> int:
        return estimate.peak_bytes(largest_size(image_size, num_per_class), itemsize)

    ways = []
    fewer = largest_fitting(lambda number: needed(image_size, number), num_per_class, free)
    if fewer >= MIN_PER_CLASS:
        ways.append(f"--num-per-class={fewer}")
    smaller = largest_fitting(lambda side: needed(side, num_per_class), image_size, free)
    if smaller:
        ways.append(f"--image-size={smaller}")
    if estimate.peak_bytes(largest_size(image_size, num_per_class), 4) <= free and itemsize > 4:
        ways.append("--precision=float32")
    if ways:
        return ways
    number = largest_fitting(lambda n: needed(_share(image_size, n, num_per_class), n), num_per_class, free)
    if number < MIN_PER_CLASS:
        return []
    side = _share(image_size, number, num_per_class)
    return [f"--num-per-class={number} with --image-size={side}"]


def _share(whole: int, part: int, of: int) -> int:
    return max(whole * part // of, 1)
