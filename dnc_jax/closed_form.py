"""Closed forms of the gradients of a kernel machine, and sums of their outer products.

With (P, Q) the gradient terms of the kernel, grad_x k(x_i, z_m) = P_im x_i + Q_im z_m, a the weights (m, c),
s = P a and Z the centers, the gradient of output c at x_i is s_ic x_i + sum_m Q_im a_mc z_m: row i of
G_c = diag(s_c) X + Q diag(a_c) Z. A radial kernel has P = -Q.

Row weights w turn the mean over points into sum_i w_i (...) / sum_i w_i: row i of P and Q, and so of every
G_c, is multiplied by sqrt(w_i), and n stands for sum_i w_i.
"""

from functools import partial
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dnc_jax.chunking import outputs_at_once, sum_rows
from dnc_jax.kernels import ClosedFormKernel, Kernel, Radial
from dnc_jax.linalg import matmul
from dnc_jax.machine import KernelMachine

Terms: TypeAlias = tuple[Float[Array, "b m"], Float[Array, "b m"]]
Block: TypeAlias = tuple[Array, ...]
"""Some rows of x, and their weights if they have any."""


def class_free_gram(
    machine: KernelMachine,
    x: Float[Array, "n d"],
    row_weights: Float[Array, "n"] | None,
    centered: bool,
    batch_size: int | None,
) -> tuple[Float[Array, "d d"], Float[Array, ""]]:
    """Returns (1/n) sum_c G_c^T G_c and its cancellation, at a cost free of the number of outputs.

    The sum is T1 + T2 + T2^T + T3, with T1 = X^T diag(sum_c s^2) X, T2 = X^T (Q * s a^T) Z and
    T3 = Z^T (Q^T Q * a a^T) Z, * entrywise. centered subtracts the mean gradient of each output.
    """
    z, a = machine.centers, machine.weights
    total_weight = x.shape[0] if row_weights is None else jnp.sum(row_weights)

    def block_sum(block: Block) -> tuple[Array, ...]:
        rows, roots = block[0], _roots(block)
        terms = _gradient_terms(machine, rows, roots)
        other, s = terms[1], _own_sums(machine.kernel, terms, a)
        t1 = matmul(rows.T * jnp.sum(s * s, axis=1)[None, :], rows)
        t2 = matmul(rows.T, matmul(other * matmul(s, a.T), z))
        # The terms have a root of the weight already.
        s, other_sum = s * roots[:, None], jnp.sum(other * roots[:, None], axis=0)
        gradient_sum = matmul(s.T, rows) + matmul((other_sum[:, None] * a).T, z)
        return t1, t2, matmul(other.T, other), gradient_sum

    t1, t2, other_gram, gradient_sum = sum_rows(block_sum, _blocks(x, row_weights), batch_size)
    t3 = matmul(z.T, matmul(other_gram * matmul(a, a.T), z))
    total = t1 + t2 + t2.T + t3
    if centered:
        total = total - matmul(gradient_sum.T, gradient_sum) / total_weight
    magnitude = jnp.trace(t1) + 2 * jnp.abs(jnp.trace(t2)) + jnp.trace(t3)
    return (total + total.T) / (2 * total_weight), magnitude / jnp.trace(total)


def direct_gram(
    machine: KernelMachine,
    x: Float[Array, "n d"],
    row_weights: Float[Array, "n"] | None,
    centered: bool,
    diagonal: bool,
    batch_size: int | None,
) -> tuple[Float[Array, "d d"] | Float[Array, "d"], Float[Array, ""]]:
    """Returns (1/n) sum_c G_c^T G_c, one G_c in turn, and the cancellation of its gradients."""
    z, a = machine.centers, machine.weights
    total_weight = x.shape[0] if row_weights is None else jnp.sum(row_weights)
    blocks = _blocks(x, row_weights)
    means = jnp.zeros((a.shape[1], z.shape[1]), x.dtype)
    if centered:
        means = sum_rows(partial(_gradient_sums, machine), blocks, batch_size) / total_weight

    num_at_once = outputs_at_once(z.shape[0], z.shape[1], batch_size)

    def block_sum(block: Block) -> tuple[Array, Array]:
        rows, roots = block[0], _roots(block)
        terms = _gradient_terms(machine, rows, roots)

        def of_outputs(outputs: tuple[Array, Array]) -> tuple[Array, Array]:
            columns, means = outputs
            own, others = jax.vmap(partial(_summed_terms, machine, terms, rows), out_axes=1)(columns)
            gradients = own + others - roots[:, None, None] * means[None]
            gradients = gradients.reshape(-1, z.shape[1])
            product = jnp.sum(gradients**2, axis=0) if diagonal else matmul(gradients.T, gradients)
            return product, jnp.stack([jnp.sum(own * own), jnp.sum(own * others), jnp.sum(others * others)])

        return sum_rows(of_outputs, (a.T, means), num_at_once)

    total, sizes = sum_rows(block_sum, blocks, batch_size)
    magnitude = sizes[0] + 2 * jnp.abs(sizes[1]) + sizes[2]
    trace = jnp.sum(total) if diagonal else jnp.trace(total)
    return total / total_weight, magnitude / trace


def _blocks(x: Float[Array, "n d"], row_weights: Float[Array, "n"] | None) -> Block:
    return (x,) if row_weights is None else (x, row_weights)


def _roots(block: Block) -> Float[Array, "b"]:
    return jnp.sqrt(block[1]) if len(block) == 2 else jnp.ones(block[0].shape[0], block[0].dtype)


def _gradient_terms(machine: KernelMachine, rows: Float[Array, "b d"], roots: Float[Array, "b"]) -> Terms:
    kernel = machine.kernel
    if not isinstance(kernel, ClosedFormKernel):
        raise TypeError(
            f"the closed form needs a kernel with gradient_terms: got {type(kernel).__name__}; "
            "kernel_agop differentiates the machine of any other"
        )
    own, other = kernel.gradient_terms(rows, machine.centers)
    return own * roots[:, None], other * roots[:, None]


def _gradient_sums(machine: KernelMachine, block: Block) -> Float[Array, "c d"]:
    rows, roots = block[0], _roots(block)
    terms = _gradient_terms(machine, rows, roots)

    def gradient_sum(column: Float[Array, "m"]) -> Float[Array, "d"]:
        own, others = _summed_terms(machine, terms, rows, column)
        return jnp.sum(roots[:, None] * (own + others), axis=0)

    return jax.lax.map(gradient_sum, machine.weights.T)


def _summed_terms(
    machine: KernelMachine, terms: Terms, x: Float[Array, "b d"], column: Float[Array, "m"]
) -> tuple[Float[Array, "b d"], Float[Array, "b d"]]:
    """Returns the two terms whose sum is the gradient of one output."""
    if len(x) < machine.centers.shape[1]:
        others = matmul(terms[1] * column[None, :], machine.centers)
    else:
        others = matmul(terms[1], column[:, None] * machine.centers)
    return _own_sums(machine.kernel, terms, column)[:, None] * x, others


def _own_sums(
    kernel: Kernel, terms: Terms, weights: Float[Array, "m c"] | Float[Array, "m"]
) -> Float[Array, "b c"] | Float[Array, "b"]:
    own, other = terms
    # Where own = -other, the program needs only one of the two matrices, and the compiler drops the other.
    return -matmul(other, weights) if isinstance(kernel, Radial) else matmul(own, weights)
