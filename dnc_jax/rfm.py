"""Recursive feature machines: a kernel machine on x M^(1/2), with M learned from its own AGOP.

    iterates = rfm_iterates(Laplace(10.0), x, targets, ridge=1e-3)
    plain, once, twice = itertools.islice(iterates, 3)

The loop is the caller's: `fit_rfm` ends after a number of updates, `select_rfm` where held-out points say.

References:
    Radhakrishnan, Beaglehole, Pandit and Belkin (2024), Science 383, Algorithm 1.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from dnc_jax.agop import kernel_agop_core
from dnc_jax.errors import FitError
from dnc_jax.kernels import Kernel
from dnc_jax.linalg import Solver, cholesky_solve, matmul, psd_power
from dnc_jax.machine import (
    FitDiagnostics,
    KernelMachine,
    check_fit,
    check_fit_arguments,
    kernel_machine_core,
)
from dnc_jax.types import Scalar, pytree

Rescale: TypeAlias = Callable[[Array], Array]
"""A function of M, or of its diagonal, that gives it another scale."""

AdaptKernel: TypeAlias = Callable[[Kernel, Float[Array, "n d"]], Kernel]
"""The kernel of one fit, from the one that was asked for and the points x @ root that it is fitted on."""


@pytree
class RFM:
    """A fitted recursive feature machine: a machine on x @ feature_root.

    feature_matrix is M and feature_root M^(1/2), both (d, d); for a diagonal M both are its (d,) diagonal.
    """

    machine: KernelMachine
    feature_matrix: Array
    feature_root: Array

    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, "n c"]:
        """Returns the predictions at the rows of x."""
        return self.machine(apply_root(x, self.feature_root))


def apply_root(x: Float[Array, "n d"], root: Float[Array, "d d"] | Float[Array, "d"]) -> Float[Array, "n d"]:
    """Returns x @ root, root a matrix or the diagonal of one."""
    return x * root[None, :] if root.ndim == 1 else matmul(x, root)


def by_max(feature_matrix: Array) -> Array:
    """Returns M divided by its largest entry, as the released rfm package does."""
    return feature_matrix / jnp.max(feature_matrix)


def by_trace(feature_matrix: Array) -> Array:
    """Returns M divided by its trace, or the diagonal of M by its sum."""
    return feature_matrix / jnp.sum(
        feature_matrix if feature_matrix.ndim == 1 else jnp.diagonal(feature_matrix)
    )


def rfm_iterates(
    kernel: Kernel,
    x: Float[Array, "n d"],
    targets: Float[Array, "n c"],
    *,
    ridge: float,
    centered: bool = False,
    diagonal: bool = False,
    rescale: Rescale | None = None,
    power: float = 1.0,
    adapt_kernel: AdaptKernel | None = None,
    agop_size: int | None = None,
    key: PRNGKeyArray | None = None,
    sample_weights: Float[Array, "n"] | None = None,
    feature_matrix: Array | None = None,
    solver: Solver | None = None,
) -> Iterator[RFM]:
    """Yields the machine with M = I, then the machine after each update M <- AGOP^power, without end.

    The options are those of `fit_rfm`. Each machine is fitted when it is asked for, and checked.

    Args:
        feature_matrix: M of the first machine, such as that of another fit; None is I.

    Raises:
        ValueError: If an argument is out of range, or x or targets hold values that are not finite.
        FitError: If a system is singular in the dtype of x, or an AGOP is 0; it names the iteration.
    """
    check_fit_arguments(kernel, x, targets, ridge, sample_weights)
    _check_subset(agop_size, key, x.shape[0])
    adapt, solver = adapt_kernel or _as_asked, solver or cholesky_solve
    fit = partial(_jitted_fit, solver=solver, adapt_kernel=adapt)
    update = partial(_jitted_update, centered=centered, diagonal=diagonal, rescale=rescale, power=power)
    (matrix, root), iteration = _first_matrix(feature_matrix, x, diagonal), 0
    while True:
        machine, diagnostics = fit(kernel, apply_root(x, root), targets, ridge, sample_weights)
        check_fit(diagnostics, x, targets, ridge, f"iteration {iteration}")
        yield RFM(machine, matrix, root)
        rows = None if agop_size is None else _subset(key, iteration, x.shape[0], agop_size)
        matrix, root, is_usable = update(machine, root, rows, sample_weights)
        iteration += 1
        if not is_usable:
            raise FitError(
                f"the AGOP of iteration {iteration} is 0 or not finite: the predictor of n = {x.shape[0]} "
                "points is constant; are all rows of x or all targets equal?"
            )


def fit_rfm(
    kernel: Kernel,
    x: Float[Array, "n d"],
    targets: Float[Array, "n c"],
    *,
    ridge: float,
    num_iters: int,
    centered: bool = False,
    diagonal: bool = False,
    rescale: Rescale | None = None,
    power: float = 1.0,
    adapt_kernel: AdaptKernel | None = None,
    agop_size: int | None = None,
    key: PRNGKeyArray | None = None,
    sample_weights: Float[Array, "n"] | None = None,
    solver: Solver | None = None,
) -> RFM:
    """Returns the machine after num_iters updates M <- AGOP^power, from M = I, and a last refit.

    The AGOP is that of f in x, root @ (AGOP of the machine in x @ root) @ root, the mean over rows.
    `select_rfm` also looks at held-out points, and keeps the history.

    Args:
        centered: Subtract the mean gradient of each output before the outer product.
        diagonal: Keep only the diagonal of the AGOP.
        rescale: Applied to M after each update, such as `by_max` and `by_trace`; None keeps the mean over
            rows.
        adapt_kernel: Called before each fit as adapt_kernel(kernel, x @ root), such as `median_scaled`.
        agop_size: Rows whose gradients enter each AGOP, drawn anew for each with key; None takes all.
        key: Draws these rows; needed only with agop_size.
        sample_weights: Weights of the rows in the regression and in the AGOP, as in `fit_kernel_machine`.

    Raises:
        ValueError: If an argument is out of range, or x or targets hold values that are not finite.
        FitError: If a system is singular in the dtype of x, or an AGOP is 0.
    """
    if num_iters < 0:
        raise ValueError(f"num_iters must be at least 0 AGOP updates: got {num_iters}")
    iterates = rfm_iterates(
        kernel,
        x,
        targets,
        ridge=ridge,
        centered=centered,
        diagonal=diagonal,
        rescale=rescale,
        power=power,
        adapt_kernel=adapt_kernel,
        agop_size=agop_size,
        key=key,
        sample_weights=sample_weights,
        solver=solver,
    )
    return next(islice(iterates, num_iters, None))


@partial(jax.jit, static_argnames=("solver", "adapt_kernel"))
def _jitted_fit(
    kernel: Kernel,
    x: Float[Array, "n d"],
    targets: Float[Array, "n c"],
    ridge: Scalar,
    sample_weights: Float[Array, "n"] | None,
    *,
    solver: Solver,
    adapt_kernel: AdaptKernel,
) -> tuple[KernelMachine, FitDiagnostics]:
    return kernel_machine_core(adapt_kernel(kernel, x), x, targets, ridge, solver, sample_weights)


@partial(jax.jit, static_argnames=("centered", "diagonal", "rescale", "power"))
def _jitted_update(
    machine: KernelMachine,
    root: Array,
    rows: Int[Array, "b"] | None,
    sample_weights: Float[Array, "n"] | None,
    *,
    centered: bool,
    diagonal: bool,
    rescale: Rescale | None,
    power: float,
) -> tuple[Array, Array, Bool[Array, ""]]:
    """Returns M after an update, its square root, and whether there is an M."""
    points, row_weights = None, sample_weights
    if rows is not None:
        points = machine.centers[rows]
        row_weights = None if sample_weights is None else sample_weights[rows]
    gram, agop = kernel_agop_core(
        machine, points, centered=centered, diagonal=diagonal, row_weights=row_weights
    )
    gram = root * gram * root if diagonal else matmul(root, matmul(gram, root))
    matrix = _power(gram, power)
    matrix = matrix if rescale is None else rescale(matrix)
    # As in a layer of Deep RFM: the root of what is rounding in M would not be small.
    noise = jnp.maximum(agop.rounding(), agop.rounding() ** power)
    return matrix, _power(matrix, 0.5, noise), jnp.all(jnp.isfinite(matrix)) & jnp.any(gram != 0)


def _power(matrix: Array, power: float, rtol: Scalar | None = None) -> Array:
    if power == 1.0:
        return matrix
    return matrix**power if matrix.ndim == 1 else psd_power(matrix, power, rtol=rtol)


def _first_matrix(
    feature_matrix: Array | None, x: Float[Array, "n d"], diagonal: bool
) -> tuple[Array, Array]:
    """Returns the M to start from, and its square root."""
    identity = jnp.ones(x.shape[1], x.dtype) if diagonal else jnp.eye(x.shape[1], dtype=x.dtype)
    if feature_matrix is None:
        return identity, identity
    if feature_matrix.shape != identity.shape or feature_matrix.dtype != x.dtype:
        raise ValueError(
            f"feature_matrix must have the shape {identity.shape} and the dtype {x.dtype}: got "
            f"{feature_matrix.shape} and {feature_matrix.dtype}"
        )
    return feature_matrix, _power(feature_matrix, 0.5)


def _as_asked(kernel: Kernel, _: Float[Array, "n d"]) -> Kernel:
    return kernel


def _subset(key: PRNGKeyArray | None, iteration: int, num_rows: int, size: int) -> Int[Array, "b"]:
    assert key is not None
    order = jax.random.permutation(jax.random.fold_in(key, iteration), num_rows)
    return jnp.sort(order[:size])


def _check_subset(agop_size: int | None, key: PRNGKeyArray | None, num_rows: int) -> None:
    if agop_size is None:
        return
    if not 1 <= agop_size <= num_rows:
        raise ValueError(f"agop_size must lie in 1..{num_rows}, the number of rows: got {agop_size}")
    if key is None:
        raise ValueError("agop_size draws rows and needs a key: got None; pass key=jax.random.key(seed)")
