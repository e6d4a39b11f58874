"""Convolutional recursive feature machines: a ConvNTK machine whose patches are seen through M^(1/2).

    conv = fit_conv_rfm(ConvNTK(1, 11), images, targets, ridge=1e-3, num_iters=1)

    iterates = conv_rfm_iterates(ConvNTK(1, 11), images, targets, ridge=1e-3)
    plain, once = itertools.islice(iterates, 2)

M is the patch AGOP, the same for all positions: the features that the network would look for everywhere.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from numbers import Integral

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from dnc_jax.agop_patches import conv_kernel, patch_agop_core
from dnc_jax.diagnostics import FitDiagnostics, check_fit
from dnc_jax.errors import FitError
from dnc_jax.kernels import ConvNTK
from dnc_jax.linalg import matmul, psd_power
from dnc_jax.machine import KernelMachine, check_fit_arguments, machine_of_gram
from dnc_jax.rfm_steps import Feature, by_trace, check_agop_size, draw_rows
from dnc_jax.solvers import Solver, quick_cholesky_solve
from dnc_jax.types import Scalar, pytree


@pytree
class ConvRFM:
    """A fitted convolutional RFM: a machine whose kernel has feature_root as its patch_root.

    feature_matrix is M and feature_root M^(1/2), both (D, D), for the D numbers of a patch. added_ridge is
    what was added to the diagonal of K: at the images of the fit, the predictions are targets -
    added_ridge * machine.weights, without another Gram matrix. block_cosines (b, b) is averages^T C averages
    with C_ij = K_ij / (K_ii K_jj)^(1/2), None unless the fit was given averages.
    """

    machine: KernelMachine
    feature_matrix: Array
    feature_root: Array
    added_ridge: Array
    block_cosines: Array | None = None

    def __call__(self, images: Float[Array, "n h w d"]) -> Float[Array, "n c"]:
        """Returns the predictions for images."""
        return self.machine(images)


def fit_conv_rfm(
    kernel: ConvNTK,
    images: Float[Array, "n h w d"],
    targets: Float[Array, "n c"],
    *,
    ridge: float,
    num_iters: int,
    agop_size: int | None = None,
    key: PRNGKeyArray | None = None,
    solver: Solver | None = None,
) -> ConvRFM:
    """Returns the machine after num_iters updates of M, and a last refit.

    Every fit solves (K + ridge max(K) I) weights = targets, K the Gram matrix of the images: the ridge is in
    units of the largest entry of K, since a ConvNTK scales with its images and with M. An update takes M =
    AGOP / tr(AGOP), the AGOP of the predictor in the patches of the first layer, the mean over positions and
    images (`patch_agop`). So M^(1/2) has Frobenius norm 1. `select_rfm` with `conv_rfm_iterates` picks the
    update that held-out images favor, which need not be the last.

    Args:
        kernel: Its patch_root, if it has one, is M^(1/2) of the first machine; None is the plain kernel.
        agop_size: Images whose gradients enter each AGOP, drawn anew for each with key; None takes all.
        key: Draws these images; needed only with agop_size.
        solver: Of every fit; None is `quick_cholesky_solve`.

    Raises:
        ValueError: If an argument is out of range, or images or targets hold values that are not finite.
        FitError: If a system is singular in the dtype of the images, or an AGOP is 0; it names the iteration.

    References:
        Beaglehole, Radhakrishnan, Pandit and Belkin (2023), arXiv:2309.00570, on convolutional RFM. Released
        notebooks divide K by its largest entry, patches times M^(1/2) by the Frobenius norm of M^(1/2), and
        take 20 images for the AGOP.
    """
    if isinstance(num_iters, bool) or not isinstance(num_iters, Integral) or num_iters < 0:
        raise ValueError(f"num_iters must be at least 0 AGOP updates: got {num_iters}")
    iterates = conv_rfm_iterates(
        kernel, images, targets, ridge=ridge, agop_size=agop_size, key=key, solver=solver
    )
    return next(islice(iterates, num_iters, None))


def conv_rfm_iterates(
    kernel: ConvNTK,
    images: Float[Array, "n h w d"],
    targets: Float[Array, "n c"],
    *,
    ridge: float,
    agop_size: int | None = None,
    key: PRNGKeyArray | None = None,
    solver: Solver | None = None,
) -> Iterator[ConvRFM]:
    """Yields the first machine, then the machine after each update of M, without end.

    The options are those of `fit_conv_rfm`. Each machine is fitted when it is asked for, and checked. The
    first M is I, or patch_root patch_root^T.

    Raises:
        ValueError: If an argument is out of range, or images or targets hold values that are not finite.
        FitError: If a system is singular in the dtype of the images, or an AGOP is 0; it names the iteration.
    """
    conv, iteration = fit_conv_machine(kernel, images, targets, ridge=ridge, solver=solver), 0
    check_agop_size(agop_size, key, images)
    while True:
        yield conv
        iteration += 1
        drawn = None if key is None else jax.random.fold_in(key, iteration)
        conv = update_conv_rfm(
            conv,
            targets,
            ridge=ridge,
            agop_size=agop_size,
            key=drawn,
            solver=solver,
            name=f"iteration {iteration}",
        )


def fit_conv_machine(
    kernel: ConvNTK,
    images: Float[Array, "n h w d"],
    targets: Float[Array, "n c"],
    *,
    ridge: float,
    solver: Solver | None = None,
    averages: Float[Array, "n b"] | None = None,
) -> ConvRFM:
    """Returns the machine before any update: M is I, or patch_root patch_root^T if the kernel has one.

    Args:
        averages: Weights of b means over images, such as those of classes, whose mean cosines in the features
            of the kernel are then kept as block_cosines: K is at hand, and these are no second one.

    Raises:
        ValueError: If an argument is out of range, or images or targets hold values that are not finite.
        FitError: If the system is singular in the dtype of the images.
    """
    if not isinstance(kernel, ConvNTK):
        raise ValueError(f"kernel must be a ConvNTK: got {type(kernel).__name__}; fit_rfm takes any kernel")
    _check_solver(solver)
    root = kernel.patch_root
    check_fit_arguments(kernel, images, targets, ridge)
    if root is None:
        root = jnp.eye(kernel.patch_size**2 * images.shape[-1], dtype=images.dtype)
    feature = (matmul(root, root.T), root)
    return _checked_fit(kernel, images, targets, ridge, feature, solver, averages, "iteration 0")


def update_conv_rfm(
    conv: ConvRFM,
    targets: Float[Array, "n c"],
    *,
    ridge: float,
    agop_size: int | None = None,
    key: PRNGKeyArray | None = None,
    solver: Solver | None = None,
    averages: Float[Array, "n b"] | None = None,
    name: str = "the update",
) -> ConvRFM:
    """Returns the machine after one more update of M, fitted to the targets on the images of conv.

    The step of `conv_rfm_iterates`, for loops that keep and resume their own state.

    Args:
        averages: As `fit_conv_machine` takes them.
        name: What errors call this step.

    Raises:
        ValueError: If an argument is out of range, or the targets hold values that are not finite.
        FitError: If the system is singular in the dtype of the images, or the AGOP is 0.
    """
    _check_solver(solver)
    kernel, images = conv_kernel(conv.machine), conv.machine.centers
    check_fit_arguments(kernel, images, targets, ridge)
    check_agop_size(agop_size, key, images)
    feature = _jitted_update(conv.machine, key, agop_size=agop_size)
    if not feature.is_usable:
        raise FitError(
            f"the patch AGOP of {name} is 0 or not finite: the predictor of n = {len(images)} images is "
            "constant; are all images, or all targets, equal?"
        )
    kernel = replace(kernel, patch_root=feature.root)
    found = (feature.matrix, feature.root)
    return _checked_fit(kernel, images, targets, ridge, found, solver, averages, name)


def _check_solver(solver: object) -> None:
    """Raises ValueError for what is no function of K, as conjugate gradients that never hold it whole."""
    if solver is not None and not callable(solver):
        raise ValueError(
            "solver must be a function of a system and its right-hand sides, such as quick_cholesky_solve: "
            f"got {type(solver).__name__}; the ridge of images is in units of the largest entry of K"
        )


def _checked_fit(
    kernel: ConvNTK,
    images: Float[Array, "n h w d"],
    targets: Float[Array, "n c"],
    ridge: float,
    feature: tuple[Array, Array],
    solver: Solver | None,
    averages: Float[Array, "n b"] | None,
    name: str,
) -> ConvRFM:
    if averages is not None and (averages.ndim != 2 or len(averages) != len(images)):
        raise ValueError(
            f"averages must have a row for each of the {len(images)} images: got shape {averages.shape}"
        )
    machine, added_ridge, diagnostics, cosines = _jitted_fit(
        kernel, images, targets, ridge, solver or quick_cholesky_solve, averages
    )
    if ridge > 0 and added_ridge == 0:
        raise ValueError(f"images must not all be 0: got {len(images)} whose kernel matrix is 0; remove them")
    check_fit(diagnostics, images, targets, ridge, name)
    return ConvRFM(machine, *feature, added_ridge, cosines)


def conv_fit_step(
    kernel: ConvNTK,
    images: Float[Array, "n h w d"],
    targets: Float[Array, "n c"],
    ridge: Scalar,
    solver: Solver = quick_cholesky_solve,
    averages: Float[Array, "n b"] | None = None,
) -> tuple[KernelMachine, Float[Array, ""], FitDiagnostics, Float[Array, "b b"] | None]:
    """Returns the machine with weights (K + ridge max(K) I)^-1 targets, and ridge max(K), unchecked.

    Last come the diagnostics, and the cosines of `ConvRFM` if averages are given.
    """
    gram = kernel(images, images)
    added_ridge = ridge * jnp.max(gram)
    machine, diagnostics = machine_of_gram(kernel, images, gram, targets, added_ridge, solver)
    return machine, added_ridge, diagnostics, None if averages is None else _block_cosines(gram, averages)


def _block_cosines(gram: Float[Array, "n n"], averages: Float[Array, "n b"]) -> Float[Array, "b b"]:
    """Returns averages^T C averages, without C; an image without a norm has cosines of 0."""
    squares = jnp.diagonal(gram)
    scaled = averages * jnp.where(squares > 0, jax.lax.rsqrt(squares), 0.0)[:, None]
    return matmul(scaled.T, matmul(gram, scaled))


def conv_update_step(machine: KernelMachine, key: PRNGKeyArray | None, *, agop_size: int | None) -> Feature:
    """Returns M = AGOP / tr(AGOP) of the predictor in its patches, unchecked."""
    images = machine.centers
    if agop_size is not None:
        assert key is not None
        images = images[draw_rows(key, len(images), agop_size)]
    matrix = by_trace(patch_agop_core(machine, images))
    return Feature(matrix, psd_power(matrix, 0.5), jnp.all(jnp.isfinite(matrix)))


_jitted_fit = jax.jit(conv_fit_step, static_argnames="solver")
_jitted_update = jax.jit(conv_update_step, static_argnames="agop_size")
