"""Positive definite systems in float64, solved by a factor in float32 and residuals in float64."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
from jaxtyping import Array, Bool, Float, Int

from dnc_jax.linalg import matmul, scaled_to_single
from dnc_jax.solvers import Solution, cholesky_factor, cholesky_solve, dominant_vector

# Measured: 4 to 7 corrections at condition numbers of 1e3 to 5e5; one costs n^2 c, a Cholesky factor n^3 / 3.
MAX_CORRECTIONS = 12
# Backward error of weights that are kept, in units of rounding. Measured: 0.1 to 0.7 where they converge.
ACCEPTED_UNITS = 16.0


class _State(NamedTuple):
    weights: Float[Array, "n c"]
    left: Float[Array, "n c"]
    error: Float[Array, ""]
    is_better: Bool[Array, ""]
    step: Int[Array, ""]


def mixed_cholesky_solve(a: Float[Array, "n n"], targets: Float[Array, "n c"]) -> Solution:
    """Returns a^-1 targets to the accuracy of `cholesky_solve`, from a Cholesky factor L L^T = a in float32.

    weights + (L L^T)^-1 (targets - a weights), residuals in the dtype of a, as long as that halves the error
    max_c |targets_c - a weights_c| / (|a| |weights_c| + |targets_c|), 2-norms of column c. Where the error
    ends above 16 eps, or L is not finite, `cholesky_solve` is called: conditions beyond about 1e7.

    The eigenvectors for the condition number come from float32, its two Rayleigh quotients from a, so that
    it is from below still.

    References:
        Higham (2002), Accuracy and Stability of Numerical Algorithms, chapter 12.
    """
    single = a.astype(jnp.float32)
    factor = cholesky_factor(single)
    largest, condition = _condition(a, single, factor)
    found = _corrected(a, factor, targets, largest)
    is_float32 = found.error <= ACCEPTED_UNITS * jnp.finfo(a.dtype).eps
    weights, condition = jax.lax.cond(
        is_float32, lambda: (found.weights, condition), lambda: cholesky_solve(a, targets)[:2]
    )
    return Solution(weights, condition, is_float32)


def _condition(
    a: Float[Array, "n n"], single: Float[Array, "n n"], factor: tuple[Float[Array, "n n"], bool]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Returns the largest eigenvalue and the condition number, both from below."""
    vectors = [
        dominant_vector(apply, a.shape[0], single.dtype)
        for apply in (partial(matmul, single), partial(jsl.cho_solve, factor))
    ]
    vectors = jnp.concatenate(vectors, axis=1).astype(a.dtype)
    quotients = jnp.sum(vectors * matmul(a, vectors), axis=0) / jnp.sum(vectors * vectors, axis=0)
    return quotients[0], quotients[0] / quotients[1]


def _corrected(
    a: Float[Array, "n n"],
    factor: tuple[Float[Array, "n n"], bool],
    targets: Float[Array, "n c"],
    largest: Float[Array, ""],
) -> _State:
    lengths = jnp.linalg.norm(targets, axis=0)

    def correct(state: _State) -> _State:
        scaled, scales = scaled_to_single(state.left)
        weights = state.weights + jsl.cho_solve(factor, scaled).astype(a.dtype) * scales[None]
        left = targets - matmul(a, weights)
        scale = largest * jnp.linalg.norm(weights, axis=0) + lengths
        error = jnp.max(jnp.linalg.norm(left, axis=0) / jnp.where(scale > 0, scale, 1.0))
        # NaN is no better.
        is_lower, is_better = error < state.error, error <= state.error / 2
        weights, left = (
            jnp.where(is_lower, new, old) for new, old in ((weights, state.weights), (left, state.left))
        )
        return _State(weights, left, jnp.minimum(error, state.error), is_better, state.step + 1)

    start = _State(
        jnp.zeros_like(targets), targets, jnp.ones((), a.dtype), jnp.ones((), bool), jnp.zeros((), jnp.int32)
    )
    return jax.lax.while_loop(lambda state: state.is_better & (state.step < MAX_CORRECTIONS), correct, start)
