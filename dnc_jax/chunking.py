"""Row blocks: the one place that knows that memory is finite."""

import operator
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree, Shaped

Result = TypeVar("Result", bound=PyTree)


def sum_rows(
    fn: Callable[[PyTree], Result], rows: PyTree[Shaped[Array, "n ..."]], batch_size: int | None
) -> Result:
    """Returns the sum of fn over consecutive blocks of batch_size rows, the last one shorter.

    fn must itself be a sum over the rows that it is given. None takes all rows as one block. Several arrays
    with as many rows are cut alike.
    """
    return reduce_rows(fn, rows, batch_size, partial(jax.tree.map, operator.add))


def reduce_rows(
    fn: Callable[[PyTree], Result],
    rows: PyTree[Shaped[Array, "n ..."]],
    batch_size: int | None,
    combine: Callable[[Result, Result], Result],
) -> Result:
    """Returns combine(... combine(fn(block 1), fn(block 2)) ...) over consecutive blocks of batch_size rows.

    The last block may be shorter. fn and combine must give the same result whatever the blocks are. None
    takes all rows as one block.
    """
    num_rows = jax.tree.leaves(rows)[0].shape[0]
    check_batch_size(batch_size)
    if batch_size is None or batch_size >= num_rows:
        return fn(rows)
    num_blocks = num_rows // batch_size
    end = num_blocks * batch_size
    blocks = jax.tree.map(lambda a: a[:end].reshape(num_blocks, batch_size, *a.shape[1:]), rows)

    def add(total: Result, block: PyTree) -> tuple[Result, None]:
        return combine(total, fn(block)), None

    first, others = jax.tree.map(lambda a: a[0], blocks), jax.tree.map(lambda a: a[1:], blocks)
    total, _ = jax.lax.scan(add, fn(first), others)
    if num_rows % batch_size:
        total, _ = add(total, jax.tree.map(lambda a: a[end:], rows))
    return total


def map_rows(
    fn: Callable[[PyTree], Result], x: PyTree[Shaped[Array, "n ..."]], batch_size: int | None
) -> Result:
    """Returns fn of x computed on blocks of batch_size rows and concatenated; None takes one block.

    fn must treat its rows independently of each other. Several arrays with as many rows are cut alike.
    """
    check_batch_size(batch_size)
    if batch_size is None or batch_size >= jax.tree.leaves(x)[0].shape[0]:
        return fn(x)

    def of_one(row: PyTree) -> Result:
        return jax.tree.map(lambda a: a[0], fn(jax.tree.map(lambda a: a[None], row)))

    return jax.lax.map(of_one, x, batch_size=batch_size)


def map_tiles(
    fn: Callable[[Array, Array], Shaped[Array, "r s"]],
    x: Shaped[Array, "n ..."],
    z: Shaped[Array, "m ..."] | None,
    size: int,
) -> Shaped[Array, "n m"]:
    """Returns fn(x, z), an entry for each row of x with each row of z, in tiles of at most size by size.

    z of None is x itself: fn must then be symmetric, and tiles below the diagonal are mirrored. A derivative
    computes each tile again instead of keeping what is inside of it.
    """
    rows = _blocks(x, size)
    columns = rows if z is None else _blocks(z, size)
    tiles = np.indices((len(rows), len(columns))).reshape(2, -1).T
    if z is None:
        tiles = tiles[tiles[:, 0] <= tiles[:, 1]]
    (num_rows, height), (num_columns, width) = rows.shape[:2], columns.shape[:2]

    @jax.checkpoint
    def tile_of(row: Array, column: Array) -> Array:
        return fn(rows[row], columns[column])

    def fill(matrix: Array, tile: Array) -> tuple[Array, None]:
        row, column = tile
        values = tile_of(row, column)
        matrix = jax.lax.dynamic_update_slice(matrix, values, (row * height, column * width))
        if z is None:
            matrix = jax.lax.dynamic_update_slice(matrix, values.T, (column * width, row * height))
        return matrix, None

    dtype = jax.eval_shape(fn, rows[0], columns[0]).dtype
    empty = jnp.zeros((num_rows * height, num_columns * width), dtype)
    matrix, _ = jax.lax.scan(fill, empty, jnp.asarray(tiles))
    return matrix[: x.shape[0], : (x if z is None else z).shape[0]]


def _blocks(x: Shaped[Array, "n ..."], size: int) -> Shaped[Array, "b s ..."]:
    """Returns x in blocks of equal numbers of rows, at most size; the last row is repeated to fill them."""
    num_blocks = -(-x.shape[0] // size)
    length = -(-x.shape[0] // num_blocks)
    missing = num_blocks * length - x.shape[0]
    filled = jnp.concatenate([x, jnp.repeat(x[-1:], missing, axis=0)]) if missing else x
    return filled.reshape(num_blocks, length, *x.shape[1:])


def check_batch_size(batch_size: int | None) -> None:
    """Raises ValueError for a batch size that is not a positive number of rows."""
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, or None for all rows at once: got {batch_size}")
