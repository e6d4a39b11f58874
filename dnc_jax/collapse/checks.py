"""What every metric asks of its arguments."""

import numpy as np
from jaxtyping import Array, Float, Int

from dnc_jax.types import is_concrete


def check_labeled(features: Float[Array, "n d"], labels: Int[Array, "n"], num_classes: int) -> None:
    """Raises ValueError for features and labels that do not belong together."""
    if features.ndim != 2 or labels.ndim != 1 or features.shape[0] != labels.shape[0]:
        raise ValueError(
            f"features and labels must have shapes (n, d) and (n,): got {features.shape} and "
            f"{labels.shape}; flatten features with reshape(n, -1), and pass labels as integers, not one-hot"
        )
    if features.shape[0] == 0 or num_classes < 1:
        raise ValueError(
            f"features and num_classes must describe at least one point and one class: got "
            f"{features.shape[0]} points and num_classes {num_classes}"
        )
    if is_concrete(labels):
        _check_range(np.asarray(labels), num_classes)


def _check_range(labels: np.ndarray, num_classes: int) -> None:
    outside = (labels < 0) | (labels >= num_classes)
    if outside.any():
        raise ValueError(
            f"labels must lie in 0..{num_classes - 1}: got {int(outside.sum())} outside, the first "
            f"{int(labels[outside][0])} at row {int(np.flatnonzero(outside)[0])}; relabel them"
        )


def check_several_classes(num_classes: int) -> None:
    """Raises ValueError for fewer than two classes, between which nothing can be measured."""
    if num_classes < 2:
        raise ValueError(f"num_classes must be at least 2 for a collapse metric: got {num_classes}")


def check_shape(name: str, got: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Raises ValueError for an operand whose shape does not fit the points and classes."""
    if got != expected:
        raise ValueError(f"{name} must have shape {expected}: got {got}")
