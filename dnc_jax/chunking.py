"""Row blocks: the one place that knows that memory is finite."""

from collections.abc import Callable
from typing import TypeVar

import jax
from jaxtyping import Array, PyTree, Shaped

Result = TypeVar("Result", bound=PyTree)


def sum_rows(
    fn: Callable[[Shaped[Array, "b ..."]], Result], x: Shaped[Array, "n ..."], batch_size: int | None
) -> Result:
    """Returns the sum of fn over consecutive blocks of batch_size rows, the last one shorter.

    fn must itself be a sum over the rows that it is given. None takes all rows as one block.
    """
    num_rows = x.shape[0]
    check_batch_size(batch_size)
    if batch_size is None or batch_size >= num_rows:
        return fn(x)
    num_blocks = num_rows // batch_size
    blocks = x[: num_blocks * batch_size].reshape(num_blocks, batch_size, *x.shape[1:])

    def add(total: Result, block: Shaped[Array, "b ..."]) -> tuple[Result, None]:
        return jax.tree.map(lambda a, b: a + b, total, fn(block)), None

    total, _ = jax.lax.scan(add, fn(blocks[0]), blocks[1:])
    if num_rows % batch_size:
        total, _ = add(total, x[num_blocks * batch_size :])
    return total


def map_rows(
    fn: Callable[[Shaped[Array, "b ..."]], Result], x: Shaped[Array, "n ..."], batch_size: int | None
) -> Result:
    """Returns fn of x computed on blocks of batch_size rows and concatenated; None takes one block.

    fn must treat its rows independently of each other.
    """
    check_batch_size(batch_size)
    if batch_size is None or batch_size >= x.shape[0]:
        return fn(x)
    return jax.lax.map(lambda row: jax.tree.map(lambda a: a[0], fn(row[None])), x, batch_size=batch_size)


def check_batch_size(batch_size: int | None) -> None:
    """Raises ValueError for a batch size that is not a positive number of rows."""
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, or None for all rows at once: got {batch_size}")
