"""What do collapse metrics cost beside one pass over the data, and beside their definitions?

Random classes in float32. Three metrics, each against its definition with a d x d covariance matrix, written
once and run in JAX (jitted), numpy and, where it is installed, PyTorch; and `collapse_metrics`, which gives
all of them. Times are medians of calls in turns, beside `jnp.sum(x * x)`, which reads the data once. Memory
is by how much a process, one for each function, grows at most after the first call, looked up every
millisecond.

    python -m benchmarks.metrics --output=timings.jsonl
"""

import argparse
import importlib
import multiprocessing
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.util import find_spec
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import psutil

import dnc_jax
from benchmarks import flags, timing

METRICS = ("nc1", "nc1_trace_ratio", "nc2")
LIBRARIES = ("jax", "numpy", *(["torch"] if find_spec("torch") else []))
DTYPE = jnp.dtype(jnp.float32)
POLL_SECONDS = 0.001
WATCHED_CALLS = 3
AnyArray: TypeAlias = Any
"""An array of any of the libraries."""


class Library(NamedTuple):
    """An array library in which the definitions can be written: its namespace and what differs in it."""

    namespace: Any
    as_array: Callable[[np.ndarray], AnyArray]
    class_sums: Callable[[AnyArray, AnyArray, int], AnyArray]
    pinv: Callable[..., Any]


def library(name: str) -> Library:
    """Returns the library of a name in LIBRARIES."""
    if name == "jax":
        return Library(jnp, jnp.asarray, jax.ops.segment_sum, partial(jnp.linalg.pinv, hermitian=True))
    if name == "numpy":

        def sums(x: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
            return np.stack([x[labels == k].sum(0) for k in range(num_classes)])

        return Library(np, np.asarray, sums, partial(np.linalg.pinv, hermitian=True))
    torch = importlib.import_module("torch")

    def index_add(x: AnyArray, labels: AnyArray, num_classes: int) -> AnyArray:
        return torch.zeros(num_classes, x.shape[1]).index_add_(0, labels, x)

    return Library(torch, torch.from_numpy, index_add, partial(torch.linalg.pinv, hermitian=True))


def by_definition(lib: Library, metric: str, x: AnyArray, labels: AnyArray, num_classes: int) -> AnyArray:
    """Returns a metric as its definition reads, from Sigma_W and Sigma_B or from the Gram of class means."""
    xp = lib.namespace
    counts = lib.class_sums(xp.ones_like(x[:, :1]), labels, num_classes)
    means = lib.class_sums(x, labels, num_classes) / counts
    centered = means - means.mean(0)[None]
    if metric == "nc2":
        unit = centered / xp.sqrt((centered * centered).sum(1))[:, None]
        simplex = (num_classes * xp.eye(num_classes) - 1) / (num_classes - 1)
        cosines = unit @ unit.T
        return xp.linalg.norm(cosines / xp.linalg.norm(cosines) - simplex / xp.linalg.norm(simplex))
    noise = x - means[labels]
    within, between = noise.T @ noise / x.shape[0], centered.T @ centered / num_classes
    if metric == "nc1_trace_ratio":
        return xp.trace(within) / xp.trace(between)
    tolerance = x.shape[1] * float(np.finfo(np.float32).eps)
    return xp.trace(within @ lib.pinv(between, tolerance)) / num_classes


def make_classes(num_rows: int, dim: int, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns points (n, d) in float32 and labels (n,): normal classes about normal means, in any order."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((num_rows, dim), np.float32)
    labels = rng.permutation(np.arange(num_rows) % num_classes)
    x += rng.standard_normal((num_classes, dim), np.float32)[labels]
    return x, labels


def contenders(num_rows: int, dim: int, num_classes: int) -> dict[str, Callable[[], Any]]:
    """Returns every function to be measured, by name, on the same points."""
    points = make_classes(num_rows, dim, num_classes)
    x, labels = map(jnp.asarray, points)
    squares = jax.jit(lambda x: jnp.sum(x * x))
    functions: dict[str, Callable[[], Any]] = {"sum_of_squares": lambda: squares(x)}
    for name in (*METRICS, "collapse_metrics"):
        functions[f"{name}/dnc_jax"] = partial(getattr(dnc_jax, name), x, labels, num_classes)
    for lib_name in LIBRARIES:
        lib = library(lib_name)
        arrays = tuple(map(lib.as_array, points))
        for metric in METRICS:
            function = partial(by_definition, lib, metric, num_classes=num_classes)
            if lib_name == "jax":
                function = jax.jit(function)
            functions[f"{metric}/{lib_name}"] = partial(function, *arrays)
    return functions


def added_memory(sizes: Mapping[str, int], name: str) -> float:
    """Returns by how many MiB this process grows at most in calls of a function after the first."""
    function, process = contenders(**sizes)[name], psutil.Process()
    jax.block_until_ready(function())
    resident, is_done = [process.memory_info().rss], threading.Event()

    def watch() -> None:
        while not is_done.wait(POLL_SECONDS):
            resident.append(process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(WATCHED_CALLS):
        jax.block_until_ready(function())
    is_done.set()
    watcher.join()
    return (max(resident) - resident[0]) / 2**20


def measure_memory(sizes: Mapping[str, int], names: Sequence[str]) -> dict[str, float]:
    """Returns `added_memory` of every name, each in a new process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as processes:
        return dict(zip(names, processes.map(partial(added_memory, sizes), names), strict=True))


def measure(sizes: Mapping[str, int], *, repeats: int, memory: bool) -> list[dict[str, Any]]:
    """Returns for each contender its seconds, those over the sum of squares, and the MiB it adds.

    Raises:
        RuntimeError: If a definition disagrees with the library, so that other things were timed.
    """
    functions = contenders(**sizes)
    check_agreement(functions)
    seconds = timing.medians(functions, repeats=repeats)
    added = measure_memory(sizes, list(functions)) if memory else {}
    return [
        {
            "function": name,
            "seconds": seconds[name],
            "over_sum_of_squares": seconds[name] / seconds["sum_of_squares"],
            "added_mib": added.get(name),
        }
        for name in functions
    ]


def check_agreement(functions: Mapping[str, Callable[[], Any]]) -> None:
    """Raises RuntimeError if a definition gives another number than the library."""
    for metric in METRICS:
        ours = float(functions[f"{metric}/dnc_jax"]())
        for lib_name in LIBRARIES:
            theirs = float(functions[f"{metric}/{lib_name}"]())
            if not np.isclose(ours, theirs, rtol=1e-3):
                raise RuntimeError(f"{metric} in {lib_name} is {theirs:g}, in dnc_jax {ours:g}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures at the sizes given on the command line and reports, one record for each number of classes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--num_rows", type=flags.count, default=50_000)
    parser.add_argument("--dim", type=flags.count, default=512)
    parser.add_argument("--num_classes", type=flags.count, nargs="+", default=[10, 1000])
    parser.add_argument("--repeats", type=flags.count, default=5)
    parser.add_argument("--memory", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument(
        "--output", type=flags.file_to_write, default=None, help="file that lines of JSON are appended to"
    )
    options = parser.parse_args(arguments)
    if "torch" not in LIBRARIES:
        print("PyTorch is not installed: its definitions are left out")
    for num_classes in options.num_classes:
        sizes = {"num_rows": options.num_rows, "dim": options.dim, "num_classes": num_classes}
        rows = measure(sizes, repeats=options.repeats, memory=options.memory)
        timing.report_rows("metrics", sizes, rows, DTYPE, options.output)


if __name__ == "__main__":
    main()
