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
from dnc_jax.closed_form import class_free_gram, class_free_is_cheaper, direct_gram
from dnc_jax.kernels import ClosedFormKernel
from dnc_jax.linalg import matmul
from dnc_jax.machine import KernelMachine

# Rounding times cancellation that is accepted in a product of gradients. Its square root is what reaches
# M^(1/2) in directions that M does not see. Against an oracle, NC1 and NC2 after 20 layers are off by up to
# 5e-6 with 1e-11 in float64, and by 1e-7 with 1e-15 (1000 images, ridge 1e-3).
ROUNDING_TOLERANCE = {"float32": 4e-6, "float64": 1e-15}
# Rounding of an eigenvalue relative to the largest, in units of eps: measured to be below 10.
ROUNDING_UNITS = 16.0


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

    cancellation is (|A|^2 + 2 |A.B| + |B|^2) / |A - B|^2 for gradients that are differences A - B: the
    factor by which rounding is magnified, about 1 / NC1 where points collapse. is_direct tells that the
    gradients of each output were formed in turn. Autodiff counts as direct, with cancellation 1.
    """

    cancellation: Float[Array, ""]
    is_direct: Bool[Array, ""]

    def rounding(self) -> Float[Array, ""]:
        """Returns the share of the largest eigenvalue below which an eigenvalue of the AGOP is rounding."""
        units = jnp.where(self.is_direct, ROUNDING_UNITS, jnp.maximum(self.cancellation, ROUNDING_UNITS))
        return units * jnp.finfo(self.cancellation.dtype).eps


def kernel_agop(
    machine: KernelMachine,
    x: Float[Array, "n d"] | None = None,
    *,
    centered: bool = False,
    diagonal: bool = False,
    batch_size: int | None = None,
) -> Float[Array, "d d"] | Float[Array, "d"]:
    """Returns the AGOP of a kernel machine at the rows of x, its own centers if x is None.

    The mean over rows, not rescaled, in closed form. A center of a radial kernel contributes nothing at
    itself. The class-free form (see `closed_form`) is taken where it needs fewer flops than one gradient per
    output, and is given up for the direct one where rounding times its cancellation exceeds 1e-15 (4e-6 in
    float32).

    A kernel without `gradient_terms` is differentiated by `agop`, one Jacobian for each row of a block: the
    same number where the kernel is differentiable, NaN where its derivative is.

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
    """Returns `kernel_agop` and how it was computed."""
    points = machine.centers if x is None else x
    if not isinstance(machine.kernel, ClosedFormKernel):
        gram = _autodiff_gram(machine, points, centered, batch_size)
        unknown = jnp.ones((), gram.dtype)
        return jnp.diagonal(gram) if diagonal else gram, AGOPDiagnostics(unknown, jnp.ones((), bool))
    direct = partial(direct_gram, machine, points, centered, diagonal, batch_size)
    if diagonal or not _class_free_is_cheaper(machine, points):
        gram, cancellation = direct()
        return gram, AGOPDiagnostics(cancellation, jnp.ones((), bool))
    gram, cancellation = class_free_gram(machine, points, centered, batch_size)
    is_direct = _is_lossy(cancellation)
    gram = jax.lax.cond(is_direct, lambda: direct()[0], lambda: gram)
    return gram, AGOPDiagnostics(cancellation, is_direct)


_jitted_kernel_agop = jax.jit(kernel_agop_core, static_argnames=("centered", "diagonal", "batch_size"))


def _autodiff_gram(
    machine: KernelMachine, x: Float[Array, "n d"], centered: bool, batch_size: int | None
) -> Float[Array, "d d"]:
    def gradient_sum(rows: Float[Array, "b d"]) -> Float[Array, "c d"]:
        def output_sum(shift: Float[Array, "d"]) -> Float[Array, "c"]:
            return jnp.sum(machine(rows + shift[None, :]), axis=0)

        return jax.jacrev(output_sum)(jnp.zeros(rows.shape[1], rows.dtype))

    mean = sum_rows(gradient_sum, x, batch_size) / x.shape[0] if centered else None

    def residual(row: Float[Array, "d"]) -> Float[Array, "c"]:
        # Without the linear map of the mean gradient, every gradient is centered.
        return machine(row[None])[0] - (0.0 if mean is None else matmul(mean, row))

    return agop(residual, x, batch_size=batch_size)


def _class_free_is_cheaper(machine: KernelMachine, x: Float[Array, "n d"]) -> bool:
    num_centers, num_outputs = machine.weights.shape
    return class_free_is_cheaper(x.shape[0], x.shape[1], num_centers, num_outputs)


def _is_lossy(cancellation: Float[Array, ""]) -> Bool[Array, ""]:
    tolerance = ROUNDING_TOLERANCE.get(cancellation.dtype.name, 1e-2)
    # Written so that a cancellation that is NaN or negative counts as a loss too.
    return ~((cancellation >= 1) & (cancellation * jnp.finfo(cancellation.dtype).eps <= tolerance))
