"""Multi-layer perceptrons, alone or on top of convolutional layers."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from dnc_jax.networks.heads import ETFHead
from dnc_jax.networks.layers import Dense, identity


class MLP(nnx.Module):
    """relu(... relu(x W_1) ... W_L) W_(L+1): depth hidden layers of one width, and a linear head.

    Weights are uniform: of hidden layers with variance init_gain^2 2/(d + p), the initialization of Glorot
    and Bengio (2010) times a gain; of the head within 1/sqrt(d), whatever the gain. A gain of 0.1 on the head
    too keeps the output near 0 for twice as many epochs.

    References:
        Beaglehole, Sukenik, Mondelli and Belkin (2024): 5 hidden layers of 512, gain 0.1, no bias.
    """

    def __init__(
        self,
        in_dim: int,
        num_classes: int,
        *,
        rngs: nnx.Rngs,
        depth: int = 5,
        width: int = 512,
        init_gain: float = 1.0,
        use_bias: bool = False,
        head: ETFHead | None = None,
    ) -> None:
        """Draws the weights; raises ValueError for a size below 1 or a gain that is not positive."""
        sizes = {"in_dim": in_dim, "num_classes": num_classes, "depth": depth, "width": width}
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name} must be at least 1: got {size}")
        if not 0 < init_gain < float("inf"):
            raise ValueError(f"init_gain must be a positive number: got {init_gain}")
        glorot = jax.nn.initializers.variance_scaling(init_gain**2, "fan_avg", "uniform")
        within_one = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")

        def linear(d: int, p: int, initializer: nnx.Initializer) -> nnx.Linear:
            dtype = jnp.result_type(float)
            return nnx.Linear(d, p, use_bias=use_bias, kernel_init=initializer, param_dtype=dtype, rngs=rngs)

        inputs = (in_dim, *[width] * (depth - 1))
        self.hidden = nnx.List([linear(d, width, glorot) for d in inputs])
        self.head = head or linear(width, num_classes, within_one)

    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, "n k"]:
        """Returns the logits of every row."""
        for layer in self.hidden:
            x = jax.nn.relu(layer(x))
        return self.head(x)

    @property
    def layers(self) -> list[Dense]:
        """The hidden layers and the head as pure functions of one row."""
        hidden = [_dense(layer, jax.nn.relu) for layer in self.hidden]
        return [*hidden, _dense(self.head, identity)]


def _dense(layer: nnx.Linear | ETFHead, activation: Callable[[Array], Array]) -> Dense:
    weights = layer.kernel[...]
    bias = jnp.zeros(weights.shape[1], weights.dtype) if layer.bias is None else layer.bias[...]
    return Dense(weights, bias, activation)
