"""The AGOP of a kernel machine over rows that come in batches: nothing as large as the kernel matrix is held.

Always the direct form (see `closed_form`): per output 2 n m d flops for n rows and m centers, and memory for
a batch of rows against all centers.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dnc_jax.agop import AGOPDiagnostics, kernel_agop_core
from dnc_jax.agop_estimates import Estimate
from dnc_jax.linalg import norm
from dnc_jax.machine import KernelMachine

# Batches that the standard error comes from, at least.
MIN_BATCHES = 8


def streamed_agop(machine: KernelMachine, batch_bytes: int) -> tuple[Float[Array, "d d"], AGOPDiagnostics]:
    """Returns the AGOP at all centers, in batches whose Gram matrix takes batch_bytes."""
    return kernel_agop_core(machine, batch_size=_batch_size(machine, batch_bytes), is_direct=True)


def drawn_agop(
    machine: KernelMachine, drawn: Int[Array, "q"], batch_bytes: int
) -> tuple[Estimate, AGOPDiagnostics]:
    """Returns the AGOP at some centers in random order, as an estimate of that at all of them.

    The standard error is over batches, at least 8, times sqrt(1 - q/n) for q rows drawn without replacement
    from n.
    """
    x, num_drawn = machine.centers, drawn.shape[0]
    size = max(1, min(_batch_size(machine, batch_bytes), num_drawn // MIN_BATCHES))
    num_batches = -(-num_drawn // size)
    places = jnp.arange(num_batches * size).reshape(num_batches, size)
    is_real = (places < num_drawn).astype(x.dtype)
    batches = drawn[jnp.minimum(places, num_drawn - 1)]

    def add(
        sums: tuple[Array, Array, Array], batch: tuple[Int[Array, "s"], Float[Array, "s"]]
    ) -> tuple[tuple[Array, Array, Array], None]:
        total, squares, cancellation = sums
        rows, weights = batch
        gram, diagnostics = kernel_agop_core(machine, x[rows], row_weights=weights, is_direct=True)
        share = jnp.sum(weights) / num_drawn
        largest = jnp.maximum(cancellation, diagnostics.cancellation)
        return (total + share * gram, squares + share * gram * gram, largest), None

    empty = jnp.zeros((x.shape[1], x.shape[1]), x.dtype)
    sums, _ = jax.lax.scan(add, (empty, empty, jnp.ones((), x.dtype)), (batches, is_real))
    value, squares, cancellation = sums
    spread = jnp.maximum(squares - value * value, 0.0) / max(num_batches - 1, 1)
    error = jnp.sqrt(spread * (1 - num_drawn / x.shape[0]))
    return Estimate(value, error), AGOPDiagnostics(cancellation, jnp.ones((), bool))


def relative_error(estimate: Estimate) -> Float[Array, ""]:
    """Returns the length of the standard errors over that of the estimate, as vectors of all entries."""
    return norm(estimate.standard_error) / norm(estimate.value)


def draw_points(key: PRNGKeyArray, num_rows: int, size: int) -> Int[Array, "q"]:
    """Returns size of num_rows rows in random order.

    Raises:
        ValueError: If there are not as many, or fewer than 2 are asked for.
    """
    if not 2 <= size <= num_rows:
        raise ValueError(f"agop_size must lie in 2..{num_rows}, the number of rows: got {size}")
    return jax.random.permutation(key, num_rows)[:size]


def _batch_size(machine: KernelMachine, batch_bytes: int) -> int:
    num_centers, itemsize = machine.centers.shape[0], machine.centers.dtype.itemsize
    return max(1, min(num_centers, batch_bytes // (itemsize * num_centers)))
