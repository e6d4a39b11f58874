"""Average gradient outer products: of any function by autodiff, of kernel machines in closed form.

AGOP(f) = (1/n) sum_i J(x_i)^T J(x_i), J the Jacobian of f at a point: the mean over points, the sum over
outputs.

References:
    Radhakrishnan, Beaglehole, Pandit and Belkin (2024), Science 383.
    Beaglehole, Sukenik, Mondelli and Belkin (2024), Definition of the AGOP.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dnc_jax.chunking import sum_rows
from dnc_jax.linalg import matmul, squared_distances
from dnc_jax.machine import KernelMachine

# Relative error of the class-free form that is accepted before the direct form is taken. Its square root
# is what reaches M^(1/2) in directions that M does not see.
CLASS_FREE_TOLERANCE = {"float32": 1e-5, "float64": 1e-11}
# Rounding of the direct form, relative to the largest eigenvalue, in units of eps: measured to be below 10.
DIRECT_ROUNDING_UNITS = 16.0


def agop(
    fn: Callable[[Float[Array, "d"]], Float[Array, "c"]],
    x: Float[Array, "n d"],
    *,
    batch_size: int | None = None,
    mode: Literal["forward", "reverse"] | None = None,
) -> Float[Array, "d d"]:
    """Returns (1/n) sum_i J_i^T J_i for fn of one example, J_i its Jacobian at the i-th row of x.

    Not centered and not rescaled. A scalar output counts as one output.

    Args:
        batch_size: Rows whose Jacobians are held at once; None holds all.
        mode: Mode of differentiation; None takes reverse where outputs are fewer than inputs.

    Raises:
        ValueError: If x is not a matrix, or mode is not one of the two.
    """
    if x.ndim != 2 or x.shape[0] == 0:
        raise ValueError(f"x must be a matrix (n, d) with at least one row: got shape {x.shape}")
    if mode not in (None, "forward", "reverse"):
        raise ValueError(f"mode must be 'forward', 'reverse' or None: got {mode!r}")
    num_outputs = jax.eval_shape(fn, x[0]).size
    if mode is None:
        mode = "reverse" if num_outputs < x.shape[1] else "forward"
    jacobian = jax.vmap((jax.jacrev if mode == "reverse" else jax.jacfwd)(lambda row: jnp.ravel(fn(row))))

    def block_sum(rows: Float[Array, "b d"]) -> Float[Array, "d d"]:
        gradients = jacobian(rows).reshape(-1, x.shape[1])
        return matmul(gradients.T, gradients)

    return sum_rows(block_sum, x, batch_size) / x.shape[0]


class AGOPDiagnostics(NamedTuple):
    """How a closed-form AGOP was computed.

    cancellation is (tr T1 + 2 |tr T2| + tr T3) / tr(T1 - T2 - T2^T + T3), the terms of the class-free
    form: the factor by which it magnifies rounding. It is 1 where that form was not considered.
    """

    cancellation: Float[Array, ""]
    is_direct: Bool[Array, ""]

    def rounding(self) -> Float[Array, ""]:
        """Returns the relative rounding error of the AGOP: eigenvalues below this share are noise."""
        units = jnp.maximum(DIRECT_ROUNDING_UNITS, self.cancellation)
        units = jnp.where(self.is_direct, DIRECT_ROUNDING_UNITS, units)
        return units * jnp.finfo(self.cancellation.dtype).eps


def kernel_agop(
    machine: KernelMachine,
    x: Float[Array, "n d"] | None = None,
    *,
    centered: bool = False,
    diagonal: bool = False,
    batch_size: int | None = None,
) -> Float[Array, "d d"] | Float[Array, "d"]:
    """Returns the AGOP of a radial kernel machine at the rows of x, its own centers if x is None.

    With S_im = 2 slope(|x_i - z_m|^2), a the weights, s = S a and Z the centers, the gradient of output c
    at x_i is s_ic x_i - sum_m S_im a_mc z_m. A center contributes nothing at itself.

    Args:
        centered: Subtract the mean gradient of each output first (a covariance of gradients).
        diagonal: Return only the diagonal, as a vector.
        batch_size: Rows of x handled at once; None takes all.
    """
    return _jitted_kernel_agop(machine, x, centered=centered, diagonal=diagonal, batch_size=batch_size)[0]


def kernel_agop_core(
    machine: KernelMachine,
    x: Float[Array, "n d"] | None = None,
    *,
    centered: bool = False,
    diagonal: bool = False,
    batch_size: int | None = None,
) -> tuple[Float[Array, "d d"] | Float[Array, "d"], AGOPDiagnostics]:
    """Returns the AGOP of `kernel_agop` and how it was computed.

    The class-free form is taken where it needs fewer flops than one gradient per output, and is given up
    for the direct form where rounding times its cancellation exceeds 1e-11 (1e-5 in float32).
    """
    points = machine.centers if x is None else x
    num_points, in_dim = points.shape
    num_centers, num_outputs = machine.weights.shape
    if diagonal or not class_free_is_cheaper(num_points, in_dim, num_centers, num_outputs):
        gram = _direct(machine, points, centered, diagonal, batch_size)
        return gram, AGOPDiagnostics(jnp.ones((), points.dtype), jnp.ones((), bool))
    gram, cancellation = _class_free(machine, points, centered, batch_size)
    eps, tolerance = jnp.finfo(points.dtype).eps, CLASS_FREE_TOLERANCE.get(points.dtype.name, 1e-2)
    # Written so that a cancellation that is NaN or negative takes the direct form too.
    is_direct = ~((cancellation >= 1) & (cancellation * eps <= tolerance))
    direct = partial(_direct, machine, points, centered, diagonal, batch_size)
    return jax.lax.cond(is_direct, direct, lambda: gram), AGOPDiagnostics(cancellation, is_direct)


_jitted_kernel_agop = jax.jit(kernel_agop_core, static_argnames=("centered", "diagonal", "batch_size"))


def class_free_is_cheaper(num_points: int, in_dim: int, num_centers: int, num_outputs: int) -> bool:
    """Returns whether S^T S costs fewer flops than one gradient matrix per output."""
    class_free = num_points * num_centers**2 + num_centers**2 * in_dim + num_points * num_centers * in_dim
    direct = num_outputs * num_points * in_dim * (num_centers + in_dim)
    return class_free < direct


def _slopes(machine: KernelMachine, x: Float[Array, "n d"]) -> Float[Array, "n m"]:
    slopes = 2 * machine.kernel.slope(squared_distances(x, machine.centers))
    # At its own center every kernel's term is slope * 0: dropped, so that it cannot leave rounding behind.
    return jnp.where(jnp.eye(x.shape[0], dtype=bool), 0.0, slopes) if x is machine.centers else slopes


def _class_free(
    machine: KernelMachine, x: Float[Array, "n d"], centered: bool, batch_size: int | None
) -> tuple[Float[Array, "d d"], Float[Array, ""]]:
    """Returns (T1 - T2 - T2^T + T3) / n and its cancellation, at a cost free of the number of outputs.

    T1 = X^T diag(sum_c s^2) X, T2 = X^T (S * s a^T) Z, T3 = Z^T (S^T S * a a^T) Z, * entrywise.
    """
    z, a = machine.centers, machine.weights

    def block_sum(rows: Float[Array, "b d"]) -> tuple[Array, ...]:
        slopes = _slopes(machine, rows)
        s = matmul(slopes, a)
        t1 = matmul(rows.T * jnp.sum(s * s, axis=1)[None, :], rows)
        t2 = matmul(rows.T, matmul(slopes * matmul(s, a.T), z))
        gradient_sum = matmul(s.T, rows) - matmul((jnp.sum(slopes, axis=0)[:, None] * a).T, z)
        return t1, t2, matmul(slopes.T, slopes), gradient_sum

    t1, t2, slopes_gram, gradient_sum = sum_rows(block_sum, x, batch_size)
    t3 = matmul(z.T, matmul(slopes_gram * matmul(a, a.T), z))
    total = t1 - t2 - t2.T + t3
    if centered:
        total = total - matmul(gradient_sum.T, gradient_sum) / x.shape[0]
    magnitude = jnp.trace(t1) + 2 * jnp.abs(jnp.trace(t2)) + jnp.trace(t3)
    return (total + total.T) / (2 * x.shape[0]), magnitude / jnp.trace(total)


def _direct(
    machine: KernelMachine, x: Float[Array, "n d"], centered: bool, diagonal: bool, batch_size: int | None
) -> Float[Array, "d d"] | Float[Array, "d"]:
    """Returns (1/n) sum_c G_c^T G_c, one gradient matrix G_c (n, d) for each output in turn."""
    z, a = machine.centers, machine.weights
    means = jnp.zeros((a.shape[1], z.shape[1]), x.dtype)
    if centered:
        means = sum_rows(lambda rows: _map_outputs(machine, rows, partial(jnp.sum, axis=0)), x, batch_size)
        means = means / x.shape[0]

    def block_sum(rows: Float[Array, "b d"]) -> Array:
        slopes = _slopes(machine, rows)

        def add(total: Array, output: tuple[Array, Array]) -> tuple[Array, None]:
            column, mean = output
            gradients = _gradients(slopes, rows, z, column) - mean[None, :]
            product = jnp.sum(gradients**2, axis=0) if diagonal else matmul(gradients.T, gradients)
            return total + product, None

        shape = z.shape[1:] if diagonal else (z.shape[1], z.shape[1])
        return jax.lax.scan(add, jnp.zeros(shape, x.dtype), (a.T, means))[0]

    return sum_rows(block_sum, x, batch_size) / x.shape[0]


def _map_outputs(
    machine: KernelMachine, rows: Float[Array, "b d"], fn: Callable[[Float[Array, "b d"]], Array]
) -> Array:
    """Returns fn of the gradients of every output at the given rows, stacked over outputs."""
    slopes = _slopes(machine, rows)
    return jax.lax.map(
        lambda column: fn(_gradients(slopes, rows, machine.centers, column)), machine.weights.T
    )


def _gradients(
    slopes: Float[Array, "b m"], x: Float[Array, "b d"], z: Float[Array, "m d"], column: Float[Array, "m"]
) -> Float[Array, "b d"]:
    return matmul(slopes, column)[:, None] * x - matmul(slopes, column[:, None] * z)
