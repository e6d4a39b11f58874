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
from dnc_jax.sharing import gather_over, num_devices_of, place_in, sum_over

# Batches that the standard error comes from, at least.
MIN_BATCHES = 8


def streamed_agop(
    machine: KernelMachine, batch_bytes: int, axis: str | None = None
) -> tuple[Float[Array, "d d"], AGOPDiagnostics]:
    """Returns the AGOP at all centers, in batches whose Gram matrix takes batch_bytes.

    Args:
        axis: Within `jax.shard_map`, the mesh axis that the machine's centers and weights are shared along.
    """
    whole = gather_machine(machine, axis)
    # One device's centers are all of them, the same object, which are at distance 0 of themselves for sure.
    own = None if axis is None else machine.centers
    size = _batch_size(whole, batch_bytes)
    gram, diagnostics = kernel_agop_core(whole, own, batch_size=size, is_direct=True)
    magnitude = sum_over(axis, diagnostics.cancellation * jnp.trace(gram))
    gram = sum_over(axis, gram)
    cancellation = magnitude / jnp.trace(gram)
    return gram / num_devices_of(axis), diagnostics._replace(cancellation=cancellation)


def drawn_agop(
    machine: KernelMachine, drawn: Int[Array, "q"], batch_bytes: int, axis: str | None = None
) -> tuple[Estimate, AGOPDiagnostics]:
    """Returns the AGOP at some centers in random order, as an estimate of that at all of them.

    The standard error is over batches, at least 8, times sqrt(1 - q/n) for q rows drawn without replacement
    from n.

    Args:
        drawn: Numbers of centers, counted over all devices.
        axis: As in `streamed_agop`; devices share the batches.
    """
    machine = gather_machine(machine, axis)
    x, num_drawn, num_devices = machine.centers, drawn.shape[0], num_devices_of(axis)
    size = max(1, min(_batch_size(machine, batch_bytes), num_drawn // MIN_BATCHES))
    num_filled = -(-num_drawn // size)
    num_batches = -(-num_filled // num_devices) * num_devices
    places = jnp.arange(num_batches * size).reshape(num_batches, size)
    is_real = (places < num_drawn).astype(x.dtype)
    batches = drawn[jnp.minimum(places, num_drawn - 1)]

    def add(
        sums: tuple[Array, Array, Array], batch: tuple[Int[Array, "s"], Float[Array, "s"]]
    ) -> tuple[tuple[Array, Array, Array], None]:
        total, squares, magnitude = sums
        rows, weights = batch
        share = jnp.sum(weights) / num_drawn
        # A batch that only fills up has a weight, for its mean to be a number, and no share.
        weights = jnp.where(share > 0, weights, 1.0)
        gram, diagnostics = kernel_agop_core(machine, x[rows], row_weights=weights, is_direct=True)
        magnitude = magnitude + share * diagnostics.cancellation * jnp.trace(gram)
        return (total + share * gram, squares + share * gram * gram, magnitude), None

    empty = jnp.zeros((x.shape[1], x.shape[1]), x.dtype)
    own = _own_part(batches, axis), _own_part(is_real, axis)
    sums, _ = jax.lax.scan(add, (empty, empty, jnp.zeros((), x.dtype)), own)
    value, squares, magnitude = (sum_over(axis, part) for part in sums)
    cancellation = magnitude / jnp.trace(value)
    spread = jnp.maximum(squares - value * value, 0.0) / max(num_filled - 1, 1)
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


def gather_machine(machine: KernelMachine, axis: str | None) -> KernelMachine:
    """Returns a machine with the centers and weights of all devices, whole on each."""
    if axis is None:
        return machine
    return KernelMachine(
        machine.kernel, gather_over(axis, machine.centers), gather_over(axis, machine.weights)
    )


def _own_part(batches: Array, axis: str | None) -> Array:
    size = len(batches) // num_devices_of(axis)
    return jax.lax.dynamic_slice_in_dim(batches, place_in(axis) * size, size)


def _batch_size(machine: KernelMachine, batch_bytes: int) -> int:
    num_centers, itemsize = machine.centers.shape[0], machine.centers.dtype.itemsize
    return max(1, min(num_centers, batch_bytes // (itemsize * num_centers)))
