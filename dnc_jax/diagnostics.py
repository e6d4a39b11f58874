"""Whether a fit can be trusted: its diagnostics, the worse of two, and the check that may raise."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dnc_jax.checks import check_finite
from dnc_jax.errors import FitError
from dnc_jax.matrix_free import ConjugateGradients
from dnc_jax.solvers import Solver


class FitDiagnostics(NamedTuple):
    """What tells whether a fit can be trusted: a few numbers, read once by the host.

    residual is |(K + ridge I) weights - targets| / |targets|, Frobenius, and column_residuals the same of
    each output; condition_estimate that of K + ridge I in the 2-norm, from below, or an upper bound after
    `ConjugateGradients`; num_steps counts products with K of an iterative solver, 0 for others; is_float32 is
    that of `Solution`. excess_residuals are those of column_residuals that are more than rounding leaves
    over, 0 for the others; None of a solver without a tolerance.
    """

    finite: Bool[Array, ""]
    residual: Float[Array, ""]
    condition_estimate: Float[Array, ""]
    column_residuals: Float[Array, "c"]
    num_steps: Int[Array, ""]
    is_float32: Bool[Array, ""] | None = None
    excess_residuals: Float[Array, "c"] | None = None


def worse_fit(a: FitDiagnostics, b: FitDiagnostics) -> FitDiagnostics:
    """Returns the diagnostics of two fits as if they were one, which can be trusted if both can.

    finite and is_float32 hold if they do of both; all else, num_steps among it, is the larger number, NaN if
    one is.
    """
    larger = jax.tree.map(jnp.maximum, a, b)
    both = None if a.is_float32 is None or b.is_float32 is None else a.is_float32 & b.is_float32
    return larger._replace(finite=a.finite & b.finite, is_float32=both)


def is_solved(
    diagnostics: FitDiagnostics, solver: Solver | ConjugateGradients | None = None
) -> Bool[Array, ""] | np.bool:
    """Returns whether the weights are finite and the residual is small, traced or on the host.

    At most eps^(1/3), or what conjugate gradients were asked for if that is more. Of theirs, moreover, every
    column's must be at most their tolerance, or what rounding leaves over.
    """
    is_small = diagnostics.residual <= _tolerance(diagnostics.residual.dtype, solver)
    return diagnostics.finite & is_small & _is_reached(diagnostics, solver)


def _is_reached(
    diagnostics: FitDiagnostics, solver: Solver | ConjugateGradients | None
) -> Bool[Array, ""] | np.bool | bool:
    """Returns whether conjugate gradients reached their tolerance as far as rounding lets them."""
    excess = diagnostics.excess_residuals
    return excess is None or not isinstance(solver, ConjugateGradients) or (excess <= solver.tolerance).all()


def _tolerance(dtype: jnp.dtype, solver: Solver | ConjugateGradients | None) -> float:
    asked = solver.tolerance if isinstance(solver, ConjugateGradients) else 0.0
    return max(float(jnp.finfo(dtype).eps) ** (1 / 3), asked)


def check_fit(
    diagnostics: FitDiagnostics,
    x: Float[Array, "n *shape"],
    targets: Float[Array, "n c"],
    ridge: float,
    where: str = "the kernel machine",
    solver: Solver | ConjugateGradients | None = None,
) -> None:
    """Raises if the diagnostics of a fit, read on the host, say that its weights cannot be trusted.

    Raises:
        ValueError: If the cause is values of x or targets that are not finite, or targets all zero.
        FitError: If the system is singular, or solved with too large a residual, as `is_solved` has it. A
            tolerance of conjugate gradients that rounding keeps out of reach is no error, one that they had
            too few steps, rounds or pivots for is.
    """
    diagnostics = jax.device_get(diagnostics)
    finite, residual, condition = diagnostics.finite, diagnostics.residual, diagnostics.condition_estimate
    if is_solved(diagnostics, solver):
        return
    check_finite("x", x)
    check_finite("targets", targets)
    if not jnp.any(targets):
        raise ValueError("targets must not all be 0: there is nothing to fit; use targets in {-1, +1}")
    size = float(jnp.max(jnp.abs(targets)))
    if finite and not jnp.isfinite(residual):
        raise FitError(
            f"the fit of {where} cannot be checked: the squares of targets of up to {size:.1e} are out of "
            f"the range of {x.dtype}; scale the targets to about 1"
        )
    if isinstance(solver, ConjugateGradients):
        raise FitError(
            f"the fit of {where} did not converge: {_missed(diagnostics, solver)} after "
            f"{diagnostics.num_steps} steps of conjugate gradients, with n = {x.shape[0]}, ridge = "
            f"{ridge:g}, {x.dtype}, condition number of at most {condition:.1e}; raise the rank, max_steps, "
            "max_rounds or tolerance of the solver, or the ridge"
        )
    limit = 1 / float(jnp.finfo(x.dtype).eps)
    tolerance = _tolerance(x.dtype, solver)
    reason = f"a residual of {residual:.1e}, above {tolerance:.1e}" if finite else "no finite weights"
    condition_text = f"at least {condition:.1e}" if finite else f"beyond {limit:.1e}"
    remedy = "" if x.dtype == jnp.float64 else ", use float64"
    raise FitError(
        f"the fit of {where} failed: {reason}, with n = {x.shape[0]}, ridge = {ridge:g}, {x.dtype}, "
        f"condition number {condition_text} (the dtype carries {limit:.1e}); raise the ridge{remedy}, or "
        "remove duplicate rows"
    )


def _missed(diagnostics: FitDiagnostics, solver: ConjugateGradients) -> str:
    """Returns by how much conjugate gradients missed what they were asked for."""
    if not diagnostics.finite:
        return "no finite weights"
    columns = diagnostics.excess_residuals
    if columns is None or _is_reached(diagnostics, solver):
        columns = diagnostics.column_residuals
    worst = int(np.argmax(columns))
    residual = f"a residual of {columns[worst]:.1e} of output {worst}"
    return f"{residual}, above the tolerance of {solver.tolerance:.1e},"
