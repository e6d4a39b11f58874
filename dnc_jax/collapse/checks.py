"""What every metric asks of its arguments."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dnc_jax.checks import check_finite
from dnc_jax.types import is_concrete


def check_labeled(features: Float[Array, "n d"], labels: Int[Array, "n"], num_classes: int) -> None:
    """Raises ValueError for features and labels that do not belong together."""
    if features.ndim != 2 or labels.ndim != 1 or features.shape[0] != labels.shape[0]:
        raise ValueError(
            f"features and labels must have shapes (n, d) and (n,): got {features.shape} and "
            f"{labels.shape}; flatten features with reshape(n, -1), and pass labels as integers, not one-hot"
        )
    if not (jnp.issubdtype(features.dtype, jnp.floating) and jnp.issubdtype(labels.dtype, jnp.integer)):
        raise ValueError(
            f"features must be floats and labels integers: got {features.dtype} and {labels.dtype}; convert "
            "with astype"
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


def check_defined(value: Float[Array, "..."], **operands: Array) -> None:
    """Raises ValueError if a value that can be read is NaN or infinite, naming the operand at fault."""
    if is_concrete(value) and not bool(jnp.all(jnp.isfinite(value))):
        for name, operand in operands.items():
            check_finite(name, operand)
        raise ValueError("class_means must hold at least one class with points: got none")
