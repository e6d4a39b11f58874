"""The two steps of a recursive feature machine, traceable: a fit on x @ root, and M from its AGOP."""

import dataclasses
import math
from collections.abc import Callable
from numbers import Real
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from dnc_jax.agop import kernel_agop_core
from dnc_jax.diagnostics import FitDiagnostics
from dnc_jax.kernels import ImageKernel, Kernel, anywhere, at_rows
from dnc_jax.linalg import matmul, psd_power
from dnc_jax.machine import KernelMachine, kernel_machine_core
from dnc_jax.solvers import Solver
from dnc_jax.types import Scalar, is_concrete

Rescale: TypeAlias = Callable[[Array], Array]
"""A function of M, or of its diagonal, that gives it another scale."""

AdaptKernel: TypeAlias = Callable[[Kernel, Float[Array, "n d"]], Kernel]
"""The kernel of one fit, from the one that was asked for and the points x @ root that it is fitted on."""


class Regression(NamedTuple):
    """What every fit is asked for; weights of None count all rows alike."""

    kernel: Kernel
    x: Float[Array, "n d"]
    targets: Float[Array, "n c"]
    ridge: Scalar
    sample_weights: Float[Array, "n"] | None


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How the steps are made: the static options of `fit_rfm`, a program being compiled for each."""

    centered: bool
    diagonal: bool
    rescale: Rescale | None
    power: float
    adapt_kernel: AdaptKernel | None
    agop_size: int | None
    solver: Solver


class Feature(NamedTuple):
    """M, its square root, and whether M is neither 0 nor NaN."""

    matrix: Array
    root: Array
    is_usable: Bool[Array, ""]


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


def first_feature(feature_matrix: Array | None, x: Float[Array, "n d"], diagonal: bool) -> Feature:
    """Returns the M to start from, None being I.

    Raises:
        ValueError: If it has another shape or dtype than M.
    """
    identity = jnp.ones(x.shape[1], x.dtype) if diagonal else jnp.eye(x.shape[1], dtype=x.dtype)
    if feature_matrix is None:
        return Feature(identity, identity, jnp.ones((), bool))
    if feature_matrix.shape != identity.shape or feature_matrix.dtype != x.dtype:
        raise ValueError(
            f"feature_matrix must have the shape {identity.shape} and the dtype {x.dtype}: got "
            f"{feature_matrix.shape} and {feature_matrix.dtype}"
        )
    _check_semidefinite(feature_matrix)
    return Feature(feature_matrix, _power(feature_matrix, 0.5), jnp.ones((), bool))


def fit_step(regression: Regression, root: Array, recipe: Recipe) -> tuple[KernelMachine, FitDiagnostics]:
    """Returns the machine on x @ root, and what tells whether it can be trusted."""
    machine, diagnostics = shared_fit_step(regression, root, recipe)
    return KernelMachine(anywhere(machine.kernel), machine.centers, machine.weights), diagnostics


def shared_fit_step(
    regression: Regression, root: Array, recipe: Recipe
) -> tuple[KernelMachine, FitDiagnostics]:
    """Returns `fit_step` with a kernel that knows the distances of the centers, where it is one of those.

    An AGOP at the centers, in the same program, then need not compute them again.
    """
    kernel, x, targets, ridge, sample_weights = regression
    points = apply_root(x, root)
    if recipe.adapt_kernel is not None:
        kernel = recipe.adapt_kernel(kernel, points)
    if recipe.agop_size is None:
        kernel = at_rows(kernel, points)
    return kernel_machine_core(kernel, points, targets, ridge, recipe.solver, sample_weights)


def update_step(
    machine: KernelMachine,
    root: Array,
    sample_weights: Float[Array, "n"] | None,
    key: PRNGKeyArray | None,
    iteration: Int[Array, ""] | int,
    recipe: Recipe,
) -> Feature:
    """Returns M = AGOP^power of the predictor in x, rescaled: root @ (AGOP of the machine) @ root."""
    points, row_weights = None, sample_weights
    if recipe.agop_size is not None:
        assert key is not None
        rows = draw_rows(jax.random.fold_in(key, iteration), len(machine.centers), recipe.agop_size)
        points = machine.centers[rows]
        row_weights = None if sample_weights is None else sample_weights[rows]
    gram, agop = kernel_agop_core(
        machine, points, centered=recipe.centered, diagonal=recipe.diagonal, row_weights=row_weights
    )
    gram = root * gram * root if recipe.diagonal else matmul(root, matmul(gram, root))
    matrix = _power(gram, recipe.power)
    matrix = matrix if recipe.rescale is None else recipe.rescale(matrix)
    # As in a layer of Deep RFM: the root of what is rounding in M would not be small.
    noise = jnp.maximum(agop.rounding(), agop.rounding() ** recipe.power)
    return Feature(matrix, _power(matrix, 0.5, noise), jnp.all(jnp.isfinite(matrix)) & jnp.any(gram != 0))


def check_recipe(recipe: Recipe, key: PRNGKeyArray | None, x: Float[Array, "n d"]) -> None:
    """Raises ValueError for options that no update can use."""
    if x.ndim == 2 and x.shape[1] == 0:
        raise ValueError(f"x must have at least 1 column: got shape {x.shape}")
    if not isinstance(recipe.power, Real) or not 0 < recipe.power < math.inf:
        raise ValueError(f"power must be a positive finite number: got {recipe.power!r}")
    if recipe.rescale is not None and not callable(recipe.rescale):
        raise ValueError(f"rescale must be a function of M such as by_max, or None: got {recipe.rescale!r}")
    check_agop_size(recipe.agop_size, key, x)


def check_takes_rows(kernel: Kernel) -> None:
    """Raises ValueError for a kernel of images, whose M is of patches."""
    if isinstance(kernel, ImageKernel):
        raise ValueError(
            f"kernel must take rows: got {type(kernel).__name__}, which takes images; use fit_conv_rfm"
        )


def check_agop_size(agop_size: int | None, key: PRNGKeyArray | None, x: Float[Array, "n *shape"]) -> None:
    """Raises ValueError for a number of rows that cannot be drawn."""
    if agop_size is None:
        return
    if not 1 <= agop_size <= x.shape[0]:
        raise ValueError(f"agop_size must lie in 1..{x.shape[0]}, the number of rows: got {agop_size}")
    if key is None:
        raise ValueError("agop_size draws rows and needs a key: got None; pass key=jax.random.key(seed)")


def _check_semidefinite(feature_matrix: Array) -> None:
    """Raises ValueError for an M to start from that is not symmetric or has no positive eigenvalue."""
    if not is_concrete(feature_matrix):
        return
    matrix = np.asarray(feature_matrix)
    scale, rounding = np.max(np.abs(matrix)), 1e3 * float(jnp.finfo(matrix.dtype).eps)
    apart = 0.0 if matrix.ndim == 1 else np.max(np.abs(matrix - matrix.T))
    if not np.isfinite(scale) or scale == 0 or apart > rounding * scale:
        raise ValueError(
            "feature_matrix must be finite, symmetric and not 0: got a largest entry of "
            f"{scale:g}, and entries that differ from their mirror by up to {apart:g}"
        )
    values = matrix if matrix.ndim == 1 else np.linalg.eigvalsh(matrix)
    if values.min() < -rounding * scale * len(matrix):
        raise ValueError(
            f"feature_matrix must be positive semidefinite: got eigenvalues of {values.min():g} to "
            f"{values.max():g}"
        )


def draw_rows(key: PRNGKeyArray, num_rows: int, size: int) -> Int[Array, "b"]:
    """Returns size of num_rows rows, in order."""
    return jnp.sort(jax.random.permutation(key, num_rows)[:size])


def _power(matrix: Array, power: float, rtol: Scalar | None = None) -> Array:
    if power == 1.0:
        return matrix
    return matrix**power if matrix.ndim == 1 else psd_power(matrix, power, rtol=rtol)
