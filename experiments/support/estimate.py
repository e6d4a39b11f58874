"""Memory and time of a Deep RFM run before it starts: counted flops and bytes, one measured rate."""

import dataclasses
import time
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from dnc_jax.closed_form import class_free_is_cheaper

# Measured: n x n arrays alive at once in the compiled layer, and d x d ones around the eigendecomposition.
GRAM_ARRAYS = 5
FEATURE_ARRAYS = 7
# Measured: a symmetric eigendecomposition takes about as long as this many d^3 of matrix product flops.
EIGH_FLOPS = 12
# Measured: what the runtime and its compiled programs hold whatever the sizes.
BASE_BYTES = 700 * 2**20
PROBE_SIZE = 1024
# Measured: compilation of the layer and of the metrics, for the first and for the later layers.
COMPILE_SECONDS = 20.0


@dataclass(frozen=True)
class LayerSize:
    """What the cost of a layer depends on: points n, test points, input d, width p, outputs c."""

    num_train: int
    num_test: int
    in_dim: int
    width: int
    num_outputs: int


def layer_flops(size: LayerSize) -> float:
    """Returns the floating-point operations of one layer: fit, AGOP, root, stages and metrics."""
    n, d, c = size.num_train, size.in_dim, size.num_outputs
    fit = 2 * n * n * d + n**3 / 3
    class_free, direct = 2.0 * n**3 + 4 * n * n * d, 2.0 * c * n * d * (n + d)
    gram = class_free if class_free_is_cheaper(n, d, n, c) else direct
    predictions = 2 * n * size.num_test * d
    maps = 2 * (n + size.num_test) * d * (d + size.width)
    return fit + gram + EIGH_FLOPS * d**3 + predictions + maps


def peak_bytes(size: LayerSize, itemsize: int) -> int:
    """Returns the largest memory that one layer needs at once, data included."""
    n, d, p = size.num_train, size.in_dim, size.width
    rows = (n + size.num_test) * (4 * d + 2 * p)
    return BASE_BYTES + itemsize * (GRAM_ARRAYS * n * n + FEATURE_ARRAYS * d * d + rows)


def run_seconds(sizes: list[LayerSize], num_runs: int, dtype: jnp.dtype) -> float:
    """Returns a rough time of the whole run, from the rate of one matrix product on this machine."""
    flops = sum(layer_flops(size) for size in sizes)
    return COMPILE_SECONDS + num_runs * flops / matmul_rate(dtype)


def matmul_rate(dtype: jnp.dtype) -> float:
    """Returns the flops per second of a square product, the best of three after a warm-up."""
    a = jnp.ones((PROBE_SIZE, PROBE_SIZE), dtype)
    product = jax.jit(lambda a: jnp.matmul(a, a, precision="highest"))
    jax.block_until_ready(product(a))
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        jax.block_until_ready(product(a))
        best = min(best, time.perf_counter() - start)
    return 2.0 * PROBE_SIZE**3 / best


class MemoryEstimateError(ValueError):
    """A run needs more memory than is free."""


def memory_line(sizes: list[LayerSize], itemsize: int, free: int) -> tuple[str, str | None]:
    """Returns a line on the memory needed and free, and what to do if more is needed than is free."""
    needed = max(peak_bytes(size, itemsize) for size in sizes)
    largest = max(sizes, key=lambda size: peak_bytes(size, itemsize))
    gram = itemsize * largest.num_train**2
    line = (
        f"memory: about {in_words(needed)} at once (one kernel matrix is {in_words(gram)}), "
        f"{in_words(free)} free"
    )
    if needed <= free:
        return line, None
    share = max(0.9 * (free - BASE_BYTES) / (needed - BASE_BYTES), 0.0)
    fitting = max(int(largest.num_train * share**0.5), largest.num_outputs)
    halved = max(peak_bytes(size, 4) for size in sizes)
    narrower = " or --precision=float32" if itemsize > 4 and halved <= free else ""
    return line, f"use --num-train={fitting}{narrower}"


def cost(size: LayerSize, depth: int, num_runs: int, dtype: jnp.dtype, free: int) -> str:
    """Returns two lines, on the memory and on the time of a run; size is that of its first layer.

    Raises:
        MemoryEstimateError: If more memory is needed than is free; it says the same, and what would fit.
    """
    sizes = [size] + [dataclasses.replace(size, in_dim=size.width)] * (depth - 1)
    memory, remedy = memory_line(sizes, dtype.itemsize, free)
    took = f"time: about {duration(run_seconds(sizes, num_runs, dtype))}"
    if remedy:
        raise MemoryEstimateError(f"not enough {memory}; {remedy}\n{took}")
    return f"{memory}\n{took}"


def duration(seconds: float) -> str:
    """Returns seconds in the unit that a person would use."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def in_words(num_bytes: float) -> str:
    """Returns bytes as GiB or MiB."""
    return f"{num_bytes / 2**30:.1f} GiB" if num_bytes >= 2**30 else f"{num_bytes / 2**20:.0f} MiB"
