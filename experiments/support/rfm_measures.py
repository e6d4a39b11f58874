"""What is measured of each iterate of a recursive feature machine: its errors, and what M looks at."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dnc_jax import RFM, agop_alignment, mean_squared_error, misclassification, subspace_alignment
from dnc_jax.linalg import matmul
from experiments.support.modular import Operation, circulant_deviation, ordered_blocks
from experiments.support.records import Row

MACHINE, FEATURE_MATRIX = "machine", "feature_matrix"

Measured = dict[str, dict[str, float]]
"""Numbers by stage and metric."""


class Points(NamedTuple):
    """A problem on the device, in the precision of the run."""

    train_x: Float[Array, "n d"]
    train_targets: Float[Array, "n c"]
    test_x: Float[Array, "v d"]
    test_targets: Float[Array, "v c"]
    directions: Float[Array, "d r"] | None
    has_classes: bool


def r2(predictions: Float[Array, "n c"], targets: Float[Array, "n c"]) -> Float[Array, ""]:
    """Returns 1 - sum |y - f|^2 / sum |y - mean y|^2, over points and outputs."""
    spread = jnp.sum((targets - jnp.mean(targets, axis=0, keepdims=True)) ** 2)
    return 1 - jnp.sum((targets - predictions) ** 2) / spread


def eigenvector_alignment(
    feature_matrix: Float[Array, "d d"], directions: Float[Array, "d r"]
) -> Float[Array, ""]:
    """Returns |V^T U|^2 / r, V the top r eigenvectors of M and U a basis of the true subspace.

    The mean squared cosine of the r principal angles between the two; r / d for a random subspace.
    """
    top = jnp.linalg.eigh(feature_matrix)[1][:, -directions.shape[1] :]
    return subspace_alignment(matmul(top, top.T), directions)


def measure(rfm: RFM, points: Points, operation: Operation | None, iteration: int) -> Measured:
    """Returns what is known of one iterate; M = I of iteration 0 has no top eigenvectors and no blocks."""
    machine: dict[str, float] = {}
    for prefix, x, targets in (
        ("train_", points.train_x, points.train_targets),
        ("test_", points.test_x, points.test_targets),
    ):
        accuracy, score, error = (float(value) for value in scores(rfm, x, targets))
        machine |= {f"{prefix}r2": score, f"{prefix}mean_squared_error": error}
        machine |= {f"{prefix}accuracy": accuracy} if points.has_classes else {}
    matrix: dict[str, float] = {}
    if points.directions is not None:
        matrix["subspace_alignment"] = float(subspace_alignment(rfm.feature_matrix, points.directions))
        if iteration:
            found = eigenvector_alignment(rfm.feature_matrix, points.directions)
            matrix["eigenvector_alignment"] = float(found)
    if operation is not None and iteration:
        blocks = ordered_blocks(np.asarray(rfm.feature_matrix, np.float64), operation)
        matrix |= {f"circulant_deviation_{name}": circulant_deviation(b) for name, b in blocks.items()}
    return {MACHINE: machine, FEATURE_MATRIX: matrix}


def alignments_with_last(matrices: Float[np.ndarray, "t d d"]) -> list[Measured]:
    """Returns the cosine of every M with the last one."""
    last = jnp.asarray(matrices[-1])
    found = [float(agop_alignment(jnp.asarray(matrix), last)) for matrix in matrices]
    return [{FEATURE_MATRIX: {"alignment_with_last": value}} for value in found]


def to_rows(place: Row, iteration: int, values: Measured) -> list[Row]:
    """Returns tidy rows; place says which seed, rank and degree."""
    return [
        place | {"iteration": iteration, "stage": stage, "metric": metric, "value": value}
        for stage, metrics in values.items()
        for metric, value in metrics.items()
    ]


@jax.jit
def scores(rfm: RFM, x: Float[Array, "n d"], targets: Float[Array, "n c"]) -> tuple[Array, Array, Array]:
    """Returns the accuracy, R^2 and the mean squared error of a machine on some points."""
    predictions = rfm(x)
    return (
        1 - misclassification(predictions, targets),
        r2(predictions, targets),
        mean_squared_error(predictions, targets),
    )
