"""Average gradient outer products: of any function by autodiff, of kernel machines in closed form.

AGOP(f) = (1/n) sum_i J(x_i)^T J(x_i), J the Jacobian of f at a point: the mean over points, the sum over
outputs.

References:
    Radhakrishnan, Beaglehole, Pandit and Belkin (2024), Science 383.
    Beaglehole, Sukenik, Mondelli and Belkin (2024), Definition of the AGOP.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dnc_jax.agop_cost import class_free_is_cheaper
from dnc_jax.chunking import sum_rows
from dnc_jax.class_free import class_free_gram_at_centers
from dnc_jax.closed_form import class_free_gram, direct_gram
from dnc_jax.jacobians import Mode, flattened, jacobians, num_outputs
from dnc_jax.kernels import ClosedFormKernel, Radial
from dnc_jax.linalg import symmetric_product
from dnc_jax.machine import KernelMachine
from dnc_jax.moments import moments_of_rows

# Rounding times cancellation that is accepted in a product of gradients. Its square root is what reaches
# M^(1/2) in directions that M does not see. Against an oracle, NC1 and NC2 after 20 layers are off by up to
# 5e-6 with 1e-11 in float64, and by 1e-7 with 1e-15 (1000 images, ridge 1e-3).
ROUNDING_TOLERANCE = {"float32": 4e-6, "float64": 1e-15}
# Rounding of an eigenvalue relative to the largest, in units of eps: measured to be below 10.
ROUNDING_UNITS = 16.0


def agop(
    fn: Callable[[Float[Array, "*shape"]], Float[Array, "..."]],
    x: Float[Array, "n *shape"],
    *,
    batch_size: int | None = None,
    mode: Mode | None = None,
    centered: bool = False,
    diagonal: bool = False,
    directions: Float[Array, "d q"] | None = None,
) -> Float[Array, "q q"] | Float[Array, "q"]:
    """Returns (1/n) sum_i J_i^T J_i for fn of one example, J_i its Jacobian at the i-th example of x.

    Examples and outputs of any shape count as flat vectors: the result is (d, d), d the number of entries of
    one example. Not rescaled.

    Args:
        batch_size: Examples whose Jacobians are held at once; None holds all.
        mode: Mode of differentiation; None takes reverse where outputs are fewer than inputs or directions.
        centered: Subtract the mean Jacobian first (a covariance of gradients), in one careful pass.
        diagonal: Return only the diagonal, as a vector.
        directions: U; return U^T AGOP U, (q, q), from J_i U and never from a (d, d) matrix. Columns of any
            length and angle.

    Raises:
        ValueError: If x has no rows, mode is not one of the two, or directions do not fit the examples.
    """
    fn, rows = flattened(fn, x)
    _check_options(mode, directions, rows.shape[1])
    if directions is not None:
        directions = directions.astype(rows.dtype)
    if mode is None:
        num_passes = (rows if directions is None else directions).shape[1]
        mode = "reverse" if num_outputs(fn, rows) < num_passes else "forward"
    gradients = jacobians(fn, mode=mode, directions=directions)
    product = _squares if diagonal else _outer_products
    if centered:
        return moments_of_rows(gradients, rows, batch_size, product).scatter / x.shape[0]
    return sum_rows(lambda block: product(gradients(block)), rows, batch_size) / x.shape[0]


def _outer_products(gradients: Float[Array, "b c q"]) -> Float[Array, "q q"]:
    return symmetric_product(gradients.reshape(-1, gradients.shape[-1]))


def _squares(gradients: Float[Array, "b c q"]) -> Float[Array, "q"]:
    return jnp.sum(gradients * gradients, axis=(0, 1))


def _check_options(mode: Mode | None, directions: Float[Array, "..."] | None, in_dim: int) -> None:
    if mode not in (None, "forward", "reverse"):
        raise ValueError(f"mode must be 'forward', 'reverse' or None: got {mode!r}")
    if directions is None:
        return
    if directions.ndim != 2 or directions.shape[0] != in_dim or directions.shape[1] == 0:
        raise ValueError(
            f"directions must be a matrix ({in_dim}, q) with one row per entry of an example: got shape "
            f"{directions.shape}"
        )


class AGOPDiagnostics(NamedTuple):
    """How a closed-form AGOP was computed.

    cancellation is (|A|^2 + 2 |A.B| + |B|^2) / |A - B|^2 for gradients that are differences A - B: the
    factor by which rounding is magnified, about 1 / NC1 where points collapse. is_direct tells that the
    gradients of each output were formed in turn. Autodiff counts as direct, with cancellation 1.
    float32_rounding is the share of the largest eigenvalue that products in float32 leave as rounding: 0
    where none were in float32, None where none could be.
    """

    cancellation: Float[Array, ""]
    is_direct: Bool[Array, ""]
    float32_rounding: Float[Array, ""] | None = None

    def rounding(self) -> Float[Array, ""]:
        """Returns the share of the largest eigenvalue below which an eigenvalue of the AGOP is rounding."""
        units = jnp.where(self.is_direct, ROUNDING_UNITS, jnp.maximum(self.cancellation, ROUNDING_UNITS))
        own = units * jnp.finfo(self.cancellation.dtype).eps
        return own if self.float32_rounding is None else jnp.maximum(own, self.float32_rounding)


def kernel_agop(
    machine: KernelMachine,
    x: Float[Array, "n d"] | None = None,
    *,
    centered: bool = False,
    diagonal: bool = False,
    row_weights: Float[Array, "n"] | None = None,
    batch_size: int | None = None,
) -> Float[Array, "d d"] | Float[Array, "d"]:
    """Returns the AGOP of a kernel machine at the rows of x, its own centers if x is None.

    The mean over rows, not rescaled, in closed form. A center of a radial kernel contributes nothing at
    itself. The class-free form (see `closed_form`) is taken where `agop_cost` counts less for it than for one
    gradient per output, and is given up for the direct one where rounding times its cancellation exceeds
    1e-15 (4e-6 in float32).

    A kernel without `gradient_terms` is differentiated by `agop`, one Jacobian for each row of a block: the
    same number where the kernel is differentiable, NaN where its derivative is.

    Args:
        centered: Subtract the mean gradient of each output first (a covariance of gradients).
        diagonal: Return only the diagonal, as a vector.
        row_weights: Weights of the rows in the mean, and in that of the gradients; None counts all alike.
        batch_size: Rows of x handled at once; None takes all.

    Raises:
        ValueError: If row_weights are not one number for each row.
        TypeError: If row_weights are given for a kernel without `gradient_terms`.
    """
    num_rows = (machine.centers if x is None else x).shape[0]
    if row_weights is not None and row_weights.shape != (num_rows,):
        raise ValueError(
            f"row_weights must be a vector of {num_rows} numbers, one for each row: got shape "
            f"{row_weights.shape}"
        )
    options = {"centered": centered, "diagonal": diagonal, "batch_size": batch_size}
    return _jitted_kernel_agop(machine, x, row_weights=row_weights, **options)[0]


def kernel_agop_core(
    machine: KernelMachine,
    x: Float[Array, "n d"] | None = None,
    *,
    centered: bool = False,
    diagonal: bool = False,
    row_weights: Float[Array, "n"] | None = None,
    batch_size: int | None = None,
    is_direct: bool = False,
) -> tuple[Float[Array, "d d"] | Float[Array, "d"], AGOPDiagnostics]:
    """Returns `kernel_agop` and how it was computed; is_direct takes the direct form, whatever it costs."""
    points = machine.centers if x is None else x
    if not isinstance(machine.kernel, ClosedFormKernel):
        options = {"centered": centered, "diagonal": diagonal, "batch_size": batch_size}
        if row_weights is not None:
            raise TypeError(
                f"row_weights need a kernel with gradient_terms: got {type(machine.kernel).__name__}, which "
                "is differentiated; give every row the same weight"
            )
        gram = agop(lambda row: machine(row[None])[0], points, **options)
        return gram, AGOPDiagnostics(jnp.ones((), gram.dtype), jnp.ones((), bool))
    direct = partial(direct_gram, machine, points, row_weights, centered, diagonal, batch_size)
    at_centers = isinstance(machine.kernel, Radial) and points is machine.centers
    at_centers = at_centers and row_weights is batch_size is None
    if is_direct or diagonal or not _class_free_is_cheaper(machine, points, at_centers):
        gram, cancellation = direct()
        return gram, AGOPDiagnostics(cancellation, jnp.ones((), bool))
    if at_centers:
        gram, cancellation = class_free_gram_at_centers(machine, centered)
    else:
        gram, cancellation = class_free_gram(machine, points, row_weights, centered, batch_size)
    is_lossy = _is_lossy(cancellation)
    gram = jax.lax.cond(is_lossy, lambda: direct()[0], lambda: gram)
    return gram, AGOPDiagnostics(cancellation, is_lossy)


_jitted_kernel_agop = jax.jit(kernel_agop_core, static_argnames=("centered", "diagonal", "batch_size"))


def _class_free_is_cheaper(machine: KernelMachine, x: Float[Array, "n d"], at_centers: bool) -> bool:
    num_centers, num_outputs = machine.weights.shape
    return class_free_is_cheaper(x.shape[0], x.shape[1], num_centers, num_outputs, at_centers)


def _is_lossy(cancellation: Float[Array, ""]) -> Bool[Array, ""]:
    tolerance = ROUNDING_TOLERANCE.get(cancellation.dtype.name, 1e-2)
    # Written so that a cancellation that is NaN or negative counts as a loss too.
    return ~((cancellation >= 1) & (cancellation * jnp.finfo(cancellation.dtype).eps <= tolerance))
