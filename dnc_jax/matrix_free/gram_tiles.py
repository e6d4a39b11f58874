"""The Gram matrix of rows with themselves as tiles, each pair of blocks once: kept, or made at every product.

Of b blocks of rows, block i is paired with blocks i, i + 1, ..., i + b // 2, counted round the end. So every
block has as many tiles, and a tile stands for its mirror image too; where b is even, the last tiles of blocks
i and i + b / 2 are mirror images of each other and count half.

Rows may be shared by devices: `axis` then names the mesh axis of the `jax.shard_map` around this, and every
device holds consecutive blocks and their tiles. None is one device.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dnc_jax.kernels import Kernel
from dnc_jax.linalg import matmul
from dnc_jax.sharing import gather_over, place_in, scatter_sum_over


class Rows(NamedTuple):
    """All rows in blocks, whole on every device, and the first of the blocks that are a device's own."""

    blocks: Float[Array, "b s ..."]
    first: Int[Array, ""] | int
    num_own: int


def rows_of(x: Float[Array, "o s ..."], axis: str | None) -> Rows:
    """Returns the rows of all devices, given a device's own blocks."""
    return Rows(gather_over(axis, x), place_in(axis) * len(x), len(x))


def num_tiles(num_blocks: int) -> int:
    """Returns how many tiles each block of rows has."""
    return num_blocks // 2 + 1


def make_tiles(kernel: Kernel, rows: Rows, dtype: jnp.dtype) -> Float[Array, "o t s s"]:
    """Returns the tiles of a device's own blocks, rounded to dtype."""

    def of_block(offset: Int[Array, ""]) -> Float[Array, "t s s"]:
        own = rows.blocks[rows.first + offset]
        diagonal = kernel(own, own).astype(dtype)

        def of_pair(step: Int[Array, ""]) -> Float[Array, "s s"]:
            return kernel(own, rows.blocks[_partner(rows, offset, step)]).astype(dtype)

        others = jax.lax.map(of_pair, jnp.arange(1, num_tiles(len(rows.blocks))))
        return jnp.concatenate([diagonal[None], others])

    return jax.lax.map(of_block, jnp.arange(rows.num_own))


def times(
    kernel: Kernel,
    rows: Rows,
    tiles: Float[Array, "o t s s"] | None,
    v: Float[Array, "o s c"],
    axis: str | None,
) -> Float[Array, "o s c"]:
    """Returns the Gram matrix times v, a device's own blocks of both; tiles of None are made on the way.

    Sums are in the dtype of v, whatever that of the tiles.
    """
    whole = gather_over(axis, v)
    count = num_tiles(len(rows.blocks))

    def add_block(total: Float[Array, "b s c"], offset: Int[Array, ""]) -> tuple[Float[Array, "b s c"], None]:
        at = rows.first + offset
        own, own_v = rows.blocks[at], whole[at]
        diagonal = kernel(own, own) if tiles is None else tiles[offset, 0]

        def add_pair(
            carry: tuple[Float[Array, "b s c"], Float[Array, "s c"]], step: Int[Array, ""]
        ) -> tuple[tuple[Float[Array, "b s c"], Float[Array, "s c"]], None]:
            total, own_sum = carry
            other = _partner(rows, offset, step)
            tile = kernel(own, rows.blocks[other]) if tiles is None else tiles[offset, step]
            share = _share(len(rows.blocks), step, v.dtype)
            tile = tile.astype(v.dtype)
            own_sum = own_sum + share * matmul(tile, whole[other])
            return (total.at[other].add(share * matmul(tile.T, own_v)), own_sum), None

        first = matmul(diagonal.astype(v.dtype), own_v)
        (total, own_sum), _ = jax.lax.scan(add_pair, (total, first), jnp.arange(1, count))
        return total.at[at].add(own_sum), None

    total, _ = jax.lax.scan(add_block, jnp.zeros_like(whole), jnp.arange(rows.num_own))
    return scatter_sum_over(axis, total)


def _partner(rows: Rows, offset: Int[Array, ""], step: Int[Array, ""]) -> Int[Array, ""]:
    return (rows.first + offset + step) % len(rows.blocks)


def _share(num_blocks: int, step: Int[Array, ""], dtype: jnp.dtype) -> Float[Array, ""]:
    return jnp.where(2 * step == num_blocks, 0.5, 1.0).astype(dtype)
