"""Deep recursive feature machines: layers learned from AGOPs, without backpropagation.

A layer scales rows to unit norm, fits a kernel machine, takes its AGOP M divided by its largest entry, and
maps x -> phi(M^(1/2) x) with untrained random features phi.

References:
    Beaglehole, Sukenik, Mondelli and Belkin (2024), Algorithm 1 (Deep RFM).
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, PRNGKeyArray

from dnc_jax.agop_streamed import draw_points
from dnc_jax.deep_rfm_core import DeepRFMLayer, LayerDiagnostics, deep_rfm_layer_core, stages
from dnc_jax.deep_rfm_sharded import check_mesh, sharded_layer_core
from dnc_jax.diagnostics import check_fit
from dnc_jax.errors import FitError
from dnc_jax.kernels import Kernel, Radial
from dnc_jax.linalg import unit_rows
from dnc_jax.machine import check_fit_arguments
from dnc_jax.matrix_free import ConjugateGradients, check_solver
from dnc_jax.mixed_solver import mixed_cholesky_solve
from dnc_jax.solvers import Solver, cholesky_solve
from dnc_jax.types import FeatureSampler, pytree

__all__ = [
    "DeepRFM",
    "DeepRFMLayer",
    "LayerDiagnostics",
    "deep_rfm_layer_core",
    "fit_deep_rfm",
    "fit_deep_rfm_layer",
    "stages",
]

# Of the key of a layer, whose features are drawn with the key itself.
AGOP_STREAM = 1

_jitted_core = jax.jit(deep_rfm_layer_core, static_argnames=("num_iters", "solver", "mixed"))
_jitted_sharded_core = jax.jit(sharded_layer_core, static_argnames=("mesh", "num_iters", "solver"))


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
    mesh: Mesh | None = None,
    mixed: bool = False,
) -> DeepRFMLayer:
    """Returns one fitted layer: unit rows, kernel machine, AGOP / its largest entry = M, random features.

    Called eagerly: a jitted core, then one host read that may raise.

    Args:
        sample_features: Called as sample_features(key, d), with d the number of columns of x.
        num_iters: AGOP updates of M; after the first the machine is fitted on M^(1/2) x.
        solver: None is `cholesky_solve`; a `ConjugateGradients` never holds the kernel matrix whole.
        agop_size: Points whose gradients enter each AGOP, drawn with key; None takes all.
        mesh: Of one axis, whose devices share the rows; needs `ConjugateGradients`. None leaves it to the
            compiler where arrays lie.
        mixed: Large products in float32 where the answer of float64 survives them: see `mixed_solver` and
            `mixed_agop`. x must be in float64, the kernel radial, and solver None.

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
        mesh=mesh,
        mixed=mixed,
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
    mesh: Mesh | None = None,
    mixed: bool = False,
    where: str = "the layer",
) -> tuple[DeepRFMLayer, LayerDiagnostics]:
    """Returns `fit_deep_rfm_layer` with its diagnostics, for callers that report them.

    where names the layer in errors.
    """
    check_fit_arguments(kernel, x, targets, ridge)
    if num_iters < 1:
        raise ValueError(f"num_iters must be at least 1 AGOP update: got {num_iters}")
    check_solver(solver, ridge)
    if mixed:
        _check_mixed(kernel, x, solver)
        solver = mixed_cholesky_solve
    rows = None
    if agop_size is not None:
        rows = draw_points(jax.random.fold_in(key, AGOP_STREAM), x.shape[0], agop_size)
    features = sample_features(key, x.shape[1])
    options = {"kernel": kernel, "ridge": ridge, "num_iters": num_iters, "agop_rows": rows}
    if mesh is not None:
        check_mesh(mesh, x.shape[0], solver)
    if mesh is not None and mesh.size > 1 and isinstance(solver, ConjugateGradients):
        layer, diagnostics = _jitted_sharded_core(x, targets, features, mesh=mesh, solver=solver, **options)
    else:
        options |= {"solver": solver or cholesky_solve, "mixed": mixed}
        layer, diagnostics = _jitted_core(x, targets, features, **options)
    diagnostics = jax.device_get(diagnostics)
    check_fit(diagnostics.fit, x, targets, ridge, where, solver)
    if not diagnostics.feature_matrix_is_finite:
        raise FitError(
            f"the AGOP of {where} is 0 or not finite, so M cannot be scaled by its largest entry: the "
            f"predictor of n = {x.shape[0]} points is constant; are all rows of x or all targets equal?"
        )
    return layer, diagnostics


def _check_mixed(kernel: Kernel, x: Float[Array, "n d"], solver: Solver | ConjugateGradients | None) -> None:
    if x.dtype != jnp.float64:
        raise ValueError(
            f"mixed precision is between float64 and float32: got x in {x.dtype}; use x in float64, or leave "
            "mixed out"
        )
    if not isinstance(kernel, Radial):
        raise ValueError(
            f"mixed precision needs a radial kernel, Laplace or Gaussian: got {type(kernel).__name__}; leave "
            "mixed out"
        )
    if solver not in (None, mixed_cholesky_solve):
        raise ValueError(
            f"mixed precision has a solver of its own: got solver={solver}; leave solver out, or leave mixed "
            "out and keep tiles in float32 by ConjugateGradients(keep='float32')"
        )


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
    mesh: Mesh | None = None,
    mixed: bool = False,
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
            mesh=mesh,
            mixed=mixed,
        )
        layers.append(layer)
        x = layer(x)
    return DeepRFM(tuple(layers))
