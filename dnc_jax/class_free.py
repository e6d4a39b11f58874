"""The class-free AGOP of a radial kernel machine at its own centers, from tiles on and above a diagonal.

Let Q_im (x_m - x_i) be the gradients of the kernel, Q symmetric and 0 on its diagonal, a the weights (n, c)
and s = -Q a. The sum over outputs of G_c^T G_c (see `closed_form`) is X^T C X with

    C = (Q Q) * (a a^T) + Q * (s a^T + a s^T) + diag(sum_c s^2),

* entrywise. C is symmetric and never whole: a block of its rows is made, multiplied by X and dropped. With b
blocks Q Q takes n^3 (1 + 1/b) flops and C X takes n^2 d (1 + 1/b), about half of the plain products.
"""

from itertools import pairwise

import jax.numpy as jnp
from jaxtyping import Array, Float

from dnc_jax.chunking import block_edges
from dnc_jax.kernels import RadialAt, at_rows
from dnc_jax.linalg import matmul
from dnc_jax.machine import KernelMachine


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
    half, across = jnp.zeros((x.shape[1], x.shape[1]), x.dtype), jnp.zeros((), x.dtype)
    for start, stop in pairwise(block_edges(x.shape[0])):
        rows, rest = slice(start, stop), slice(start, None)
        outer = matmul(s[rows], a[rest].T) + matmul(a[rows], s[rest].T)
        crossed = other[rows, rest] * outer
        entries = matmul(other[:, rows].T, other[:, rest]) * matmul(a[rows], a[rest].T) + crossed
        row, column = jnp.arange(start, stop)[:, None], jnp.arange(start, x.shape[0])[None, :]
        on_diagonal = (entries + jnp.sum(s[rows] ** 2, axis=1)[:, None]) / 2
        upper = jnp.where(row < column, entries, jnp.where(row == column, on_diagonal, 0.0))
        half = half + matmul(x[rows].T, matmul(upper, x[rest]))
        across = across + jnp.sum(jnp.where(row < column, crossed, 0.0) * _products(kernel, x, rows, rest))
    total = half + half.T
    if centered:
        gradient_sum = matmul((s + jnp.sum(other, axis=1)[:, None] * a).T, x)
        total = total - matmul(gradient_sum.T, gradient_sum) / x.shape[0]
    return total / x.shape[0], 1 + 4 * jnp.maximum(-across, 0.0) / jnp.trace(total)


def _at_centers(machine: KernelMachine) -> RadialAt:
    kernel = (
        machine.kernel if isinstance(machine.kernel, RadialAt) else at_rows(machine.kernel, machine.centers)
    )
    assert isinstance(kernel, RadialAt)
    return kernel


def _products(kernel: RadialAt, x: Float[Array, "n d"], rows: slice, rest: slice) -> Float[Array, "r s"]:
    # From the distances that are there, not by another product.
    lengths = jnp.sum(x * x, axis=1)
    return (lengths[rows, None] + lengths[None, rest] - kernel.squared[rows, rest]) / 2
