"""How long does a convolutional tangent kernel take, how near to its flops, and what does a patch AGOP cost?

The Gram matrix of n images, x against itself, and the patch AGOP of a machine on them, at all n images. The
flops that must be spent are counted by hand: a pair of images at one position of one layer takes
`position_flops`, the products of its pixels two for each; there are n (n + 1) / 2 pairs. Over the rate of a
square matrix product in the same run they are the time that is needed. Peak memory is that of the whole
process.

    python -m benchmarks.conv_ntk --output=timings.jsonl
"""

import argparse
import math
import resource
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import flags, timing
from dnc_jax import ConvNTK, KernelMachine, patch_agop
from dnc_jax.kernels.arc_cosine import polynomials
from dnc_jax.kernels.convolutional import layer_sizes

PRODUCT_SIZE = 2000


def position_flops(dtype: jnp.dtype, is_last: bool) -> int:
    """Returns what a pair of images needs at a position of a layer: additions, products, roots.

    Two polynomials, at two flops a coefficient; 20 for correlation, gap, root, S' and T'; and, but in the
    last layer, two additions each for rows and columns of two running means.
    """
    return 2 * sum(map(len, polynomials(float(jnp.finfo(dtype).eps)))) + 20 + (0 if is_last else 8)


def necessary_flops(kernel: ConvNTK, num_images: int, image_shape: Sequence[int], dtype: jnp.dtype) -> float:
    """Returns the flops of the pairs of a Gram matrix: products of pixels, and all layers."""
    per_pair = 2.0 * math.prod(image_shape)
    for layer, size in enumerate(layer_sizes(kernel, tuple(image_shape)), start=1):
        per_pair += math.prod(size) * position_flops(dtype, layer == kernel.depth)
    return num_images * (num_images + 1) / 2 * per_pair


def peak_bytes() -> int:
    """Returns the largest memory that this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def measure(
    num_images: int,
    image_size: int,
    channels: int,
    patch_size: int,
    depth: int,
    num_outputs: int,
    repeats: int,
    dtype: str,
) -> dict[str, Any]:
    """Returns seconds of the Gram matrix and of the AGOP, their ratio, and the ratio to the flops."""
    shape = (image_size, image_size, channels)
    x = jax.random.uniform(jax.random.key(0), (num_images, *shape), dtype)
    weights = jax.random.normal(jax.random.key(1), (num_images, num_outputs), dtype)
    kernel = ConvNTK(depth, patch_size)
    machine = KernelMachine(kernel, x, weights)
    product, product_flops = timing.large_product(PRODUCT_SIZE, jnp.dtype(dtype))
    seconds = timing.medians({"gram": partial(kernel, x, x), "product": product}, repeats=repeats)
    of_gram = peak_bytes()
    both = {"agop": partial(patch_agop, machine), "gram_again": partial(kernel, x, x)}
    seconds |= timing.medians(both, repeats=repeats)
    needed = necessary_flops(kernel, num_images, shape, jnp.dtype(dtype))
    rate = product_flops / seconds["product"]
    return {
        "gram_seconds": seconds["gram"],
        "gram_peak_gib": of_gram / 2**30,
        "necessary_gigaflops": needed / 1e9,
        "product_gigaflops_per_second": rate / 1e9,
        "gram_over_necessary": seconds["gram"] * rate / needed,
        "agop_seconds": seconds["agop"],
        "agop_over_gram": seconds["agop"] / seconds["gram_again"],
        "agop_peak_gib": peak_bytes() / 2**30,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures at the sizes given on the command line and reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--num_images", type=flags.count, default=1000)
    parser.add_argument("--image_size", type=flags.count, default=32)
    parser.add_argument("--channels", type=flags.count, default=3)
    parser.add_argument("--patch_size", type=flags.count, default=3)
    parser.add_argument("--depth", type=flags.count, default=3)
    parser.add_argument("--num_outputs", type=flags.count, default=10)
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float64")
    parser.add_argument("--repeats", type=flags.count, default=3)
    parser.add_argument(
        "--output", type=flags.file_to_write, default=None, help="file that lines of JSON are appended to"
    )
    options = vars(parser.parse_args(arguments))
    output = options.pop("output")
    with jax.enable_x64(options["dtype"] == "float64"):
        found = measure(**options)
        sizes = {name: value for name, value in options.items() if name not in ("dtype", "repeats")}
        timing.report("conv_ntk", sizes | found, jnp.dtype(options["dtype"]), output)


if __name__ == "__main__":
    main()
