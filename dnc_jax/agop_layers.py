"""Average gradient outer products at every layer of a network, from one backward pass per output."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dnc_jax.chunking import sum_rows
from dnc_jax.linalg import symmetric_product

State: TypeAlias = Array | tuple[Array, ...]
"""What passes between layers: one array, or one and others carried past it, as by a skip connection."""

Layer: TypeAlias = Callable[[Any], State]
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
    per_position: bool = False,
) -> list[Float[Array, "d d"]] | list[Float[Array, "d"]]:
    """Returns the AGOP of the network's output with respect to the input of each layer, first to last.

    Layer l maps one example h_l to h_(l+1), of any shape, and h_1 is a row of x. Entry l is `agop` of the
    rest of the network, layers l to the last, at the points h_l. All of them come from one backward pass per
    output: (number of outputs) x (cost of a backward pass) + products, where one `agop` per layer
    would repeat the passes of the layers above. Inputs are flattened. Not centered and not rescaled.

    A layer may return a tuple: its first array is the input that counts, the others are carried past it.

    Args:
        network: Pure functions of one example, or an object with such a sequence as its `layers`.
        batch_size: Examples whose gradients are held at once, for every output; None holds all.
        diagonal: Return only the diagonals, as vectors.
        per_position: Of an input of shape (..., d), as a convolution's (h, w, d), take every position for an
            example of its own and sum over positions: the AGOP is that of the d channels. K at the output of
            a convolution with weights W (patch, p) gives W K W^T, the AGOP with respect to its patches.

    Raises:
        ValueError: If there is no layer or no row, or a layer returns no array.

    References:
        Beaglehole, Radhakrishnan, Pandit and Belkin (2023), arXiv 2309.00570, for the AGOP of patches.
    """
    layers = list(network.layers if isinstance(network, Layered) else network)
    if not layers or x.ndim == 0 or x.size == 0:
        raise ValueError(
            f"network must have at least one layer and x at least one row: got {len(layers)} layers and x of "
            f"shape {x.shape}"
        )
    product = partial(_product, diagonal, per_position)

    def block_sum(block: Float[Array, "b *shape"]) -> list[Array]:
        return [product(gradients) for gradients in _backward(layers, block)][::-1]

    return [total / x.shape[0] for total in sum_rows(block_sum, x, batch_size)]


def _backward(layers: list[Layer], x: Float[Array, "b *shape"]) -> Iterator[Float[Array, "c b *shape"]]:
    """Yields the gradients of all outputs at all rows with respect to each layer's input, last to first."""
    pullbacks, state = [], x
    for index, layer in enumerate(layers):
        state, pullback = jax.vjp(jax.vmap(layer), state)
        _check_arrays(index, state)
        pullbacks.append(pullback)
    if isinstance(state, tuple):
        raise ValueError(f"the last layer of network must return one array: got a tuple of {len(state)}")
    one_hot = jnp.eye(state[0].size, dtype=state.dtype).reshape(-1, 1, *state.shape[1:])
    cotangents = jnp.broadcast_to(one_hot, (state[0].size, *state.shape))
    for pullback in reversed(pullbacks):
        (cotangents,) = jax.vmap(pullback)(cotangents)
        yield _first(cotangents)


def _first(state: State) -> Array:
    return state[0] if isinstance(state, tuple) else state


def _product(
    diagonal: bool, per_position: bool, gradients: Float[Array, "c b *shape"]
) -> Float[Array, "d d"] | Float[Array, "d"]:
    num_gradients = gradients.shape[0] * gradients.shape[1]
    if not per_position:
        rows = gradients.reshape(num_gradients, -1)
    elif gradients.ndim > 2:
        rows = gradients.reshape(-1, gradients.shape[-1])
    else:
        rows = gradients.reshape(num_gradients, 1)
    return jnp.sum(rows * rows, axis=0) if diagonal else symmetric_product(rows)


def _check_arrays(index: int, state: object) -> None:
    parts = state if isinstance(state, tuple) and state else (state,)
    for part in parts:
        if not isinstance(part, jax.Array):
            raise ValueError(
                f"every layer of network must return one array, or a tuple of arrays: got "
                f"{type(part).__name__} from layer {index}"
            )
