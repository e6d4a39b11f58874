"""Array types of the library, and the one table of axis letters.

Axis letters, in every annotation and every einsum:

    n  rows: data points          m  centers of a kernel machine
    d  inputs of a function       p  features, or outputs of a layer
    c  outputs of a predictor     k  classes
    h, w  image height and width
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from jax.core import Tracer
from jaxtyping import Array, Float, PRNGKeyArray

Scalar: TypeAlias = float | Float[Array, ""]
"""A real number: a Python float, or a traced or concrete array without axes."""

FeatureMap: TypeAlias = Callable[[Float[Array, "n d"]], Float[Array, "n p"]]
"""A map of rows to rows, itself a pytree of its parameters."""

FeatureSampler: TypeAlias = Callable[[PRNGKeyArray, int], FeatureMap]
"""Draws a feature map for a given input dimension."""


class Stages(NamedTuple):
    """The three stages of a layer: what it receives, what its matrix makes of it, what it passes on."""

    input: Float[Array, "n d"]
    linear: Float[Array, "n q"]
    nonlinear: Float[Array, "n p"]


def is_concrete(*arrays: object) -> bool:
    """Returns whether every array holds values that may be read, which is not so under a trace."""
    return not any(isinstance(array, Tracer) for array in arrays)
