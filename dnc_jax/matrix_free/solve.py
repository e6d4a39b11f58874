"""Kernel ridge regression without the kernel matrix: tiles, preconditioner, block conjugate gradients."""

import dataclasses
import math
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dnc_jax.checks import check_count
from dnc_jax.kernels import Kernel
from dnc_jax.matrix_free.block_cg import block_conjugate_gradients
from dnc_jax.matrix_free.gram_tiles import Rows, make_tiles, num_tiles, rows_of, times
from dnc_jax.matrix_free.nystrom import Preconditioner, nystrom_preconditioner
from dnc_jax.sharing import lengths_of_columns, sum_over
from dnc_jax.types import Scalar, is_concrete

Keep = Literal["float32", "float64", "nothing"]
# Units of rounding in a residual below which nothing is to be had.
FLOOR_UNITS = 64
# The same in units of (|K| |weights| / |targets| + 1), of the worst output. Measured where more steps bring
# nothing: 0.1 to 0.3, at n of 400 and 1200, ridges of 1e-9 to 1e-3 and ranks of 16 and 256.
ROUNDING_UNITS = 8


@dataclasses.dataclass(frozen=True)
class ConjugateGradients:
    """A solver for `fit_kernel_machine` and `fit_deep_rfm_layer` that never holds the kernel matrix whole.

    The system is solved for tiles of K as they are kept, and what is left over, of K in the dtype of x, is
    solved for again, until the residual of every output is at most tolerance times the length of its targets.

    Attributes:
        tolerance: Largest relative residual; one below 64 eps (1.4e-14 in float64, 7.6e-6 in float32) is
            taken as 64 eps, which rounding leaves over anyway. A fit that misses it by more than rounding
            raises FitError.
        rank: Pivots of the Nystrom preconditioner.
        keep: What is kept of K between products: half of its tiles in this dtype, n^2 / 2 numbers, or
            nothing, every product then making all of them again. float64 is that of x at most.
        max_steps: Products with K, at most, in each round.
        max_rounds: Solutions for what is left over, the first included.
        tile_bytes: Memory of one tile in the dtype of x.
        seed: Draws the pivots.
    """

    tolerance: float = 1e-12
    rank: int = 512
    keep: Keep = "float64"
    max_steps: int = 500
    max_rounds: int = 4
    tile_bytes: int = 2**25
    seed: int = 0

    def check(self) -> None:
        """Raises ValueError for options that no solution can use."""
        for name in ("rank", "max_steps", "max_rounds", "tile_bytes"):
            check_count(name, getattr(self, name))
        if not 0 < self.tolerance < 1:
            raise ValueError(f"tolerance must lie between 0 and 1: got {self.tolerance}")
        if self.keep not in ("float32", "float64", "nothing"):
            raise ValueError(f"keep must be 'float32', 'float64' or 'nothing': got {self.keep!r}")


def check_solver(solver: object, ridge: Scalar) -> None:
    """Raises ValueError for conjugate gradients with options that no solution can use, or without a ridge."""
    if not isinstance(solver, ConjugateGradients):
        return
    solver.check()
    if is_concrete(ridge) and float(ridge) == 0:
        raise ValueError("ridge must be positive for conjugate gradients: got 0; use 1e-3, or Cholesky")


class MatrixFreeSolution(NamedTuple):
    """Weights, the norms of their residuals of K in the dtype of x, by column, and what it took.

    condition_bound is (the largest eigenvalue that the preconditioner found + ridge) / ridge. rounding is the
    relative residual that rounding may leave over whatever the tolerance: eps times the larger of 64 and
    8 max_c (largest eigenvalue |w_c| / |y_c| + 1), of weights w and targets y of a column c.
    """

    weights: Float[Array, "n c"]
    residual_norms: Float[Array, "c"]
    rounding: Float[Array, ""]
    condition_bound: Float[Array, ""]
    num_steps: Int[Array, ""]


class _System(NamedTuple):
    """K + diag(added) on a device's own rows, filled up to whole blocks, of which those not real stay 0."""

    kernel: Kernel
    rows: Rows
    is_real: Float[Array, "n 1"]
    added: Float[Array, "n 1"]
    axis: str | None

    def product(self, tiles: Float[Array, "o t s s"] | None, v: Float[Array, "n c"]) -> Float[Array, "n c"]:
        """Returns the system times v, by tiles that are kept, or of None made anew."""
        blocks = (v * self.is_real).reshape(self.rows.num_own, -1, v.shape[1])
        image = times(self.kernel, self.rows, tiles, blocks, self.axis)
        return image.reshape(v.shape) * self.is_real + self.added * v


class _State(NamedTuple):
    weights: Float[Array, "n c"]
    left: Float[Array, "n c"]
    best_weights: Float[Array, "n c"]
    best_norms: Float[Array, "c"]
    num_steps: Int[Array, ""]
    number: Int[Array, ""]
    is_better: Bool[Array, ""]


def solve_matrix_free(
    kernel: Kernel,
    x: Float[Array, "n *shape"],
    targets: Float[Array, "n c"],
    added: Float[Array, "n"],
    recipe: ConjugateGradients,
    axis: str | None = None,
) -> MatrixFreeSolution:
    """Returns (K + diag(added))^-1 targets, K the Gram matrix of the rows of x.

    Args:
        axis: Where rows are shared by devices within `jax.shard_map`, their mesh axis; x, targets, added and
            the weights are then a device's own rows, as many on each.
    """
    num_rows, dtype = x.shape[0], x.dtype
    num_own, size = block_shape(num_rows, recipe.tile_bytes, dtype.itemsize)
    missing = num_own * size - num_rows
    is_real = (jnp.arange(num_own * size) < num_rows).astype(dtype)
    rows = rows_of(_filled(x, missing).reshape(num_own, size, *x.shape[1:]), axis)
    system = _System(kernel, rows, is_real[:, None], _filled(added[:, None], missing), axis)
    kept = None
    if recipe.keep != "nothing":
        kept = make_tiles(kernel, rows, min(jnp.dtype(recipe.keep), dtype, key=lambda kind: kind.itemsize))
    ridge = sum_over(axis, jnp.sum(system.added[:, 0] * is_real)) / sum_over(axis, jnp.sum(is_real))
    preconditioner = nystrom_preconditioner(
        jax.random.key(recipe.seed), kernel, rows, is_real, ridge, recipe.rank, axis
    )
    end = _refined(system, kept, preconditioner, jnp.pad(targets, ((0, missing), (0, 0))), recipe)
    weights, largest = end.best_weights[:num_rows], preconditioner.largest + ridge
    lengths = lengths_of_columns(axis, targets)
    growth = jnp.max(largest * lengths_of_columns(axis, weights) / jnp.where(lengths > 0, lengths, 1.0))
    rounding = jnp.finfo(dtype).eps * jnp.maximum(FLOOR_UNITS, ROUNDING_UNITS * (growth + 1))
    return MatrixFreeSolution(weights, end.best_norms, rounding, largest / ridge, end.num_steps)


def _refined(
    system: _System,
    kept: Float[Array, "o t s s"] | None,
    preconditioner: Preconditioner,
    targets: Float[Array, "n c"],
    recipe: ConjugateGradients,
) -> _State:
    """Solves for what is left over of K in the dtype of x, until that is small or gets no smaller."""
    axis = system.axis
    lengths = lengths_of_columns(axis, targets)
    tolerance = max(recipe.tolerance, FLOOR_UNITS * float(jnp.finfo(targets.dtype).eps))
    limits = tolerance * jnp.where(lengths > 0, lengths, 1.0)
    from_left = partial(preconditioner.inverse_root, axis=axis)
    exact = kept if kept is not None and kept.dtype == targets.dtype else None

    def solve_again(state: _State) -> _State:
        found = block_conjugate_gradients(
            lambda v: from_left(system.product(kept, from_left(v))),
            from_left(state.left),
            limits / 2,
            max_steps=recipe.max_steps,
            residual_root=partial(preconditioner.root, axis=axis),
            axis=axis,
        )
        weights = state.weights + from_left(found.solution)
        left = targets - system.product(exact, weights)
        norms = lengths_of_columns(axis, left)
        is_better = jnp.max(norms / limits) < jnp.max(state.best_norms / limits)
        best_weights = jnp.where(is_better, weights, state.best_weights)
        best_norms = jnp.where(is_better, norms, state.best_norms)
        num_steps, number = state.num_steps + found.num_steps, state.number + 1
        return _State(weights, left, best_weights, best_norms, num_steps, number, is_better)

    def is_going_on(state: _State) -> Bool[Array, ""]:
        return jnp.any(state.best_norms > limits) & (state.number < recipe.max_rounds) & state.is_better

    none, zero = jnp.zeros((), jnp.int32), jnp.zeros_like(targets)
    start = _State(zero, targets, zero, lengths, none, none, jnp.ones((), bool))
    return jax.lax.while_loop(is_going_on, solve_again, start)


def block_shape(num_rows: int, tile_bytes: int, itemsize: int) -> tuple[int, int]:
    """Returns how many blocks of rows a device has, num_rows being its own, and how many rows a block."""
    most = max(1, math.isqrt(tile_bytes // itemsize))
    num_own = -(-num_rows // most)
    return num_own, -(-num_rows // num_own)


def kept_bytes(num_rows: int, num_devices: int, recipe: ConjugateGradients, itemsize: int) -> int:
    """Returns the bytes of the tiles that a device keeps, num_rows being its own."""
    if recipe.keep == "nothing":
        return 0
    num_own, size = block_shape(num_rows, recipe.tile_bytes, itemsize)
    kept_itemsize = min(itemsize, jnp.dtype(recipe.keep).itemsize)
    return num_own * num_tiles(num_own * num_devices) * size**2 * kept_itemsize


def _filled(a: Float[Array, "n ..."], missing: int) -> Float[Array, "m ..."]:
    """Returns a with its last row repeated."""
    return jnp.concatenate([a, jnp.repeat(a[-1:], missing, axis=0)]) if missing else a
