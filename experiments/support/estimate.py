"""Memory and time of a run before it starts: what is counted, one measured rate, and what is said of them."""

import dataclasses
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dnc_jax.cost import CG_STEPS, LayerMethod, LayerSize, layer_cost
from dnc_jax.matrix_free import ConjugateGradients, Keep
from dnc_jax.matrix_free.solve import kept_bytes
from dnc_jax.solvers import cholesky_solve
from experiments.support import floor

# Measured: what the runtime and its compiled programs hold whatever the sizes, up to this with --solver=cg.
BASE_BYTES = 950 * 2**20
PROBE_SIZE = 1024
# Measured: compilation of the layer and of the metrics, for the first and for the later layers.
COMPILE_SECONDS = 20.0
SINGLE_ITEMSIZE = 4
BY_CHOLESKY = LayerMethod()
# From most memory to least.
KEEPS: tuple[Keep, ...] = ("float64", "float32", "nothing")


class MemoryEstimateError(ValueError):
    """A run needs more memory than is free."""


class Matrix(NamedTuple):
    """The name and the bytes of one of the arrays of a run."""

    name: str
    num_bytes: int


def peak_bytes(
    size: LayerSize,
    itemsize: int,
    method: LayerMethod = BY_CHOLESKY,
    num_in_one: int = 1,
    *,
    has_twin: bool = False,
) -> int:
    """Returns the largest memory that one layer needs at once, data and runtime included.

    Args:
        num_in_one: How many of the devices have this memory in common, as forced devices of a CPU do.
        has_twin: Whether a twin is fitted after the layer, whose data, M and M^(1/2) are there all along.
    """
    held = layer_cost(size, itemsize, method).bytes
    of_twin = held.data + 2 * itemsize * size.in_dim**2 if has_twin else 0
    return BASE_BYTES + num_in_one * (held.peak + of_twin)


def run_seconds(
    sizes: Sequence[LayerSize], num_runs: int, dtype: jnp.dtype, method: LayerMethod = BY_CHOLESKY
) -> float:
    """Returns a rough time of the whole run, from the rate of one matrix product on this machine."""
    flops = sum(layer_cost(size, dtype.itemsize, method).flops.total for size in sizes)
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


def cost(
    size: LayerSize,
    depth: int,
    num_runs: int,
    dtype: jnp.dtype,
    free: int,
    method: LayerMethod = BY_CHOLESKY,
    *,
    is_deep: bool = False,
    num_in_one: int = 1,
) -> str:
    """Returns two lines, on the memory and on the time of a run; size is that of its first layer.

    Args:
        free: Bytes free on the fullest device.
        is_deep: Whether the command is deep_rfm, which fits a twin in float32, and has --solver=cg, --cg-keep
            and --devices, so that they may be suggested.
        num_in_one: How many devices have these bytes in common.

    Raises:
        MemoryEstimateError: If more memory is needed than is free; it says the same, and what would fit.
    """
    later = dataclasses.replace(size, in_dim=size.width)
    sizes = [size] + [later] * (depth - 1)

    def needed(size: LayerSize) -> int:
        has_twin = is_deep and floor.has_twin(dtype)
        return peak_bytes(size, dtype.itemsize, method, num_in_one, has_twin=has_twin)

    largest = max(sizes, key=needed)
    took = f"time: about {duration(run_seconds(sizes, num_runs, dtype, method))}"
    if isinstance(method.solver, ConjugateGradients):
        took += f", for {CG_STEPS} steps of conjugate gradients in each fit"
    return plan(
        needed(largest),
        largest_matrix(largest, dtype.itemsize, method),
        dtype,
        free,
        took,
        lambda: what_fits(sizes[:2], dtype.itemsize, method, free, is_deep=is_deep, num_in_one=num_in_one),
        on_devices(method.num_devices, num_in_one),
    )


def on_devices(num_devices: int, num_in_one: int) -> str:
    """Returns what follows a number of bytes, to say whether it is that of one device or of many."""
    if num_devices == 1:
        return ""
    return (
        f" on all {num_in_one} devices together" if num_in_one > 1 else f" on each of {num_devices} devices"
    )


def plan(
    needed: int,
    matrix: Matrix,
    dtype: jnp.dtype,
    free: int,
    took: str,
    ways: Callable[[], Sequence[str]],
    where: str = "",
) -> str:
    """Returns a line on the memory of a run, and below it took, that on its time.

    Args:
        matrix: The largest array.
        ways: Called to get changes of options that each make the run fit.
        where: Follows the bytes that are needed, as `on_devices` says it.

    Raises:
        MemoryEstimateError: If more memory is needed than is free; it names the matrix and the ways.
    """
    of_matrix, in_all = in_words(matrix.num_bytes), in_words(needed)
    if needed <= free:
        largest = f"{matrix.name}: {of_matrix}"
        return f"memory: about {in_all} at once{where} ({largest}), {in_words(free)} free\n{took}"
    remedy = " or ".join(ways()) or "a machine with more memory"
    raise MemoryEstimateError(
        f"not enough memory: {matrix.name} needs {of_matrix} in {dtype} and the run about {in_all} at "
        f"once{where}, {in_words(free)} are free: use {remedy}\n{took}"
    )


@contextmanager
def compared(planned: str) -> Iterator[None]:
    """Says of memory that runs out within it what was planned, in the words of `cost` for deep_rfm."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise MemoryEstimateError(
            f"memory ran out ({str(error).splitlines()[0]}). The estimate was: {planned.splitlines()[0]}. "
            "Others may have taken what was free: run the same command again, which goes on after the last "
            "finished layer, or use --solver=cg, --cg-keep=nothing or a smaller --num-train"
        ) from error


def what_fits(
    sizes: Sequence[LayerSize],
    itemsize: int,
    method: LayerMethod,
    free: int,
    *,
    is_deep: bool,
    num_in_one: int,
) -> list[str]:
    """Returns changes of options that each make a run of layers of these sizes fit."""

    def needed(
        num_train: int | None = None,
        itemsize: int = itemsize,
        method: LayerMethod = method,
        num_in_one: int = num_in_one,
    ) -> int:
        changed = sizes if num_train is None else [dataclasses.replace(s, num_train=num_train) for s in sizes]
        has_twin = is_deep and itemsize == SINGLE_ITEMSIZE
        return max(peak_bytes(size, itemsize, method, num_in_one, has_twin=has_twin) for size in changed)

    # Mixed precision is of Cholesky alone.
    whole = dataclasses.replace(method, solver=cholesky_solve, mixed=False) if method.mixed else method
    also = " and --precision=float64" if method.mixed else ""
    ways = []
    for flag, solver in _lighter_solvers(method) if is_deep else ():
        if not ways and needed(method=dataclasses.replace(whole, solver=solver)) <= free:
            ways.append(flag + also)
    # Of several processes each must keep a device.
    alone, is_one_process = dataclasses.replace(method, num_devices=1), num_in_one == method.num_devices > 1
    if is_deep and is_one_process and needed(method=alone, num_in_one=1) <= free:
        ways.insert(0, "--devices=1")
    first = sizes[0]
    fewer = largest_fitting(needed, first.num_train, free)
    fewer -= fewer % method.num_devices
    if fewer >= max(first.num_outputs, method.agop_size or 0):
        ways.append(f"--num-train={fewer}")
    if itemsize > SINGLE_ITEMSIZE and needed(itemsize=SINGLE_ITEMSIZE, method=whole) <= free:
        ways.append("--precision=float32")
    return ways


def _lighter_solvers(method: LayerMethod) -> list[tuple[str, ConjugateGradients]]:
    """Returns flags of solvers that hold less than that of the method, and the solvers; fast ones first."""
    if isinstance(method.solver, ConjugateGradients):
        lighter = KEEPS[KEEPS.index(method.solver.keep) + 1 :]
        return [(f"--cg-keep={keep}", dataclasses.replace(method.solver, keep=keep)) for keep in lighter]
    others = [(f"--solver=cg with --cg-keep={keep}", ConjugateGradients(keep=keep)) for keep in KEEPS[1:]]
    return [("--solver=cg", ConjugateGradients()), *others]


def largest_fitting(needed: Callable[[int], int], asked: int, free: int) -> int:
    """Returns a number below the asked one that needs no more than is free while one more does; 0 if none."""
    return bisect_right(range(1, asked), free, key=needed)


def largest_matrix(size: LayerSize, itemsize: int, method: LayerMethod = BY_CHOLESKY) -> Matrix:
    """Returns the largest array on a device: kernel matrix (or what it keeps of it), M or data."""
    own, of_each = method.rows_of_one(size.num_train), " on each" if method.num_devices > 1 else ""
    kernel_matrix = Matrix("K" + of_each, itemsize * size.num_train**2)
    if isinstance(method.solver, ConjugateGradients):
        kept = kept_bytes(own, method.num_devices, method.solver, itemsize)
        kernel_matrix = Matrix("what is kept of K" + of_each, kept)
    data = Matrix("the data" + of_each, itemsize * (own + size.num_test) * size.in_dim)
    return max(
        kernel_matrix,
        Matrix("M" + of_each, itemsize * size.in_dim**2),
        data,
        key=lambda matrix: matrix.num_bytes,
    )


def duration(seconds: float) -> str:
    """Returns seconds in the unit that a person would use."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def in_words(num_bytes: float) -> str:
    """Returns bytes as GiB or MiB."""
    return f"{num_bytes / 2**30:.1f} GiB" if num_bytes >= 2**30 else f"{num_bytes / 2**20:.0f} MiB"
