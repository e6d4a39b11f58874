"""Array types of the library, and the one table of axis letters.

Axis letters, in every annotation and every einsum:

    n  rows: data points          m  centers of a kernel machine
    d  inputs of a function       p  features, or outputs of a layer
    c  outputs of a predictor     k  classes
    h, w  image height and width
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias, TypeVar, dataclass_transform

import jax
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


Node = TypeVar("Node")


@dataclass_transform(frozen_default=True)
def pytree(cls: type[Node]) -> type[Node]:
    """Returns the class as a frozen dataclass whose fields are the children of a pytree node.

    Not jax.tree_util.register_dataclass: in jax 0.10 the structures of two classes registered by it compare
    equal if they have as many fields, and a jitted function may then run the program compiled for the other.
    """
    cls = dataclasses.dataclass(frozen=True)(cls)
    names = tuple(field.name for field in dataclasses.fields(cls))  # pyright: ignore[reportArgumentType]
    keys = tuple(jax.tree_util.GetAttrKey(name) for name in names)

    def flatten(node: Node) -> tuple[tuple[Any, ...], None]:
        return tuple(getattr(node, name) for name in names), None

    def flatten_with_keys(node: Node) -> tuple[tuple[tuple[Any, Any], ...], None]:
        return tuple(zip(keys, flatten(node)[0], strict=True)), None

    def unflatten(_: None, children: Iterable[Any]) -> Node:
        # Past __init__: JAX rebuilds nodes with tracers and placeholders, which are no fit arguments.
        node = object.__new__(cls)
        for name, child in zip(names, children, strict=True):
            object.__setattr__(node, name, child)
        return node

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls


def is_concrete(*arrays: object) -> bool:
    """Returns whether every array holds values that may be read, which is not so under a trace."""
    return not any(isinstance(array, Tracer) for array in arrays)
