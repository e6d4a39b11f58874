"""Kernel machines on merged and padded rows, so that tasks and splits of near sizes share their programs.

Equal rows are merged: m of them with mean target y count as one row of weight m. Rows, columns and classes
are padded up to sizes of a short ladder; a padded row is one of weight 0. With D the diagonal of the weights,

    a = D^1/2 (D^1/2 K D^1/2 + ridge I)^-1 D^1/2 Y

are the weights of the machine on all rows, (K + ridge I)^-1 Y, summed over equal rows; those of padded rows
are exactly 0. Columns of zeros change no distance and no inner product (the NTK divides by their number,
which the root makes up for), and classes without a point have weights 0.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dnc_jax import KernelMachine, psd_power, unit_rows
from dnc_jax.agop import kernel_agop_core
from dnc_jax.errors import FitError
from dnc_jax.kernels import Kernel
from dnc_jax.linalg import matmul
from experiments.support.tabular_data import Split, Task

# Up to this many rows all splits of a task are padded alike: programs cost more there than flops.
SHARED_ROWS = 512
SMALLEST = 8
# Predictions that differ by less are taken to be equal: contradicting duplicates tie, and rounding, which
# depends on the machine, must not choose. The first of the classes does.
TIE_DECIMALS = 9


class Shape(NamedTuple):
    """Sizes that arrays are padded to: training rows, rows to predict, columns, classes."""

    rows: int
    test_rows: int
    columns: int
    classes: int


class Padded(NamedTuple):
    """A split of a task: distinct rows, what each stands for, and rows to predict.

    counts are how many rows each stands for, targets the means of their class indicators.
    """

    x: Float[Array, "n d"]
    counts: Float[Array, "n"]
    targets: Float[Array, "n c"]
    test_x: Float[Array, "m d"]


class Grams(NamedTuple):
    """D^1/2 K D^1/2 of the distinct rows, the kernel of rows to predict, and the rows x @ root themselves."""

    weighted: Float[Array, "n n"]
    cross: Float[Array, "m n"]
    rooted: Float[Array, "n d"]


class Fit(NamedTuple):
    """Weights of a kernel machine and its predictions, one of each for every ridge."""

    weights: Float[Array, "r n c"]
    predictions: Float[Array, "r m c"]


def rung(size: int, *, fine: bool) -> int:
    """Returns the smallest rung that is not below size: powers of 2, if fine 8 steps between large ones."""
    power = max(SMALLEST, 1 << max(size - 1, 0).bit_length())
    step = power // 16 if fine and power > SHARED_ROWS else power
    return -(-size // step) * step if size else step


def padded_shape(task: Task, splits: Sequence[Split]) -> Shape:
    """Returns one shape for several splits of a task."""
    every = (task.tuning, *task.evaluation)
    largest = max(len(half) for split in every for half in split)
    columns, classes = rung(task.x.shape[1], fine=False), _classes(task.num_classes)
    if largest <= SHARED_ROWS:
        return Shape(rung(largest, fine=True), rung(largest, fine=True), columns, classes)
    rows = max(len(np.unique(task.x[split.train], axis=0)) for split in splits)
    test_rows = max(len(split.test) for split in splits)
    return Shape(rung(rows, fine=True), rung(test_rows, fine=True), columns, classes)


def _classes(count: int) -> int:
    return 2 if count <= 2 else rung(count, fine=False) if count > 4 else 4


def pad(task: Task, split: Split, shape: Shape, *, unit: bool) -> Padded:
    """Returns a split padded to shape, its rows scaled to unit norm if unit."""
    rows, owners, repeats = np.unique(task.x[split.train], axis=0, return_inverse=True, return_counts=True)
    x, test_x = np.zeros((shape.rows, shape.columns)), np.zeros((shape.test_rows, shape.columns))
    counts, targets = np.zeros(shape.rows), np.zeros((shape.rows, shape.classes))
    x[: len(rows), : rows.shape[1]] = rows
    test_x[: len(split.test), : rows.shape[1]] = task.x[split.test]
    counts[: len(rows)] = repeats
    np.add.at(targets, (owners.reshape(-1), task.labels[split.train]), 1.0)
    targets /= np.maximum(counts, 1.0)[:, None]
    scale = _unit_rows if unit else jnp.asarray
    return Padded(scale(x), jnp.asarray(counts), jnp.asarray(targets), scale(test_x))


_unit_rows = jax.jit(lambda x: unit_rows(jnp.asarray(x)))


def identity_root(columns: int, scale: float = 1.0) -> Float[Array, "d d"]:
    """Returns scale times the identity: the root of a kernel that has learned nothing."""
    return jnp.asarray(scale * np.eye(columns))


@jax.jit
def grams(kernel: Kernel, padded: Padded, root: Float[Array, "d d"]) -> Grams:
    """Returns the kernel matrices on x @ root."""
    rooted, roots = matmul(padded.x, root), jnp.sqrt(padded.counts)
    weighted = roots[:, None] * roots[None, :] * kernel(rooted, rooted)
    return Grams(weighted, kernel(matmul(padded.test_x, root), rooted), rooted)


@jax.jit
def fit_ridges(matrices: Grams, padded: Padded, ridges: Float[Array, "r"]) -> Fit:
    """Returns the machines of all ridges from one eigendecomposition D^1/2 K D^1/2 = V diag(w) V^T.

    The weights of a ridge are D^1/2 V diag(1/(w + ridge)) V^T D^1/2 Y.
    """
    values, vectors = jnp.linalg.eigh(matrices.weighted)
    roots = jnp.sqrt(padded.counts)[:, None]
    rotated = matmul(vectors.T, roots * padded.targets)
    shifted = values[None, :] + ridges[:, None]
    scaled = rotated[None] / jnp.where(shifted > 0, shifted, jnp.nan)[:, :, None]
    weights = jax.vmap(lambda one: roots * matmul(vectors, one))(scaled)
    return Fit(weights, jax.vmap(partial(matmul, matrices.cross))(weights))


@jax.jit
def fit_ridge(matrices: Grams, padded: Padded, ridge: Float[Array, "1"]) -> Fit:
    """Returns the machine of one ridge, by Cholesky; NaN where the system is not positive definite."""
    roots = jnp.sqrt(padded.counts)[:, None]
    system = matrices.weighted + jnp.diag(jnp.broadcast_to(ridge, padded.counts.shape))
    weights = roots * jsl.cho_solve(jsl.cho_factor(system, lower=True), roots * padded.targets)
    return Fit(weights[None], matmul(matrices.cross, weights)[None])


@jax.jit
def updated_root(
    kernel: Kernel,
    rooted: Float[Array, "n d"],
    weights: Float[Array, "n c"],
    counts: Float[Array, "n"],
    root: Float[Array, "d d"],
) -> tuple[Float[Array, "d d"], Bool[Array, ""]]:
    """Returns the root of M, the AGOP in x of a machine on x @ root, and whether M is neither 0 nor NaN.

    M is the mean over all rows of the sum over classes, as in `fit_rfm` without
    rescaling; eigenvalues of M that are rounding are kept.
    """
    gram, _ = kernel_agop_core(KernelMachine(kernel, rooted, weights), row_weights=counts)
    matrix = matmul(root, matmul(gram, root))
    return psd_power(matrix, 0.5), jnp.all(jnp.isfinite(matrix)) & jnp.any(matrix != 0)


class Score(NamedTuple):
    """How well a machine did on the rows to predict; of two, the one that compares larger did better."""

    accuracy: float
    negative_squared_error: float


def scores(fit: Fit, labels: Int[np.ndarray, "m"], num_classes: int, where: str) -> list[Score]:
    """Returns the score of each ridge on the real rows to predict: accuracy, and -mean |f - indicator|^2.

    Raises:
        FitError: If a prediction is not finite; it names where.
    """
    return scores_of(np.asarray(fit.predictions)[:, : len(labels), :num_classes], labels, where)


def scores_of(
    predictions: Float[np.ndarray, "r m c"],
    labels: Int[np.ndarray, "m"],
    where: str,
    *,
    off_target: float = 0.0,
) -> list[Score]:
    """Returns `scores` of predictions of rows that are all real; targets are 1, and off_target elsewhere.

    Raises:
        FitError: If a prediction is not finite; it names where.
    """
    if not np.all(np.isfinite(predictions)):
        raise FitError(f"the fit of {where} has no finite predictions: its kernel matrix is singular")
    predictions = predictions.round(TIE_DECIMALS)
    correct = predictions.argmax(axis=2) == labels
    targets = np.where(np.arange(predictions.shape[2]) == labels[:, None], 1.0, off_target)
    errors = ((predictions - targets) ** 2).sum(axis=2)
    means = zip(correct.mean(axis=1), errors.mean(axis=1).round(TIE_DECIMALS), strict=True)
    return [Score(float(accuracy), -float(error)) for accuracy, error in means]
