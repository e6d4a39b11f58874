"""Block conjugate gradients: all right-hand sides of one positive definite system share one Krylov space.

References:
    O'Leary (1980), The block conjugate gradient algorithm.
    Dubrulle (2001), Retooling the method of block conjugate gradients, algorithm BCGrQ.
    Stathopoulos and Wu (2002), A block orthogonalization procedure with constant synchronization
    requirements.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dnc_jax.linalg import matmul
from dnc_jax.sharing import inner, lengths_of_columns

Operator: TypeAlias = Callable[[Float[Array, "n c"]], Float[Array, "n c"]]

# Steps without a better iterate after which rounding is taken to be all that is left.
PATIENCE = 50


class BlockSolution(NamedTuple):
    """The best iterate, the norms of its residuals as the recursion has them, and the steps made."""

    solution: Float[Array, "n c"]
    residual_norms: Float[Array, "c"]
    num_steps: Int[Array, ""]


class _State(NamedTuple):
    solution: Float[Array, "n c"]
    basis: Float[Array, "n c"]
    coefficients: Float[Array, "c c"]
    directions: Float[Array, "n c"]
    best: Float[Array, "n c"]
    best_norms: Float[Array, "c"]
    best_step: Int[Array, ""]
    step: Int[Array, ""]


def block_conjugate_gradients(
    operator: Operator,
    targets: Float[Array, "n c"],
    limits: Float[Array, "c"],
    *,
    max_steps: int,
    residual_root: Operator,
    axis: str | None,
) -> BlockSolution:
    """Returns x with A x = targets for a positive definite operator A, to residual norms of at most limits.

    Ends early where 50 steps have brought no better iterate, which is that of the smallest largest ratio of a
    residual to its limit.

    Args:
        residual_root: Maps residuals of A, a preconditioned operator, to those that limits are about.
        axis: The mesh axis that rows are shared along; None is one device.
    """

    def norms(state: _State) -> Float[Array, "c"]:
        return lengths_of_columns(axis, residual_root(matmul(state.basis, state.coefficients)))

    def advance(state: _State) -> _State:
        image = operator(state.directions)
        lengths = _symmetric_inverse(inner(axis, state.directions, image))
        solution = state.solution + matmul(state.directions, matmul(lengths, state.coefficients))
        basis, across = orthonormal(state.basis - matmul(image, lengths), axis)
        directions = basis + matmul(state.directions, across.T)
        moved = state._replace(
            solution=solution,
            basis=basis,
            coefficients=matmul(across, state.coefficients),
            directions=directions,
            step=state.step + 1,
        )
        return _keep_best(moved, norms(moved), limits)

    def is_going_on(state: _State) -> Bool[Array, ""]:
        is_worth_it = (state.step < max_steps) & (state.step - state.best_step < PATIENCE)
        return jnp.any(state.best_norms > limits) & is_worth_it

    basis, coefficients = orthonormal(targets, axis)
    zero, none = jnp.zeros_like(targets), jnp.zeros((), jnp.int32)
    start = _State(zero, basis, coefficients, basis, zero, jnp.zeros_like(limits), none, none)
    start = start._replace(best_norms=norms(start))
    end = jax.lax.while_loop(is_going_on, advance, start)
    return BlockSolution(end.best, end.best_norms, end.step)


def orthonormal(a: Float[Array, "n c"], axis: str | None) -> tuple[Float[Array, "n c"], Float[Array, "c c"]]:
    """Returns (Q, S) with a = Q S, the columns of Q orthonormal, or 0 where a has a lower rank.

    By the eigenvectors of a^T a, twice: nothing but a^T a is summed over rows.
    """
    once, first = _orthonormal_once(a, axis)
    twice, second = _orthonormal_once(once, axis)
    return twice, matmul(second, first)


def _orthonormal_once(
    a: Float[Array, "n c"], axis: str | None
) -> tuple[Float[Array, "n c"], Float[Array, "c c"]]:
    gram = inner(axis, a, a)
    squared = jnp.diagonal(gram)
    lengths = jnp.sqrt(jnp.where(squared > 0, squared, 1.0))
    # Of columns of unit length: residuals shrink at different rates.
    values, vectors = jnp.linalg.eigh(gram / (lengths[:, None] * lengths[None, :]))
    kept = values > len(values) * jnp.finfo(values.dtype).eps
    roots = jnp.sqrt(jnp.where(kept, values, 1.0))
    basis = matmul(a, vectors * jnp.where(kept, 1 / roots, 0.0)[None, :] / lengths[:, None])
    return basis, jnp.where(kept, roots, 0.0)[:, None] * vectors.T * lengths[None, :]


def _symmetric_inverse(a: Float[Array, "c c"]) -> Float[Array, "c c"]:
    """Returns the pseudo-inverse of a positive semidefinite matrix: directions may have run out."""
    values, vectors = jnp.linalg.eigh((a + a.T) / 2)
    kept = values > len(values) * jnp.finfo(values.dtype).eps * values[-1]
    inverses = jnp.where(kept, 1 / jnp.where(kept, values, 1.0), 0.0)
    return matmul(vectors * inverses[None, :], vectors.T)


def _keep_best(state: _State, norms: Float[Array, "c"], limits: Float[Array, "c"]) -> _State:
    is_better = jnp.max(norms / limits) < jnp.max(state.best_norms / limits)
    return state._replace(
        best=jnp.where(is_better, state.solution, state.best),
        best_norms=jnp.where(is_better, norms, state.best_norms),
        best_step=jnp.where(is_better, state.step, state.best_step),
    )
