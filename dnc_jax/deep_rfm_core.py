"""One layer of Deep RFM, traceable: unit rows, kernel machine, AGOP, M^(1/2), random features."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dnc_jax.agop import AGOPDiagnostics, kernel_agop_core
from dnc_jax.agop_streamed import drawn_agop, relative_error, streamed_agop
from dnc_jax.chunking import BATCH_BYTES
from dnc_jax.diagnostics import FitDiagnostics, worse_fit
from dnc_jax.kernels import Kernel, at_rows
from dnc_jax.linalg import matmul, psd_power, unit_rows
from dnc_jax.machine import KernelMachine, kernel_machine_core
from dnc_jax.matrix_free import ConjugateGradients
from dnc_jax.mixed_agop import mixed_agop_core
from dnc_jax.rfm import RFM
from dnc_jax.solvers import Solver, cholesky_solve
from dnc_jax.types import FeatureMap, Scalar, Stages, pytree


@pytree
class DeepRFMLayer:
    """A fitted layer: its predictor on unit rows, M (d, d), M^(1/2) (d, d) and the random features."""

    machine: KernelMachine | RFM
    feature_matrix: Array
    feature_root: Array
    features: FeatureMap

    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, "n p"]:
        """Returns what the layer passes on: phi(M^(1/2) x) of rows scaled to unit norm."""
        return stages(self, x).nonlinear


class LayerDiagnostics(NamedTuple):
    """What tells whether a layer can be trusted: a few numbers, read once by the host."""

    fit: FitDiagnostics
    """of several updates of M the worst in each number, as `worse_fit` has it"""
    agop: AGOPDiagnostics
    """of the last update"""
    agop_error: Float[Array, ""]
    """standard error of the last AGOP at drawn points, relative to it; 0 where it is at all of them"""
    feature_matrix_is_finite: Bool[Array, ""]


def stages(layer: DeepRFMLayer, x: Float[Array, "n d"]) -> Stages:
    """Returns x with unit rows, M^(1/2) x, and phi(M^(1/2) x)."""
    inputs = unit_rows(x)
    linear = matmul(inputs, layer.feature_root)
    return Stages(inputs, linear, layer.features(linear))


def deep_rfm_layer_core(
    x: Float[Array, "n d"],
    targets: Float[Array, "n c"],
    features: FeatureMap,
    *,
    kernel: Kernel,
    ridge: Scalar,
    num_iters: int = 1,
    solver: Solver | ConjugateGradients = cholesky_solve,
    agop_rows: Int[Array, "q"] | None = None,
    axis: str | None = None,
    mixed: bool = False,
) -> tuple[DeepRFMLayer, LayerDiagnostics]:
    """Returns the layer of `fit_deep_rfm_layer` for given features, and its diagnostics, unchecked.

    For use under jit, vmap or scan; num_iters, solver and mixed are static.

    Args:
        agop_rows: Rows, in random order, whose gradients enter each AGOP; None takes all.
        axis: For `ConjugateGradients` within `jax.shard_map`: the mesh axis that rows are shared along. x,
            targets and the machine's centers and weights are then a device's own, as many on each.
        mixed: AGOPs at all points by `mixed_agop_core`; the solver of its own is `mixed_cholesky_solve`.
    """
    inputs = unit_rows(x)
    fit_with_agop = partial(_fit_with_agop, kernel, targets, ridge, solver, agop_rows, axis, mixed)
    if num_iters == 1:
        predictor, gram, parts = fit_with_agop(inputs)
        matrix, root = _scaled_with_root(gram, parts.agop)
    else:
        end = _updated(fit_with_agop, inputs, num_iters)
        (matrix, root), parts = end.after, end.parts
        centers = matmul(inputs, end.before[1])
        predictor = RFM(KernelMachine(kernel, centers, end.weights), *end.before)
    features = jax.tree.map(lambda leaf: jnp.asarray(leaf, x.dtype), features)
    diagnostics = LayerDiagnostics(*parts, jnp.all(jnp.isfinite(matrix)))
    return DeepRFMLayer(predictor, matrix, root, features), diagnostics


class _Parts(NamedTuple):
    """The diagnostics of a fit and of its AGOP, and the error of the AGOP."""

    fit: FitDiagnostics
    agop: AGOPDiagnostics
    agop_error: Float[Array, ""]


class _Update(NamedTuple):
    """An update of M: the weights of its machine, M with its root before and after, the worst fit so far."""

    weights: Float[Array, "n c"]
    before: tuple[Float[Array, "d d"], Float[Array, "d d"]]
    after: tuple[Float[Array, "d d"], Float[Array, "d d"]]
    parts: _Parts


def _updated(
    fit_with_agop: Callable[[Float[Array, "n d"]], tuple[KernelMachine, Float[Array, "d d"], _Parts]],
    x: Float[Array, "n d"],
    num_iters: int,
) -> _Update:
    """Returns the last of num_iters updates of M, the first of which finds M = I.

    One loop for all: side by side in the program they would each have a kernel matrix in memory.
    """

    def update(before: tuple[Float[Array, "d d"], Float[Array, "d d"]]) -> _Update:
        root = before[1]
        machine, gram, parts = fit_with_agop(matmul(x, root))
        after = _scaled_with_root(matmul(root, matmul(gram, root)), parts.agop)
        return _Update(machine.weights, before, after, parts)

    identity = jnp.eye(x.shape[1], dtype=x.dtype)
    first = (identity, identity)
    shapes = jax.eval_shape(update, first)
    nothing: _Update = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
    # Any fit is worse than one whose numbers are 0 and whose flags are set.
    best = jax.tree.map(lambda leaf: jnp.ones_like(leaf) if leaf.dtype == bool else leaf, nothing.parts.fit)
    start = nothing._replace(after=first, parts=nothing.parts._replace(fit=best))

    def advance(_: Int[Array, ""], last: _Update) -> _Update:
        found = update(last.after)
        fit = worse_fit(last.parts.fit, found.parts.fit)
        return found._replace(parts=found.parts._replace(fit=fit))

    return jax.lax.fori_loop(0, num_iters, advance, start)


def _fit_with_agop(
    kernel: Kernel,
    targets: Float[Array, "n c"],
    ridge: Scalar,
    solver: Solver | ConjugateGradients,
    agop_rows: Int[Array, "q"] | None,
    axis: str | None,
    mixed: bool,
    x: Float[Array, "n d"],
) -> tuple[KernelMachine, Float[Array, "d d"], _Parts]:
    """Returns the machine on x and its AGOP, with the diagnostics of both."""
    is_matrix_free = isinstance(solver, ConjugateGradients)
    # Distances are computed once for both, where they may be kept.
    shared = kernel if is_matrix_free or agop_rows is not None else at_rows(kernel, x)
    machine, fit = kernel_machine_core(shared, x, targets, ridge, solver, axis=axis)
    batch_bytes = solver.tile_bytes if is_matrix_free else BATCH_BYTES
    error = jnp.zeros((), x.dtype)
    if agop_rows is not None:
        estimate, agop = drawn_agop(machine, agop_rows, batch_bytes, axis)
        gram, error = estimate.value, relative_error(estimate)
    elif is_matrix_free:
        gram, agop = streamed_agop(machine, batch_bytes, axis)
    elif mixed:
        gram, agop = mixed_agop_core(machine, targets)
    else:
        gram, agop = kernel_agop_core(machine)
    return KernelMachine(kernel, x, machine.weights), gram, _Parts(fit, agop, error)


def _scaled_with_root(
    gram: Float[Array, "d d"], agop: AGOPDiagnostics
) -> tuple[Float[Array, "d d"], Float[Array, "d d"]]:
    # The largest entry of a positive semidefinite matrix lies on its diagonal.
    matrix = gram / jnp.max(jnp.diagonal(gram))
    # Eigenvalues below the rounding of M are noise, yet their roots are not small: 1e-16 becomes 1e-8 in
    # directions that M does not see, which the next layer would carry on.
    return matrix, psd_power(matrix, 0.5, rtol=agop.rounding())
