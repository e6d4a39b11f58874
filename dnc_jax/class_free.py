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
from dnc_jax.linalg import lost_in_products, matmul, scaled_to_single
from dnc_jax.machine import KernelMachine

# Measured: more blocks save fewer flops than their smaller products cost. An odd number.
MAX_BLOCKS, MIN_ROWS = 9, 256
# Rows whose products are summed in float32, where the sum of these is in float64.
SUMMED_ROWS = 256


class _Block(NamedTuple):
    """Rows from begin on of all that a tile is made of; is_own is 0 for those that another block has too.

    columns of Q; in mixed precision all less one number and in units of scales, with offsets that make up for
    the number in products of them.
    """

    begin: Int[Array, ""]
    is_own: Float[Array, "s"]
    x: Float[Array, "s d"]
    weights: Float[Array, "s c"]
    sums: Float[Array, "s c"]
    offsets: Float[Array, "s"]
    scales: Float[Array, "s"]
    columns: Float[Array, "n s"]


def class_free_gram_at_centers(
    machine: KernelMachine, centered: bool, *, is_mixed: bool = False
) -> tuple[Float[Array, "d d"], Float[Array, ""]]:
    """Returns (1/n) sum_c G_c^T G_c of a machine with a radial kernel at its centers, and its cancellation.

    centered subtracts the mean gradient of each output. The cancellation is that of `AGOPDiagnostics`: with
    A.B = tr X^T (Q * s a^T) X the product of the two parts of the gradients, 1 + 4 max(-A.B, 0) / trace.
    is_mixed takes Q Q in float32, summed in the dtype of the machine, and all else as it is; the cancellation
    is infinite where what is below the range of float32 counts.
    """
    x, a = machine.centers, machine.weights
    kernel = _at_centers(machine)
    other = kernel.gradient_terms(x, x)[1]
    s = -matmul(other, a)
    num_blocks = num_blocks_of(x.shape[0])
    no_offsets, no_scales = jnp.zeros(len(x), x.dtype), jnp.ones(len(x), x.dtype)
    columns, offsets, scales = _in_single(other) if is_mixed else (other, no_offsets, no_scales)
    block = partial(_block, num_blocks, columns, (x, a, s, offsets, scales))

    def add_block(sums: tuple[Array, Array], index: Int[Array, ""]) -> tuple[tuple[Array, Array], None]:
        rows = block(index)

        def add_tile(sums: tuple[Array, Array], step: Int[Array, ""]) -> tuple[tuple[Array, Array], None]:
            columns = block((index + step) % num_blocks)
            crossed = _tile(other, rows, columns) * _crossed_weights(rows, columns)
            entries = _entries(rows, columns) if is_mixed else matmul(rows.columns.T, columns.columns)
            entries = entries * matmul(rows.weights, columns.weights.T)
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
    cancellation = 1 + 4 * jnp.maximum(-across, 0.0) / jnp.trace(total)
    if is_mixed:
        is_in_range = _lost(machine, scales) <= jnp.finfo(x.dtype).eps * jnp.trace(total)
        cancellation = jnp.where(is_in_range, cancellation, jnp.inf)
    return total / x.shape[0], cancellation


def _in_single(
    other: Float[Array, "n n"],
) -> tuple[Float[Array, "n n"], Float[Array, "n"], Float[Array, "n"]]:
    """Returns Q - q in float32, q the mean of Q, each column by its largest entry, and o, and these entries.

    (Q Q)_ij is that of Q - q, and o_i + o_j. Measured on images: products of Q - q are eight times as exact
    in float32.
    """
    mean = jnp.mean(other)
    offsets = mean * (jnp.sum(other, axis=1) - other.shape[0] * mean / 2)
    scaled, scales = scaled_to_single(other - mean)
    return scaled, offsets, scales


def _lost(machine: KernelMachine, scales: Float[Array, "n"]) -> Float[Array, ""]:
    """Returns a bound of what tr X^T ((Q Q) * (a a^T)) X loses to the range of float32."""
    lengths = [jnp.linalg.norm(array, axis=1) for array in (machine.centers, machine.weights)]
    return lost_in_products(len(scales)) * jnp.sum(scales * lengths[0] * lengths[1]) ** 2


def num_blocks_of(num_rows: int) -> int:
    """Returns the number of blocks, odd."""
    most = max(1, min(MAX_BLOCKS, num_rows // MIN_ROWS))
    return most - 1 + most % 2


def _block(
    num_blocks: int,
    other: Float[Array, "n n"],
    of_rows: tuple[Array, ...],
    index: Int[Array, ""],
) -> _Block:
    num_rows, dtype = other.shape[0], of_rows[0].dtype
    size = -(-num_rows // num_blocks)
    # The last block is as long as the others, and begins within the one before.
    begin = jnp.minimum(index * size, num_rows - size)
    is_own = (begin + jnp.arange(size) >= index * size).astype(dtype)
    x, weights, sums, offsets, scales = (
        jax.lax.dynamic_slice_in_dim(array, begin, size) for array in of_rows
    )
    columns = jax.lax.dynamic_slice_in_dim(other, begin, size, axis=1)
    return _Block(begin, is_own, x, weights, sums, offsets, scales, columns)


def _at_centers(machine: KernelMachine) -> RadialAt:
    kernel = (
        machine.kernel if isinstance(machine.kernel, RadialAt) else at_rows(machine.kernel, machine.centers)
    )
    assert isinstance(kernel, RadialAt)
    return kernel


def _tile(matrix: Float[Array, "n n"], rows: _Block, columns: _Block) -> Float[Array, "s s"]:
    size = len(rows.is_own)
    return jax.lax.dynamic_slice(matrix, (rows.begin, columns.begin), (size, size))


def _entries(rows: _Block, columns: _Block) -> Float[Array, "s s"]:
    """Returns entries of Q Q from products of few rows in float32, which are summed in float64."""
    num_rows = rows.columns.shape[0]
    num_sums = max(1, num_rows // SUMMED_ROWS)
    size = num_rows // num_sums

    def product(begin: Int[Array, ""] | int, size: int) -> Float[Array, "s s"]:
        left, right = (jax.lax.dynamic_slice_in_dim(block.columns, begin, size) for block in (rows, columns))
        return matmul(left.T, right).astype(rows.x.dtype)

    def add(total: Float[Array, "s s"], index: Int[Array, ""]) -> tuple[Float[Array, "s s"], None]:
        return total + product(index * size, size), None

    start = product(num_sums * size, num_rows - num_sums * size)
    total, _ = jax.lax.scan(add, start, jnp.arange(num_sums))
    total = total * rows.scales[:, None] * columns.scales[None, :]
    return total + rows.offsets[:, None] + columns.offsets[None, :]


def _crossed_weights(rows: _Block, columns: _Block) -> Float[Array, "s s"]:
    return matmul(rows.sums, columns.weights.T) + matmul(rows.weights, columns.sums.T)


def _products(kernel: RadialAt, rows: _Block, columns: _Block) -> Float[Array, "s s"]:
    """Returns x_i.x_j from the distances that are there, not by another product."""
    lengths = [jnp.sum(block.x * block.x, axis=1) for block in (rows, columns)]
    return (lengths[0][:, None] + lengths[1][None, :] - _tile(kernel.squared, rows, columns)) / 2
