"""How a metric is called: arguments checked, one jitted core, and an error where nothing could be measured.

A caller's mistake is found before any arithmetic. Under a trace, where values cannot be read, the result is
NaN in the place of an error.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import jax
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from dnc_jax.checks import check_finite
from dnc_jax.collapse.checks import check_labeled, check_several_classes
from dnc_jax.collapse.statistics import class_stats
from dnc_jax.errors import NumericalError
from dnc_jax.types import is_concrete

Result = TypeVar("Result", bound=PyTree)


def measure_points(
    from_points: Callable[..., Result],
    features: Float[Array, "n d"],
    labels: Int[Array, "n"],
    num_classes: int,
    *operands: Array | None,
    **static: object,
) -> Result:
    """Returns from_points(features, labels, num_classes, *operands, **static), jitted and checked.

    Raises:
        ValueError: If num_classes is below 2, the labels do not fit, or a value is NaN or infinite.
        NumericalError: If the result is not finite, as where class means coincide.
    """
    check_several_classes(num_classes)
    check_labeled(features, labels, num_classes)
    value = _jitted(from_points, num_classes, tuple(static.items()), features, labels, *operands)
    check_measured(value, features, labels, num_classes, *operands)
    return value


def measure_stats(
    from_stats: Callable[..., Result],
    features: Float[Array, "n d"],
    labels: Int[Array, "n"],
    num_classes: int,
    *operands: Array | None,
    **static: object,
) -> Result:
    """Returns from_stats(statistics of the points, *operands, **static), jitted and checked.

    Raises:
        ValueError, NumericalError: As `measure_points`.
    """
    return measure_points(
        _of_class_stats, features, labels, num_classes, *operands, from_stats=from_stats, **static
    )


def _of_class_stats(
    features: Array,
    labels: Array,
    num_classes: int,
    *operands: Array | None,
    from_stats: Callable[..., Result],
    **static: object,
) -> Result:
    return from_stats(class_stats(features, labels, num_classes), *operands, **static)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _jitted(
    from_points: Callable[..., Result],
    num_classes: int,
    static: tuple[tuple[str, object], ...],
    features: Array,
    labels: Array,
    *operands: Array | None,
) -> Result:
    return from_points(features, labels, num_classes, *operands, **dict(static))


def _any_finite(leaves: list[Array]) -> bool:
    return any(bool(np.isfinite(leaf).any()) for leaf in jax.device_get(leaves))


def check_measured(
    value: PyTree, features: Array, labels: Array, num_classes: int, *operands: Array | None
) -> None:
    """Raises, with the reason, if measured values can be read and none is finite."""
    leaves = jax.tree.leaves(value)
    if not is_concrete(*leaves, features, labels) or _any_finite(leaves):
        return
    check_finite("features", features)
    for operand in operands:
        if operand is not None:
            check_finite("classifier or logits", operand)
    present = len(np.unique(np.asarray(labels)))
    if present < 2:
        raise ValueError(
            f"labels must name at least 2 classes for a collapse metric: got {present} of {num_classes} "
            f"in {labels.shape[0]} points; measure on more points"
        )
    raise NumericalError(
        f"nothing can be measured: class means of {features.shape[0]} points of {present} classes coincide "
        f"in {features.dtype}, so that a spread of 0 is divided by; check the features, or use float64"
    )
