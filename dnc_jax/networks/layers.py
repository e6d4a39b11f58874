"""Layers of trained networks as pure functions of their input: what metrics and AGOPs are taken of.

Every layer is a linear map of its input, `linear`, and what follows it, `rest`: layer(x) = rest(linear(x)).
Its weights are a matrix: that of a convolution maps patches. What passes between layers is one array, or a
tuple of it and an array that is carried past a layer to where a residual block adds it.
"""

from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeAlias

import jax
from jaxtyping import Array, Float

from dnc_jax.linalg import matmul
from dnc_jax.networks.convolution import convolve
from dnc_jax.types import pytree, static_field

State: TypeAlias = Array | tuple[Array, Array]
"""One example between two layers, or rows of examples for `Dense`: an array, or it and one carried past."""

Role: TypeAlias = Literal["chain", "fork", "shortcut", "join"]


def identity(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns x: the activation of a last layer, and no pooling."""
    return x


class Layer(Protocol):
    """What `Dense` and `Conv` share."""

    def __call__(self, state: Any, /) -> Any:  # noqa: ANN401
        """Returns what the next layer receives."""
        ...

    @property
    def matrix(self) -> Float[Array, "q p"]:
        """The weights as the matrix of a linear map, of patches if the layer is a convolution."""
        ...

    def linear(self, state: Any, /) -> Any:  # noqa: ANN401
        """Returns the pre-activations."""
        ...

    def rest(self, state: Any, /) -> Any:  # noqa: ANN401
        """Returns what the next layer receives, from the pre-activations."""
        ...

    def project(self, state: Any, columns: Float[Array, "q r"], /) -> Array:  # noqa: ANN401
        """Returns what `linear` does with other columns in the place of `matrix`, without bias."""
        ...

    def features(self, state: Any, /) -> Array:  # noqa: ANN401
        """Returns the activations, before any pooling."""
        ...


@pytree
class Dense:
    """x -> activation(x W + b) for weights W (d, p) and bias b (p,); x is a row or a matrix of rows."""

    weights: Array
    bias: Array
    activation: Callable[[Array], Array] = static_field(default=identity)

    def __call__(self, x: Float[Array, "*n d"]) -> Float[Array, "*n p"]:
        """Returns the layer's output."""
        return self.rest(self.linear(x))

    @property
    def matrix(self) -> Float[Array, "d p"]:
        """The weights."""
        return self.weights

    def project(self, x: Float[Array, "*n d"], columns: Float[Array, "d q"]) -> Float[Array, "*n q"]:
        """Returns x times a matrix in the place of the weights, such as `principal_columns` of them."""
        return matmul(x, columns)

    def linear(self, x: Float[Array, "*n d"]) -> Float[Array, "*n p"]:
        """Returns x W + b."""
        product = self.project(x, self.weights)
        return product + self.bias.reshape((1,) * (product.ndim - 1) + self.bias.shape)

    def rest(self, z: Float[Array, "*n p"]) -> Float[Array, "*n p"]:
        """Returns the activation of z."""
        return self.activation(z)

    def features(self, x: Float[Array, "*n d"]) -> Float[Array, "*n p"]:
        """Returns what the layer makes of x: its output."""
        return self(x)


@pytree
class Conv:
    """x -> pool(activation(scale (x * W) + shift)) of one image (h, w, d), W of shape (a, b, d, p).

    The scale and shift (p,) hold a bias, or batch normalization in evaluation; padding is SAME. Roles in a
    residual block, between images x (what it receives), h (inside) and s (carried past):

        chain     x or (x, s) -> the output, with s carried on
        fork      x -> (h, x): the first convolution where x itself is added
        shortcut  x -> (x, s): the convolution of what is added; a chain follows
        join      (h, s) -> activation(scale (h * W) + shift + s)
    """

    weights: Array
    scale: Array
    shift: Array
    activation: Callable[[Array], Array] = static_field(default=identity)
    pool: Callable[[Array], Array] = static_field(default=identity)
    stride: int = static_field(default=1)
    role: Role = static_field(default="chain")

    def __call__(self, state: State) -> State:
        """Returns what the next layer receives."""
        return self.rest(self.linear(state))

    @property
    def matrix(self) -> Float[Array, "q p"]:
        """The weights as a map of patches (a, b, d), flattened in this order."""
        return self.weights.reshape(-1, self.weights.shape[-1])

    def project(self, state: State, columns: Float[Array, "q r"]) -> Float[Array, "h w r"]:
        """Returns every patch of x times a matrix in the place of `matrix`."""
        kernel = columns.reshape(*self.weights.shape[:3], columns.shape[1])
        return convolve(_main(state)[None], kernel, self.stride, jax.lax.Precision.HIGHEST)[0]

    def linear(self, state: State) -> State:
        """Returns x * W, and what is carried past it."""
        z = self.project(state, self.matrix)
        if isinstance(state, tuple):
            return z, state[1]
        return (z, state) if self.role in ("fork", "shortcut") else z

    def rest(self, state: State) -> State:
        """Returns what the next layer receives, from x * W."""
        if self.role == "shortcut":
            assert isinstance(state, tuple)
            return state[1], self._activated(state)
        passed = self.pool(self._activated(state))
        return (passed, state[1]) if isinstance(state, tuple) and self.role != "join" else passed

    def features(self, state: State) -> Float[Array, "h w p"]:
        """Returns what the layer makes of x, before any pooling."""
        return self._activated(self.linear(state))

    def _activated(self, state: State) -> Float[Array, "h w p"]:
        z = _main(state) * self.scale[None, None, :] + self.shift[None, None, :]
        return self.activation(z + state[1] if self.role == "join" else z)


def _main(state: State) -> Array:
    return state[0] if isinstance(state, tuple) else state
