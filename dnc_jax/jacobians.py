"""Jacobians of a function of one example, at many examples of any shape, as functions of flat rows."""

from collections.abc import Callable
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dnc_jax.linalg import matmul

Mode: TypeAlias = Literal["forward", "reverse"]


def flattened(
    fn: Callable[[Array], Array], x: Float[Array, "n *shape"]
) -> tuple[Callable[[Float[Array, "d"]], Float[Array, "c"]], Float[Array, "n d"]]:
    """Returns fn as a function of flat examples with flat outputs, and the examples as flat rows.

    Raises:
        ValueError: If x has no rows, or its examples no entries.
    """
    if x.ndim == 0 or x.size == 0:
        raise ValueError(f"x must be an array (n, ...) with at least one row: got shape {x.shape}")
    shape = x.shape[1:]
    return lambda row: jnp.ravel(fn(row.reshape(shape))), x.reshape(x.shape[0], -1)


def num_outputs(fn: Callable[[Float[Array, "d"]], Float[Array, "c"]], rows: Float[Array, "n d"]) -> int:
    """Returns the number of outputs of fn, without calling it."""
    return jax.eval_shape(fn, rows[0]).size


def jacobians(
    fn: Callable[[Float[Array, "d"]], Float[Array, "c"]],
    *,
    mode: Mode,
    directions: Float[Array, "d q"] | None = None,
) -> Callable[[Float[Array, "b d"]], Float[Array, "b c q"]]:
    """Returns the function that maps rows to J_i, or to J_i U for directions U.

    Forward mode costs one pass per direction, or per input without directions; reverse one per output.
    """

    def pushed(row: Float[Array, "d"]) -> Float[Array, "c q"]:
        basis = jnp.eye(row.size, dtype=row.dtype) if directions is None else directions
        return jax.vmap(lambda u: jax.jvp(fn, (row,), (u,))[1], in_axes=1, out_axes=1)(basis)

    def pulled(row: Float[Array, "d"]) -> Float[Array, "c q"]:
        jacobian = jax.jacrev(fn)(row)
        return jacobian if directions is None else matmul(jacobian, directions)

    return jax.vmap(pushed if mode == "forward" else pulled)
