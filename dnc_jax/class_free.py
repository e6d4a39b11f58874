"""The class-free AGOP of a radial kernel machine at its own centers, tile by tile.

Let Q_im (x_m - x_i) be the gradients of the kernel, Q symmetric and 0 on its diagonal, a the weights (n, c)
and s = -Q a. The sum over outputs of G_c^T G_c (see `closed_form`) is X^T C X with

    C = (Q Q) * (a a^T) + Q * (s a^T + a s^T) + diag(sum_c s^2),

* entrywise. C is symmetric and never whole: of b blocks of rows, b odd, block i meets blocks i, i + 1, ...,
i + (b - 1) / 2, counted round the end, and each tile of C is made, multiplied by X and dropped. Q Q takes
n^3 (1 + 1/b) flops and C X takes n^2 d (1 + 1/b), about half of the plain products.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dnc_jax.kernels import RadialAt, at_rows
from dnc_jax.linalg import matmul
from dnc_jax.machine import KernelMachine

# Measured: more blocks save fewer flops than their smaller products cost. An odd number.
MAX_BLOCKS, MIN_ROWS = 9, 256


class _Block(NamedTuple):
    """Rows from begin on of all that a tile is made of; is_own is 0 for those that another block has too."""

    begin: Int[Array, ""]
    is_own: Float[Array, "s"]
    x: Float[Array, "s d"]
    weights: Float[Array, "s c"]
    sums: Float[Array, "s c"]
    columns: Float[Array, "n s"]


def class_free_gram_at_centers(
    machine: KernelMachine, centered: bool
) -> tuple[Float[Array, "d d"], Float[Array, ""]]:
    """Returns (1/n) sum_c G_c^T G_c of a machine with a radial kernel at its centers, and its cancellation.

    centered subtracts the mean gradient of each output. The cancellation is that of `AGOPDiagnostics`: with
    A.B = tr X^T (Q * s a^T) X the product of the two parts of the gradients, 1 + 4 max(-A.B, 0) / trace.
    """
    x, a = machine.centers, machine.weights
    kernel = _at_centers(machine)
    other = kernel.gradient_terms(x, x)[1]
    s = -matmul(other, a)
    num_blocks = num_blocks_of(x.shape[0])
    block = partial(_block, num_blocks, other, (x, a, s))

    def add_block(sums: tuple[Array, Array], index: Int[Array, ""]) -> tuple[tuple[Array, Array], None]:
        rows = block(index)

        def add_tile(sums: tuple[Array, Array], step: Int[Array, ""]) -> tuple[tuple[Array, Array], None]:
            columns = block((index + step) % num_blocks)
            crossed = _tile(other, rows, columns) * _crossed_weights(rows, columns)
            entries = matmul(rows.columns.T, columns.columns) * matmul(rows.weights, columns.weights.T)
            # A tile stands for its mirror image too, but for one on the diagonal.
            share = jnp.where(step == 0, 0.5, 1.0).astype(x.dtype)
            share = share * rows.is_own[:, None] * columns.is_own[None, :]
            product, across = sums
            product = product + matmul(share * (entries + crossed), columns.x)
            return (product, across + jnp.sum(share * crossed * _products(kernel, rows, columns))), None

        half, across = sums
        own = (rows.is_own * jnp.sum(rows.sums**2, axis=1) / 2)[:, None] * rows.x
        (product, across), _ = jax.lax.scan(add_tile, (own, across), jnp.arange((num_blocks + 1) // 2))
        return (half + matmul(rows.x.T, product), across), None

    empty = jnp.zeros((x.shape[1], x.shape[1]), x.dtype), jnp.zeros((), x.dtype)
    (half, across), _ = jax.lax.scan(add_block, empty, jnp.arange(num_blocks))
    total = half + half.T
    if centered:
        gradient_sum = matmul((s + jnp.sum(other, axis=1)[:, None] * a).T, x)
        total = total - matmul(gradient_sum.T, gradient_sum) / x.shape[0]
    return total / x.shape[0], 1 + 4 * jnp.maximum(-across, 0.0) / jnp.trace(total)


def num_blocks_of(num_rows: int) -> int:
    """Returns the number of blocks, odd."""
    most = max(1, min(MAX_BLOCKS, num_rows // MIN_ROWS))
    return most - 1 + most % 2


def _block(
    num_blocks: int,
    other: Float[Array, "n n"],
    of_rows: tuple[Float[Array, "n d"], Float[Array, "n c"], Float[Array, "n c"]],
    index: Int[Array, ""],
) -> _Block:
    num_rows = other.shape[0]
    size = -(-num_rows // num_blocks)
    # The last block is as long as the others, and begins within the one before.
    begin = jnp.minimum(index * size, num_rows - size)
    is_own = (begin + jnp.arange(size) >= index * size).astype(other.dtype)
    x, weights, sums = (jax.lax.dynamic_slice_in_dim(array, begin, size) for array in of_rows)
    columns = jax.lax.dynamic_slice_in_dim(other, begin, size, axis=1)
    return _Block(begin, is_own, x, weights, sums, columns)


def _at_centers(machine: KernelMachine) -> RadialAt:
    kernel = (
        machine.kernel if isinstance(machine.kernel, RadialAt) else at_rows(machine.kernel, machine.centers)
    )
    assert isinstance(kernel, RadialAt)
    return kernel


def _tile(matrix: Float[Array, "n n"], rows: _Block, columns: _Block) -> Float[Array, "s s"]:
    size = len(rows.is_own)
    return jax.lax.dynamic_slice(matrix, (rows.begin, columns.begin), (size, size))


def _crossed_weights(rows: _Block, columns: _Block) -> Float[Array, "s s"]:
    return matmul(rows.sums, columns.weights.T) + matmul(rows.weights, columns.sums.T)


def _products(kernel: RadialAt, rows: _Block, columns: _Block) -> Float[Array, "s s"]:
    """Returns x_i.x_j from the distances that are there, not by another product."""
    lengths = [jnp.sum(block.x * block.x, axis=1) for block in (rows, columns)]
    return (lengths[0][:, None] + lengths[1][None, :] - _tile(kernel.squared, rows, columns)) / 2
