"""Average gradient outer products at every layer of a network, from one backward pass per output."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dnc_jax.chunking import sum_rows
from dnc_jax.linalg import symmetric_product

Layer: TypeAlias = Callable[[Array], Array]
"""A pure function of one example."""


@runtime_checkable
class Layered(Protocol):
    """Anything with a sequence of layers."""

    @property
    def layers(self) -> Sequence[Layer]:
        """The layers, first to last."""
        ...


def layer_agops(
    network: Sequence[Layer] | Layered,
    x: Float[Array, "n *shape"],
    *,
    batch_size: int | None = None,
    diagonal: bool = False,
) -> list[Float[Array, "d d"]] | list[Float[Array, "d"]]:
    """Returns the AGOP of the network's output with respect to the input of each layer, first to last.

    Layer l maps one example h_l to h_(l+1), of any shape, and h_1 is a row of x. Entry l is `agop` of the
    rest of the network, layers l to the last, at the points h_l. All of them come from one backward pass per
    output: (number of outputs) x (cost of a backward pass) + products, where one `agop` per layer
    would repeat the passes of the layers above. Inputs are flattened. Not centered and not rescaled.

    Args:
        network: Pure functions of one example, or an object with such a sequence as its `layers`.
        batch_size: Examples whose gradients are held at once, for every output; None holds all.
        diagonal: Return only the diagonals, as vectors.

    Raises:
        ValueError: If there is no layer or no row, or a layer returns something else than one array.
    """
    layers = list(network.layers if isinstance(network, Layered) else network)
    if not layers or x.ndim == 0 or x.size == 0:
        raise ValueError(
            f"network must have at least one layer and x at least one row: got {len(layers)} layers and x of "
            f"shape {x.shape}"
        )
    product = _squares if diagonal else symmetric_product

    def block_sum(block: Float[Array, "b *shape"]) -> list[Array]:
        products = [product(gradients) for gradients in _backward(layers, block)]
        return products[::-1]

    return [total / x.shape[0] for total in sum_rows(block_sum, x, batch_size)]


def _backward(layers: list[Layer], h: Float[Array, "b *shape"]) -> Iterator[Float[Array, "cb d"]]:
    """Yields the gradients of all outputs at all rows with respect to each layer's input, last to first."""
    pullbacks = []
    for index, layer in enumerate(layers):
        h, pullback = jax.vjp(jax.vmap(layer), h)
        _check_array(index, h)
        pullbacks.append(pullback)
    outputs = h.shape[1:]
    one_hot = jnp.eye(h[0].size, dtype=h.dtype).reshape(-1, 1, *outputs)
    cotangents = jnp.broadcast_to(one_hot, (h[0].size, *h.shape))
    for pullback in reversed(pullbacks):
        (cotangents,) = jax.vmap(pullback)(cotangents)
        yield cotangents.reshape(cotangents.shape[0] * cotangents.shape[1], -1)


def _squares(gradients: Float[Array, "cb d"]) -> Float[Array, "d"]:
    return jnp.sum(gradients * gradients, axis=0)


def _check_array(index: int, h: object) -> None:
    if not isinstance(h, jax.Array):
        raise ValueError(
            f"every layer of network must return one array: got {type(h).__name__} from layer {index}"
        )
