"""Precision and devices: the one place that changes JAX's global configuration."""

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import psutil
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from experiments.support import hosts

Precision = Literal["float32", "float64"]
LayerPrecision = Literal["float32", "float64", "mixed"]
"""mixed: arrays in float64, products in float32 where the answer of float64 survives them"""


class DeviceError(ValueError):
    """The devices or the precision asked for cannot be had."""


def set_precision(precision: LayerPrecision) -> jnp.dtype:
    """Switches JAX to the precision, for the whole process, and returns the dtype of its arrays.

    Raises:
        DeviceError: If float64 or mixed is asked for on a TPU, which emulates float64 at a fraction of its
            speed.
    """
    dtype = jnp.dtype("float64" if precision == "mixed" else precision)
    if dtype == "float64" and jax.default_backend() == "tpu":
        raise DeviceError("TPUs have no native float64: run with --precision=float32, or on a CPU or GPU")
    jax.config.update("jax_enable_x64", dtype == "float64")
    return dtype


def make_mesh(num_devices: int | None, num_rows: int) -> Mesh:
    """Returns a one-dimensional mesh over the first num_devices devices, all visible ones if None.

    Raises:
        DeviceError: If there are fewer devices, or none of some process of the run among them, or num_rows
            is not a multiple of their number.
    """
    visible = jax.devices()
    count = len(visible) if num_devices is None else num_devices
    if not 1 <= count <= len(visible):
        raise DeviceError(f"devices must lie in 1..{len(visible)}, the visible ones: got {count}")
    if num_rows % count:
        raise DeviceError(
            f"num_train must be a multiple of the {count} devices that share its rows: got {num_rows}; use "
            f"--num-train={num_rows - num_rows % count} or --devices=1"
        )
    chosen = visible[:count]
    if len({device.process_index for device in chosen}) < jax.process_count():
        raise DeviceError(
            f"each of the {jax.process_count()} processes must have devices among those that share the rows: "
            f"got the first {count} of {len(visible)}; leave --devices out"
        )
    return jax.make_mesh((count,), ("rows",), devices=chosen, axis_types=(AxisType.Auto,))


def shard_rows(mesh: Mesh, x: np.ndarray, dtype: jnp.dtype | None) -> jax.Array:
    """Returns x on the devices of the mesh, each holding a block of rows."""
    return _placed(NamedSharding(mesh, PartitionSpec("rows", *([None] * (x.ndim - 1)))), x, dtype)


def replicate(mesh: Mesh, x: np.ndarray, dtype: jnp.dtype | None) -> jax.Array:
    """Returns x on the devices of the mesh, whole on each."""
    return _placed(NamedSharding(mesh, PartitionSpec()), x, dtype)


def _placed(sharding: NamedSharding, x: np.ndarray, dtype: jnp.dtype | None) -> jax.Array:
    # Of devices that this process does not reach, others make their own parts.
    whole = np.asarray(x, dtype or jax.dtypes.canonicalize_dtype(x.dtype))
    return jax.make_array_from_callback(whole.shape, sharding, lambda part: whole[part])


def replicate_beside(x: jax.Array, tree: PyTree) -> PyTree:
    """Returns arrays whole on every device that x, rows of a mesh, lies on.

    What enters a jitted function must always come with one sharding: each one is compiled for anew.
    """
    assert isinstance(x.sharding, NamedSharding)
    return jax.device_put(tree, NamedSharding(x.sharding.mesh, PartitionSpec()))


def free_bytes(mesh: Mesh) -> int:
    """Returns the memory that is free on the fullest device of the mesh, of the host if it is a CPU."""
    statistics = [device.memory_stats() for device in mesh.local_devices]
    if all(statistics) and all("bytes_limit" in s for s in statistics):
        return hosts.least(min(s["bytes_limit"] - s["bytes_in_use"] for s in statistics))
    return hosts.least(min(psutil.virtual_memory().available, free_in_container()))


def free_in_container(root: Path = Path("/sys/fs/cgroup")) -> int:
    """Returns what is left of the memory that a container or a scheduler allows, pages of files not counted.

    Of control groups of version 2 or 1, as they are seen at root; without a limit, more than any machine has.
    """
    for folder, limit, used, cached in (
        (root, "memory.max", "memory.current", "inactive_file"),
        (root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            allowed = (folder / limit).read_text().strip()
            statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            if allowed.isdigit():
                return int(allowed) - int((folder / used).read_text()) + int(statistics.get(cached, 0))
        except (OSError, ValueError):
            continue
    return sys.maxsize


def num_in_one_memory(mesh: Mesh) -> int:
    """Returns how many devices have the bytes of `free_bytes` in common: all of a host if it is a CPU."""
    local = mesh.local_devices
    return len(local) * hosts.num_on_this_host() if local[0].platform == "cpu" else 1


def describe(mesh: Mesh) -> dict[str, Any]:
    """Returns what environment.json says of the machine and the software."""
    devices = list(mesh.devices.flat)
    return {
        "backend": devices[0].platform,
        "device_kind": devices[0].device_kind,
        "num_devices": len(devices),
        "num_processes": jax.process_count(),
        "num_cpus": os.cpu_count(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "dnc_jax": version("dnc_jax"),
        "jax": jax.__version__,
        "numpy": np.__version__,
    }
