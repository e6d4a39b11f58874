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


def static_field(*, default: Any = dataclasses.MISSING) -> Any:  # noqa: ANN401
    """Returns a field of a `pytree` class that is part of its structure: a program is compiled per value."""
    return dataclasses.field(default=default, metadata={"static": True})


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, static_field))
def pytree(cls: type[Node]) -> type[Node]:
    """Returns the class as a frozen dataclass whose fields are the children of a pytree node.

    A `static_field` is part of the node's structure instead, and must be hashable.

    Not jax.tree_util.register_dataclass: in jax 0.10 the structures of two classes registered by it compare
    equal if they have as many fields, and a jitted function may then run the program compiled for the other.
    """
    cls = dataclasses.dataclass(frozen=True)(cls)
    fields = dataclasses.fields(cls)  # pyright: ignore[reportArgumentType]
    static = tuple(field.name for field in fields if field.metadata.get("static", False))
    names = tuple(field.name for field in fields if field.name not in static)
    keys = tuple(jax.tree_util.GetAttrKey(name) for name in names)

    def flatten(node: Node) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        return tuple(getattr(node, name) for name in names), tuple(getattr(node, name) for name in static)

    def flatten_with_keys(node: Node) -> tuple[tuple[tuple[Any, Any], ...], tuple[Any, ...]]:
        children, structure = flatten(node)
        return tuple(zip(keys, children, strict=True)), structure

    def unflatten(structure: tuple[Any, ...], children: Iterable[Any]) -> Node:
        # Past __init__: JAX rebuilds nodes with tracers and placeholders, which are no fit arguments.
        node = object.__new__(cls)
        for name, value in zip((*static, *names), (*structure, *children), strict=True):
            object.__setattr__(node, name, value)
        return node

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls


def is_concrete(*arrays: object) -> bool:
    """Returns whether every array holds values that may be read, which is not so under a trace."""
    return not any(isinstance(array, Tracer) for array in arrays)
