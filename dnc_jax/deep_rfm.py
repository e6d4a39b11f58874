"""Deep recursive feature machines: layers learned from AGOPs, without backpropagation.

A layer scales rows to unit norm, fits a kernel machine, takes its AGOP M divided by its largest entry, and
maps x -> phi(M^(1/2) x) with untrained random features phi.

References:
    Beaglehole, Sukenik, Mondelli and Belkin (2024), Algorithm 1 (Deep RFM).
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from dnc_jax.agop import AGOPDiagnostics, kernel_agop_core
from dnc_jax.agop_streamed import draw_points, drawn_agop, relative_error, streamed_agop
from dnc_jax.errors import FitError
from dnc_jax.kernels import Kernel, at_rows
from dnc_jax.linalg import matmul, psd_power, unit_rows
from dnc_jax.machine import (
    FitDiagnostics,
    KernelMachine,
    check_fit,
    check_fit_arguments,
    kernel_machine_core,
)
from dnc_jax.matrix_free import ConjugateGradients, check_solver
from dnc_jax.rfm import RFM
from dnc_jax.solvers import Solver, cholesky_solve
from dnc_jax.types import FeatureMap, FeatureSampler, Scalar, Stages, pytree

# Of a batch of points against all centers, where an AGOP is streamed beside a kernel matrix.
BATCH_BYTES = 2**25
# Of the key of a layer, whose features are drawn with the key itself.
AGOP_STREAM = 1


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
    agop: AGOPDiagnostics
    agop_error: Float[Array, ""]
    """standard error of an AGOP at drawn points, relative to it; 0 where it is at all of them"""
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
) -> tuple[DeepRFMLayer, LayerDiagnostics]:
    """Returns the layer of `fit_deep_rfm_layer` for given features, and its diagnostics, unchecked.

    For use under jit, vmap or scan; num_iters and solver are static.

    Args:
        agop_rows: Rows, in random order, whose gradients enter each AGOP; None takes all.
    """
    inputs = unit_rows(x)
    fit_with_agop = partial(_fit_with_agop, kernel, targets, ridge, solver, agop_rows)
    predictor, fit, gram, agop, error = fit_with_agop(inputs)
    matrix, root = _scaled_with_root(gram, agop)
    for _ in range(num_iters - 1):
        previous, previous_root = matrix, root
        machine, fit, gram, agop, error = fit_with_agop(matmul(inputs, previous_root))
        matrix, root = _scaled_with_root(matmul(previous_root, matmul(gram, previous_root)), agop)
        predictor = RFM(machine, previous, previous_root)
    features = jax.tree.map(lambda leaf: jnp.asarray(leaf, x.dtype), features)
    diagnostics = LayerDiagnostics(fit, agop, error, jnp.all(jnp.isfinite(matrix)))
    return DeepRFMLayer(predictor, matrix, root, features), diagnostics


def _fit_with_agop(
    kernel: Kernel,
    targets: Float[Array, "n c"],
    ridge: Scalar,
    solver: Solver | ConjugateGradients,
    agop_rows: Int[Array, "q"] | None,
    x: Float[Array, "n d"],
) -> tuple[KernelMachine, FitDiagnostics, Float[Array, "d d"], AGOPDiagnostics, Float[Array, ""]]:
    """Returns the machine on x and its AGOP, with the diagnostics of both and the error of the AGOP."""
    is_matrix_free = isinstance(solver, ConjugateGradients)
    # Distances are computed once for both, where they may be kept.
    shared = kernel if is_matrix_free or agop_rows is not None else at_rows(kernel, x)
    machine, fit = kernel_machine_core(shared, x, targets, ridge, solver)
    batch_bytes = solver.tile_bytes if is_matrix_free else BATCH_BYTES
    error = jnp.zeros((), x.dtype)
    if agop_rows is not None:
        estimate, agop = drawn_agop(machine, agop_rows, batch_bytes)
        gram, error = estimate.value, relative_error(estimate)
    elif is_matrix_free:
        gram, agop = streamed_agop(machine, batch_bytes)
    else:
        gram, agop = kernel_agop_core(machine)
    return KernelMachine(kernel, x, machine.weights), fit, gram, agop, error


def _scaled_with_root(
    gram: Float[Array, "d d"], agop: AGOPDiagnostics
) -> tuple[Float[Array, "d d"], Float[Array, "d d"]]:
    # The largest entry of a positive semidefinite matrix lies on its diagonal.
    matrix = gram / jnp.max(jnp.diagonal(gram))
    # Eigenvalues below the rounding of M are noise, yet their roots are not small: 1e-16 becomes 1e-8 in
    # directions that M does not see, which the next layer would carry on.
    return matrix, psd_power(matrix, 0.5, rtol=agop.rounding())


_jitted_core = jax.jit(deep_rfm_layer_core, static_argnames=("num_iters", "solver"))


def fit_deep_rfm_layer(
    key: PRNGKeyArray,
    x: Float[Array, "n d"],
    targets: Float[Array, "n c"],
    *,
    kernel: Kernel,
    ridge: float,
    sample_features: FeatureSampler,
    num_iters: int = 1,
    solver: Solver | ConjugateGradients | None = None,
    agop_size: int | None = None,
) -> DeepRFMLayer:
    """Returns one fitted layer: unit rows, kernel machine, AGOP / its largest entry = M, random features.

    Called eagerly: a jitted core, then one host read that may raise.

    Args:
        sample_features: Called as sample_features(key, d), with d the number of columns of x.
        num_iters: AGOP updates of M; after the first the machine is fitted on M^(1/2) x.
        solver: None is `cholesky_solve`; a `ConjugateGradients` never holds the kernel matrix whole.
        agop_size: Points whose gradients enter each AGOP, drawn with key; None takes all.

    Raises:
        ValueError: If an argument is out of range, or x or targets hold values that are not finite.
        FitError: If the system is singular in the dtype of x, or the AGOP is zero.
    """
    layer, _ = fit_deep_rfm_layer_with_diagnostics(
        key,
        x,
        targets,
        kernel=kernel,
        ridge=ridge,
        sample_features=sample_features,
        num_iters=num_iters,
        solver=solver,
        agop_size=agop_size,
    )
    return layer


def fit_deep_rfm_layer_with_diagnostics(
    key: PRNGKeyArray,
    x: Float[Array, "n d"],
    targets: Float[Array, "n c"],
    *,
    kernel: Kernel,
    ridge: float,
    sample_features: FeatureSampler,
    num_iters: int = 1,
    solver: Solver | ConjugateGradients | None = None,
    agop_size: int | None = None,
    where: str = "the layer",
) -> tuple[DeepRFMLayer, LayerDiagnostics]:
    """Returns `fit_deep_rfm_layer` with its diagnostics, for callers that report them.

    where names the layer in errors.
    """
    check_fit_arguments(kernel, x, targets, ridge)
    if num_iters < 1:
        raise ValueError(f"num_iters must be at least 1 AGOP update: got {num_iters}")
    check_solver(solver, ridge)
    rows = None
    if agop_size is not None:
        rows = draw_points(jax.random.fold_in(key, AGOP_STREAM), x.shape[0], agop_size)
    features = sample_features(key, x.shape[1])
    layer, diagnostics = _jitted_core(
        x,
        targets,
        features,
        kernel=kernel,
        ridge=ridge,
        num_iters=num_iters,
        solver=solver or cholesky_solve,
        agop_rows=rows,
    )
    diagnostics = jax.device_get(diagnostics)
    check_fit(diagnostics.fit, x, targets, ridge, where)
    if not diagnostics.feature_matrix_is_finite:
        raise FitError(
            f"the AGOP of {where} is 0 or not finite, so M cannot be scaled by its largest entry: the "
            f"predictor of n = {x.shape[0]} points is constant; are all rows of x or all targets equal?"
        )
    return layer, diagnostics


@pytree
class DeepRFM:
    """Fitted layers; called on rows it predicts with the machine of the last layer."""

    layers: tuple[DeepRFMLayer, ...]

    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, "n c"]:
        """Returns the predictions of the last layer's machine at the rows of x."""
        for layer in self.layers[:-1]:
            x = layer(x)
        return self.layers[-1].machine(unit_rows(x))


def fit_deep_rfm(
    key: PRNGKeyArray,
    x: Float[Array, "n d"],
    targets: Float[Array, "n c"],
    *,
    depth: int,
    kernel: Kernel,
    ridge: float,
    sample_features: FeatureSampler,
    num_iters: int = 1,
    solver: Solver | ConjugateGradients | None = None,
    agop_size: int | None = None,
) -> DeepRFM:
    """Returns depth layers, each fitted by `fit_deep_rfm_layer` on what the one before passes on.

    Layer l, counted from 0, draws its features with fold_in(key, l).
    """
    if depth < 1:
        raise ValueError(f"depth must be at least 1 layer: got {depth}")
    layers = []
    for index in range(depth):
        fit = partial(fit_deep_rfm_layer_with_diagnostics, where=f"layer {index + 1} of {depth}")
        layer, _ = fit(
            jax.random.fold_in(key, index),
            x,
            targets,
            kernel=kernel,
            ridge=ridge,
            sample_features=sample_features,
            num_iters=num_iters,
            solver=solver,
            agop_size=agop_size,
        )
        layers.append(layer)
        x = layer(x)
    return DeepRFM(tuple(layers))
