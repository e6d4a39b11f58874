"""Kernel machines: kernel ridge regression."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dnc_jax.diagnostics import FitDiagnostics, check_fit
from dnc_jax.kernels import ImageKernel, Kernel, check_kernel
from dnc_jax.linalg import matmul
from dnc_jax.matrix_free import ConjugateGradients, check_solver, solve_matrix_free
from dnc_jax.sharing import lengths_of_columns, sum_over
from dnc_jax.solvers import Solver, check_ridge, cholesky_solve, quick_cholesky_solve
from dnc_jax.types import Scalar, is_concrete, pytree


@pytree
class KernelMachine:
    """A fitted predictor f(x) = sum_m kernel(x, centers_m) weights_m; centers (m, d), weights (m, c).

    Of a kernel of images, x and centers are images (n, h, w, d).
    """

    kernel: Kernel
    centers: Array
    weights: Array

    def __call__(self, x: Float[Array, "n *shape"]) -> Float[Array, "n c"]:
        """Returns the predictions at the rows of x."""
        return matmul(self.kernel(x, self.centers), self.weights)


def kernel_machine_core(
    kernel: Kernel,
    x: Float[Array, "n *shape"],
    targets: Float[Array, "n c"],
    ridge: Scalar,
    solver: Solver | ConjugateGradients = cholesky_solve,
    sample_weights: Float[Array, "n"] | None = None,
    axis: str | None = None,
) -> tuple[KernelMachine, FitDiagnostics]:
    """Returns the machine with weights (K + ridge I)^-1 targets, and its diagnostics, unchecked.

    With sample_weights s the ridge of row i is ridge / s_i.

    For use under jit, vmap or scan; `fit_kernel_machine` is the same with the check.

    Args:
        axis: For `ConjugateGradients` within `jax.shard_map`: the mesh axis that rows are shared along. x,
            targets and the machine's centers and weights are then a device's own rows, as many on each.
    """
    if isinstance(solver, ConjugateGradients):
        return _matrix_free_machine(kernel, x, targets, ridge, solver, sample_weights, axis)
    return machine_of_gram(kernel, x, kernel(x, x), targets, ridge, solver, sample_weights)


def machine_of_gram(
    kernel: Kernel,
    x: Float[Array, "n *shape"],
    gram: Float[Array, "n n"],
    targets: Float[Array, "n c"],
    ridge: Scalar,
    solver: Solver = cholesky_solve,
    sample_weights: Float[Array, "n"] | None = None,
) -> tuple[KernelMachine, FitDiagnostics]:
    """Returns `kernel_machine_core`, given the Gram matrix of x."""
    added = _added(ridge, sample_weights, x)
    # A matrix diag(added) would be kept in memory by a loop around this.
    regularized = jnp.where(jnp.eye(x.shape[0], dtype=bool), gram + added[:, None], gram)
    found = solver(regularized, targets)
    left = jnp.linalg.norm(matmul(regularized, found.weights) - targets, axis=0)
    num_steps = jnp.zeros((), jnp.int32)
    diagnostics = _diagnostics(found.weights, left, targets, found.condition_estimate, num_steps)
    return KernelMachine(kernel, x, found.weights), diagnostics._replace(is_float32=found.is_float32)


def _matrix_free_machine(
    kernel: Kernel,
    x: Float[Array, "n *shape"],
    targets: Float[Array, "n c"],
    ridge: Scalar,
    solver: ConjugateGradients,
    sample_weights: Float[Array, "n"] | None,
    axis: str | None,
) -> tuple[KernelMachine, FitDiagnostics]:
    found = solve_matrix_free(kernel, x, targets, _added(ridge, sample_weights, x), solver, axis)
    diagnostics = _diagnostics(
        found.weights, found.residual_norms, targets, found.condition_bound, found.num_steps, axis
    )
    columns = diagnostics.column_residuals
    excess = jnp.where(columns <= found.rounding, 0.0, columns)
    return KernelMachine(kernel, x, found.weights), diagnostics._replace(excess_residuals=excess)


def _added(
    ridge: Scalar, sample_weights: Float[Array, "n"] | None, x: Float[Array, "n *shape"]
) -> Float[Array, "n"]:
    """Returns what is added to the diagonal of the Gram matrix."""
    added = ridge if sample_weights is None else ridge / sample_weights
    return jnp.broadcast_to(added, x.shape[0]).astype(x.dtype)


def _diagnostics(
    weights: Float[Array, "n c"],
    left: Float[Array, "c"],
    targets: Float[Array, "n c"],
    condition_estimate: Float[Array, ""],
    num_steps: Int[Array, ""],
    axis: str | None = None,
) -> FitDiagnostics:
    lengths = lengths_of_columns(axis, targets)
    residual = jnp.linalg.norm(left) / jnp.linalg.norm(lengths)
    # Of an output whose targets are all 0, the residual itself.
    columns = left / jnp.where(lengths > 0, lengths, 1.0)
    finite = sum_over(axis, jnp.sum(~jnp.isfinite(weights))) == 0
    return FitDiagnostics(finite, residual, condition_estimate, columns, num_steps)


def fit_kernel_machine(
    kernel: Kernel,
    x: Float[Array, "n *shape"],
    targets: Float[Array, "n c"],
    *,
    ridge: float,
    solver: Solver | ConjugateGradients | None = None,
    sample_weights: Float[Array, "n"] | None = None,
) -> KernelMachine:
    """Returns the kernel ridge regression of targets on x: weights (K + ridge I)^-1 targets.

    The ridge is added to the Gram matrix as it is, not multiplied by n. No jitter is ever added. Called
    eagerly: a jitted core, then one host read that may raise. solver None is
    `quick_cholesky_solve`; a `ConjugateGradients` never holds the kernel matrix whole.

    Args:
        sample_weights: s > 0 of the rows, which minimizes sum_i s_i |f(x_i) - y_i|^2 + ridge |f|^2: a row of
            weight 2 counts as two. None is 1 for all.

    Raises:
        ValueError: If an argument is out of range, or x or targets hold values that are not finite.
        FitError: If the system is singular in the dtype of x, or conjugate gradients miss their tolerance by
            more than rounding.
    """
    check_fit_arguments(kernel, x, targets, ridge, sample_weights)
    check_solver(solver, ridge)
    machine, diagnostics = _jitted_core(
        kernel, x, targets, ridge, solver or quick_cholesky_solve, sample_weights
    )
    check_fit(diagnostics, x, targets, ridge, solver=solver)
    return machine


_jitted_core = jax.jit(kernel_machine_core, static_argnames="solver")


def check_fit_arguments(
    kernel: Kernel,
    x: Float[Array, "n *shape"],
    targets: Float[Array, "n c"],
    ridge: Scalar,
    sample_weights: Float[Array, "n"] | None = None,
) -> None:
    """Raises ValueError for shapes, dtypes or hyper-parameters that no fit can use."""
    if isinstance(kernel, ImageKernel):
        kernel.check_images(x)
    if targets.ndim != 2 or (x.ndim != 2 and not isinstance(kernel, ImageKernel)):
        raise ValueError(
            f"x and targets must be matrices (n, d) and (n, c): got shapes {x.shape} and {targets.shape}; "
            "for one output pass targets[:, None], and images only to a kernel of images"
        )
    if x.shape[0] != targets.shape[0] or x.shape[0] == 0:
        raise ValueError(
            f"x and targets must have the same number of rows, at least 1: got {x.shape[0]} and "
            f"{targets.shape[0]}"
        )
    if not jnp.issubdtype(x.dtype, jnp.floating) or x.dtype != targets.dtype:
        raise ValueError(
            f"x and targets must share one floating dtype: got {x.dtype} and {targets.dtype}; "
            "convert with .astype"
        )
    check_ridge(ridge)
    check_kernel(kernel)
    if sample_weights is not None:
        _check_sample_weights(sample_weights, x)


def _check_sample_weights(sample_weights: Float[Array, "n"], x: Float[Array, "n *shape"]) -> None:
    if sample_weights.shape != x.shape[:1] or sample_weights.dtype != x.dtype:
        raise ValueError(
            f"sample_weights must be a vector of {x.shape[0]} numbers in {x.dtype}: got shape "
            f"{sample_weights.shape} in {sample_weights.dtype}"
        )
    if is_concrete(sample_weights) and not bool(jnp.all((sample_weights > 0) & jnp.isfinite(sample_weights))):
        raise ValueError(
            f"sample_weights must be positive finite numbers: got {float(jnp.min(sample_weights)):g} to "
            f"{float(jnp.max(sample_weights)):g}; leave rows of weight 0 out"
        )
