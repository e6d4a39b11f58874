"""Times functions that compete, in turns within one process, and keeps what was measured."""

import json
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp


def medians(functions: Mapping[str, Callable[[], Any]], *, repeats: int) -> dict[str, float]:
    """Returns the median seconds of each function, called in turns after one call that warms it up.

    In turns, because what else runs on the machine then slows all of them: compare only within one call.

    Raises:
        ValueError: If repeats is below 1.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1: got {repeats}")
    for function in functions.values():
        jax.block_until_ready(function())
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            jax.block_until_ready(function())
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def large_product(size: int, dtype: jnp.dtype) -> tuple[Callable[[], jax.Array], float]:
    """Returns a square matrix product to measure the rate of the machine by, and its flops."""
    a = jax.random.normal(jax.random.key(0), (size, size), dtype)
    product = jax.jit(lambda a: jnp.matmul(a, a, precision="highest"))
    return lambda: product(a), 2.0 * size**3


def environment(dtype: jnp.dtype) -> dict[str, Any]:
    """Returns what a timing depends on: jax version, cores that may be used, device and dtype."""
    return {
        "jax": jax.__version__,
        "cpu_count": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "device": jax.devices()[0].device_kind,
        "num_devices": jax.device_count(),
        "dtype": jnp.dtype(dtype).name,
    }


def report(name: str, record: Mapping[str, Any], dtype: jnp.dtype, output: Path | None) -> None:
    """Prints a record under its environment, and appends it to output as one line of JSON."""
    where = environment(dtype)
    print(_heading(name, where))
    width = max(map(len, record))
    for key, value in record.items():
        print(f"  {key:<{width}}  {_shown(value)}")
    _append(output, [{"benchmark": name, **where, **record}])


def report_rows(
    name: str,
    sizes: Mapping[str, int],
    rows: Sequence[Mapping[str, Any]],
    dtype: jnp.dtype,
    output: Path | None,
) -> None:
    """Prints records of one form as a table, and appends each, with sizes, to output as a line of JSON."""
    where = environment(dtype)
    print(_heading(name, {**where, **sizes}))
    table = [list(rows[0]), *([_shown(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for first, *others in table:
        numbers = (f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True))
        print("  " + "  ".join([f"{first:<{widths[0]}}", *numbers]))
    _append(output, [{"benchmark": name, **where, **sizes, **row} for row in rows])


def _heading(name: str, facts: Mapping[str, Any]) -> str:
    return f"{name}: " + ", ".join(f"{key} {value}" for key, value in facts.items())


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _append(output: Path | None, records: Sequence[Mapping[str, Any]]) -> None:
    if output is not None:
        with output.open("a") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)
