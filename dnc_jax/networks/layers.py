"""Layers of trained networks as pure functions of their input: what metrics and AGOPs are taken of."""

from collections.abc import Callable

from jaxtyping import Array, Float

from dnc_jax.linalg import matmul
from dnc_jax.types import pytree, static_field


def identity(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns x: the activation of a last layer."""
    return x


@pytree
class Dense:
    """x -> activation(x W + b) for weights W (d, p) and bias b (p,); x is a row or a matrix of rows."""

    weights: Array
    bias: Array
    activation: Callable[[Array], Array] = static_field(default=identity)

    def __call__(self, x: Float[Array, "*n d"]) -> Float[Array, "*n p"]:
        """Returns the layer's output."""
        return self.activation(self.preactivations(x))

    def preactivations(self, x: Float[Array, "*n d"]) -> Float[Array, "*n p"]:
        """Returns x W + b."""
        product = matmul(x, self.weights)
        return product + self.bias.reshape((1,) * (product.ndim - 1) + self.bias.shape)
