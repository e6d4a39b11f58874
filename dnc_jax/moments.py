"""Means and centered second moments of many arrays, block by block and without cancellation.

References:
    Chan, Golub and LeVeque (1983), Eq. 2.1.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeAlias

import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree, Shaped

from dnc_jax.chunking import reduce_rows
from dnc_jax.linalg import mean_rows

Product: TypeAlias = Callable[[Float[Array, "b ..."]], Array]
"""The sum over rows of a product of every row with itself."""


class Moments(NamedTuple):
    """The number of rows, their mean, and the sum of the products of their deviations from it."""

    num_rows: Float[Array, ""]
    mean: Float[Array, "..."]
    scatter: Float[Array, "..."]


def moments_of_rows(
    fn: Callable[[PyTree], Float[Array, "b ..."]],
    rows: PyTree[Shaped[Array, "n ..."]],
    batch_size: int | None,
    product: Product,
) -> Moments:
    """Returns the moments of the rows of fn, which maps a block of rows to as many."""

    def of_block(block: PyTree) -> Moments:
        values = fn(block)
        mean = mean_rows(values)
        return Moments(jnp.asarray(len(values), values.dtype), mean, product(values - mean[None]))

    return reduce_rows(of_block, rows, batch_size, partial(merge, product))


def merge(product: Product, a: Moments, b: Moments) -> Moments:
    """Returns the moments of the union of two disjoint sets of rows."""
    num_rows = a.num_rows + b.num_rows
    share = b.num_rows / num_rows
    difference = b.mean - a.mean
    between = a.num_rows * share * product(difference[None])
    return Moments(num_rows, a.mean + share * difference, a.scatter + b.scatter + between)
