"""Row blocks: the one place that knows that memory is finite."""

import operator
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree, Shaped

Result = TypeVar("Result", bound=PyTree)

# Of a batch of points against all centers: where an AGOP is streamed beside a kernel matrix, and where
# held-out points are predicted.
BATCH_BYTES = 2**25


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


def rows_of_batch(num_centers: int, itemsize: int) -> int:
    """Returns how many points a batch of `BATCH_BYTES` has, each with a number for every center."""
    return max(1, BATCH_BYTES // (itemsize * num_centers))


def outputs_at_once(num_centers: int, in_dim: int, batch_size: int | None) -> int:
    """Returns for how many outputs one product is made: what it takes is no larger than what there is."""
    check_batch_size(batch_size)
    if batch_size is None or batch_size >= in_dim:
        return max(1, num_centers // in_dim)
    return max(1, in_dim // batch_size)


def map_tiles(
    fn: Callable[[PyTree, PyTree], Shaped[Array, "r s"]],
    x: Shaped[Array, "n ..."],
    z: Shaped[Array, "m ..."] | None,
    size: int,
    *,
    prepare: Callable[[Shaped[Array, "r ..."]], PyTree],
    keep_bytes: int,
) -> Shaped[Array, "n m"]:
    """Returns fn(prepare(x), prepare(z)), an entry for each row of x with each of z, in tiles.

    A tile is of at most size by size. z of None is x itself: fn must then be symmetric, and what is below the
    diagonal is mirrored. Rows of x are prepared once; those of z too, if what comes out takes at most
    keep_bytes, and otherwise for each tile. A derivative computes each tile again instead of keeping what is
    inside of it.
    """
    rows, columns = _blocks(x, size), _blocks(x if z is None else z, size)
    (num_rows, height), (num_columns, width) = rows.shape[:2], columns.shape[:2]
    prepare_column, prepared = prepare, columns
    if num_columns * tree_bytes(jax.eval_shape(prepare, columns[0])) <= keep_bytes:
        prepare_column, prepared = lambda block: block, jax.lax.map(prepare, columns)

    @jax.checkpoint
    def tile_of(row: PyTree, column: PyTree) -> Array:
        return fn(row, prepare_column(column))

    def fill_row(matrix: Array, row: tuple[Array, Array]) -> tuple[Array, None]:
        at, own = row[0], prepare(row[1])

        def fill(matrix: Array, column: tuple[Array, PyTree]) -> tuple[Array, None]:
            if z is None:
                empty = jnp.zeros((height, width), matrix.dtype)
                tile = jax.lax.cond(at <= column[0], lambda: tile_of(own, column[1]), lambda: empty)
            else:
                tile = tile_of(own, column[1])
            return jax.lax.dynamic_update_slice(matrix, tile, (at * height, column[0] * width)), None

        return jax.lax.scan(fill, matrix, (jnp.arange(num_columns), prepared))

    empty = jnp.zeros((num_rows * height, num_columns * width), x.dtype)
    matrix, _ = jax.lax.scan(fill_row, empty, (jnp.arange(num_rows), rows))
    if z is None:
        block = jnp.arange(len(matrix)) // height
        matrix = jnp.where(block[:, None] <= block[None, :], matrix, matrix.T)
    return matrix[: len(x), : len(x if z is None else z)]


def tree_bytes(tree: PyTree) -> int:
    """Returns the bytes of all arrays of a tree, which may be shapes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


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
