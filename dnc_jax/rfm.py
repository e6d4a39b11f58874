"""Recursive feature machines: a kernel machine on x M^(1/2), with M learned from its own AGOP.

    rfm = fit_rfm(Laplace(10.0), x, targets, ridge=1e-3, num_iters=5)

    iterates = rfm_iterates(Laplace(10.0), x, targets, ridge=1e-3)
    plain, once, twice = itertools.islice(iterates, 3)

`fit_rfm` is one compiled program. Of `rfm_iterates` the loop is the caller's; `select_rfm` ends it where
held-out points say.

References:
    Radhakrishnan, Beaglehole, Pandit and Belkin (2024), Science 383, Algorithm 1.
"""

from collections.abc import Iterator
from functools import partial
from numbers import Integral
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from dnc_jax.diagnostics import FitDiagnostics, check_fit, is_solved
from dnc_jax.errors import FitError
from dnc_jax.kernels import Kernel
from dnc_jax.machine import KernelMachine, check_fit_arguments
from dnc_jax.rfm_steps import (
    AdaptKernel,
    Feature,
    Recipe,
    Regression,
    Rescale,
    apply_root,
    check_recipe,
    check_takes_rows,
    first_feature,
    fit_step,
    shared_fit_step,
    update_step,
)
from dnc_jax.solvers import Solver, quick_cholesky_solve
from dnc_jax.types import pytree


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
    feature_matrix: Array | None = None,
    solver: Solver | None = None,
) -> RFM:
    """Returns the machine after num_iters updates M <- AGOP^power, and a last refit.

    The AGOP is that of f in x, root @ (AGOP of the machine in x @ root) @ root, the mean over rows. One
    compiled program, whatever num_iters, and one host read that may raise. `select_rfm` also looks at
    held-out points, and keeps the history.

    Args:
        centered: Subtract the mean gradient of each output before the outer product.
        diagonal: Keep only the diagonal of the AGOP.
        rescale: Applied to M after each update, such as `by_max` and `by_trace`; None keeps the mean over
            rows.
        adapt_kernel: Called before each fit as adapt_kernel(kernel, x @ root), such as `median_scaled`.
        agop_size: Rows whose gradients enter each AGOP, drawn anew for each with key; None takes all.
        key: Draws these rows; needed only with agop_size.
        sample_weights: Weights of the rows in the regression and in the AGOP, as in `fit_kernel_machine`.
        feature_matrix: M of the first machine, such as that of another fit; None is I.
        solver: Of every fit; None is `quick_cholesky_solve`.

    Raises:
        ValueError: If an argument is out of range, or x or targets hold values that are not finite.
        FitError: If a system is singular in the dtype of x, or an AGOP is 0; it names the iteration.
    """
    if isinstance(num_iters, bool) or not isinstance(num_iters, Integral) or num_iters < 0:
        raise ValueError(f"num_iters must be at least 0 AGOP updates: got {num_iters}")
    check_takes_rows(kernel)
    check_fit_arguments(kernel, x, targets, ridge, sample_weights)
    solver = solver or quick_cholesky_solve
    recipe = Recipe(centered, diagonal, rescale, power, adapt_kernel, agop_size, solver)
    check_recipe(recipe, key, x)
    start = first_feature(feature_matrix, x, diagonal)
    regression = Regression(kernel, x, targets, ridge, sample_weights)
    rfm, progress = _jitted_core(regression, start, num_iters, key, recipe=recipe)
    iteration, diagnostics, is_usable = jax.device_get(progress)
    check_fit(diagnostics, x, targets, ridge, f"iteration {iteration}")
    _check_agop(bool(is_usable), int(iteration) + 1, x)
    return rfm


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
    """Yields the first machine, then the machine after each update M <- AGOP^power, without end.

    The options are those of `fit_rfm`. Each machine is fitted when it is asked for, and checked; both steps
    are programs of their own, so that a fit of known length takes about two thirds of the time.

    Raises:
        ValueError: If an argument is out of range, or x or targets hold values that are not finite.
        FitError: If a system is singular in the dtype of x, or an AGOP is 0; it names the iteration.
    """
    check_takes_rows(kernel)
    check_fit_arguments(kernel, x, targets, ridge, sample_weights)
    solver = solver or quick_cholesky_solve
    recipe = Recipe(centered, diagonal, rescale, power, adapt_kernel, agop_size, solver)
    check_recipe(recipe, key, x)
    feature, iteration = first_feature(feature_matrix, x, diagonal), 0
    regression = Regression(kernel, x, targets, ridge, sample_weights)
    while True:
        machine, diagnostics = _jitted_fit(regression, feature.root, recipe=recipe)
        check_fit(diagnostics, x, targets, ridge, f"iteration {iteration}")
        yield RFM(machine, feature.matrix, feature.root)
        feature = _jitted_update(machine, feature.root, sample_weights, key, iteration, recipe=recipe)
        iteration += 1
        _check_agop(bool(feature.is_usable), iteration, x)


class Progress(NamedTuple):
    """How far a fit came: its last fit or the first that failed, and whether the AGOP after it is usable."""

    iteration: Int[Array, ""]
    fit: FitDiagnostics
    is_usable: Bool[Array, ""]


def rfm_core(
    regression: Regression,
    start: Feature,
    num_iters: Int[Array, ""] | int,
    key: PRNGKeyArray | None,
    *,
    recipe: Recipe,
) -> tuple[RFM, Progress]:
    """Returns `fit_rfm` unchecked, for use under jit and vmap. It stops at the first step that fails.

    num_iters may be traced. In one program the AGOP shares the distances of the fit before it, and the
    memory of all iterations is the same, which is why it is faster than its steps one by one.
    """

    def one_update(state: tuple[Feature, Progress]) -> tuple[Feature, Progress]:
        feature, progress = state
        iteration = progress.iteration + 1
        machine, diagnostics = shared_fit_step(regression, feature.root, recipe)
        feature = update_step(machine, feature.root, regression.sample_weights, key, iteration, recipe)
        return feature, Progress(iteration, diagnostics, feature.is_usable)

    def goes_on(state: tuple[Feature, Progress]) -> Bool[Array, ""]:
        return (state[1].iteration + 1 < num_iters) & _is_good(state[1])

    x = regression.x
    zero, num_outputs = jnp.zeros((), x.dtype), regression.targets.shape[1]
    none, columns = jnp.zeros((), jnp.int32), jnp.zeros(num_outputs, x.dtype)
    nothing = FitDiagnostics(jnp.ones((), bool), zero, zero + 1, columns, none)
    before = Progress(jnp.asarray(-1, jnp.int32), nothing, jnp.ones((), bool))
    feature, progress = jax.lax.while_loop(goes_on, one_update, (start, before))
    machine, diagnostics = fit_step(regression, feature.root, recipe)
    last = Progress(progress.iteration + 1, diagnostics, jnp.ones((), bool))
    progress = jax.tree.map(partial(jnp.where, _is_good(progress)), last, progress)
    return RFM(machine, feature.matrix, feature.root), progress


_jitted_core = jax.jit(rfm_core, static_argnames="recipe")
_jitted_fit = jax.jit(fit_step, static_argnames="recipe")
_jitted_update = jax.jit(update_step, static_argnames="recipe")


def _is_good(progress: Progress) -> Bool[Array, ""]:
    return is_solved(progress.fit) & progress.is_usable


def _check_agop(is_usable: bool, iteration: int, x: Float[Array, "n d"]) -> None:
    if not is_usable:
        raise FitError(
            f"the AGOP of iteration {iteration} is 0 or not finite: the predictor of n = {x.shape[0]} points "
            "is constant, or its scale is lost in rounding; are all rows of x or all targets equal? Else "
            "rescale M (rescale=by_max), or take a bandwidth near the distances of the points"
        )
