"""Rows that devices share: what they add up and exchange within `jax.shard_map`, over one mesh axis.

Every device has as many rows. An axis of None is one device alone, and nothing is exchanged.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from dnc_jax.linalg import matmul


def sum_over(axis: str | None, value: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
    """Returns the sum over devices."""
    return value if axis is None else jax.lax.psum(value, axis)


def gather_over(axis: str | None, rows: Shaped[Array, "n ..."]) -> Shaped[Array, "m ..."]:
    """Returns the rows of all devices, whole on each."""
    return rows if axis is None else jax.lax.all_gather(rows, axis, tiled=True)


def scatter_sum_over(axis: str | None, rows: Shaped[Array, "m ..."]) -> Shaped[Array, "n ..."]:
    """Returns a device's own rows of the sum over devices."""
    return rows if axis is None else jax.lax.psum_scatter(rows, axis, tiled=True)


def place_in(axis: str | None) -> Int[Array, ""] | int:
    """Returns the number of the device."""
    return 0 if axis is None else jax.lax.axis_index(axis)


def num_devices_of(axis: str | None) -> int:
    """Returns how many devices share the rows."""
    return 1 if axis is None else jax.lax.axis_size(axis)


def inner(axis: str | None, a: Float[Array, "n p"], b: Float[Array, "n q"]) -> Float[Array, "p q"]:
    """Returns a^T b of the rows of all devices."""
    return sum_over(axis, matmul(a.T, b))


def lengths_of_columns(axis: str | None, a: Float[Array, "n c"]) -> Float[Array, "c"]:
    """Returns the Euclidean length of each column, of the rows of all devices."""
    return jnp.sqrt(sum_over(axis, jnp.sum(a * a, axis=0)))
