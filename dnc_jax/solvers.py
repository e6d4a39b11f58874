"""Solvers of positive definite systems that say how ill-conditioned the system is."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
from jaxtyping import Array, Bool, Float, Int

from dnc_jax.linalg import matmul
from dnc_jax.types import Scalar, is_concrete

POWER_STEPS = 12


class Solution(NamedTuple):
    """Weights that solve a positive definite system, and its condition number in the 2-norm, from below.

    is_float32 tells whether the factor that was used is in float32; None of a solver that has no choice.
    """

    weights: Float[Array, "n c"]
    condition_estimate: Float[Array, ""]
    is_float32: Bool[Array, ""] | None = None


Solver: TypeAlias = Callable[[Float[Array, "n n"], Float[Array, "n c"]], Solution]


def cholesky_solve(a: Float[Array, "n n"], targets: Float[Array, "n c"]) -> Solution:
    """Returns a^-1 targets by Cholesky; NaN where a is not positive definite in its precision.

    The condition number is estimated from below by 12 steps of power and of inverse iteration, which takes
    about half as long as the factorization.
    """
    factor = cholesky_factor(a)
    largest = _dominant_eigenvalue(partial(matmul, a), a.shape[0], a.dtype)
    smallest = _dominant_eigenvalue(partial(jsl.cho_solve, factor), a.shape[0], a.dtype)
    return Solution(jsl.cho_solve(factor, targets), largest * smallest)


def quick_cholesky_solve(a: Float[Array, "n n"], targets: Float[Array, "n c"]) -> Solution:
    """Returns a^-1 targets by Cholesky, as `cholesky_solve` does; of the condition number only a lower bound.

    The bound is (max_i L_ii / min_i L_ii)^2, a = L L^T, and costs nothing: L_ii^2 lies between the extreme
    eigenvalues of a.
    """
    factor = cholesky_factor(a)
    pivots = jnp.diagonal(factor[0])
    return Solution(jsl.cho_solve(factor, targets), (jnp.max(pivots) / jnp.min(pivots)) ** 2)


def eigh_solve(a: Float[Array, "n n"], targets: Float[Array, "n c"]) -> Solution:
    """Returns a^-1 targets by eigendecomposition, with the condition number of the spectrum itself.

    About ten times the work of Cholesky. NaN where an eigenvalue is not positive.
    """
    values, vectors = jnp.linalg.eigh(a)
    values = jnp.where(values[0] > 0, values, jnp.nan)
    weights = matmul(vectors / values[None, :], matmul(vectors.T, targets))
    return Solution(weights, values[-1] / values[0])


def cholesky_factor(a: Float[Array, "n n"]) -> tuple[Float[Array, "n n"], bool]:
    """Returns what `cho_solve` takes, of a positive definite matrix; NaN of any other."""
    # Of a symmetric matrix the transpose is the same, but lies in memory as LAPACK wants it: no copy.
    return jax.lax.linalg.cholesky(a.T, symmetrize_input=False), True


def _dominant_eigenvalue(apply: Callable[[Array], Array], size: int, dtype: jnp.dtype) -> Float[Array, ""]:
    """Returns the largest eigenvalue of a positive operator, from below."""
    return jnp.linalg.norm(apply(dominant_vector(apply, size, dtype)))


def dominant_vector(apply: Callable[[Array], Array], size: int, dtype: jnp.dtype) -> Float[Array, "n 1"]:
    """Returns a unit vector near the first eigenvector of a positive operator, by power iteration."""
    # Irrational phases: a start that no vector of class indicators or symmetry is orthogonal to.
    start = jnp.sin(1.0 + jnp.arange(size, dtype=dtype) ** 2)[:, None]

    def step(_: Int[Array, ""] | int, v: Float[Array, "n 1"]) -> Float[Array, "n 1"]:
        image = apply(v)
        return image / jnp.linalg.norm(image)

    return jax.lax.fori_loop(0, POWER_STEPS, step, start / jnp.linalg.norm(start))


def check_ridge(ridge: Scalar) -> None:
    """Raises ValueError for a ridge that is negative or not finite; a traced ridge passes."""
    if is_concrete(ridge) and not 0 <= float(ridge) < float("inf"):
        raise ValueError(f"ridge must be a finite number of at least 0: got {float(ridge):g}")
