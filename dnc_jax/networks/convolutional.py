"""Parts of convolutional networks: a convolution with what follows it, and the poolings between."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from dnc_jax.networks.convolution import convolve
from dnc_jax.networks.layers import Conv, Role, identity

# Of the moments that batch normalization keeps, the share that survives a step.
MOMENTUM = 0.9


def max_pool(x: Float[Array, "*n h w p"]) -> Float[Array, "*n i j p"]:
    """Returns the largest of every 2 x 2 pixels; an odd last row or column is pooled alone."""
    window, strides = (*[1] * (x.ndim - 3), 2, 2, 1), (*[1] * (x.ndim - 3), 2, 2, 1)
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, strides, "SAME")


def flatten(x: Float[Array, "*n h w p"]) -> Float[Array, "*n q"]:
    """Returns every image as one row."""
    return x.reshape(*x.shape[:-3], -1)


def global_mean(x: Float[Array, "*n h w p"]) -> Float[Array, "*n p"]:
    """Returns the mean over all pixels."""
    return jnp.mean(x, axis=(-3, -2))


class ConvBlock(nnx.Module):
    """x -> activation(x * W + b), or with batch normalization in the place of the bias b.

    Weights are normal with variance 2 / (outgoing connections of an input).

    References:
        He, Zhang, Ren and Sun (2015).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        rngs: nnx.Rngs,
        size: int = 3,
        stride: int = 1,
        batch_norm: bool = False,
        activation: Callable[[Array], Array] = jax.nn.relu,
    ) -> None:
        """Draws the weights."""
        dtype = jnp.result_type(float)
        initializer = jax.nn.initializers.variance_scaling(2.0, "fan_out", "normal")
        self.kernel = nnx.Param(initializer(rngs.params(), (size, size, in_channels, out_channels), dtype))
        self.bias = None if batch_norm else nnx.Param(jnp.zeros(out_channels, dtype))
        self.norm = _batch_norm(out_channels, rngs) if batch_norm else None
        self.activation = activation
        self.stride = stride

    def __call__(self, x: Float[Array, "n h w d"], added: Array | None = None) -> Float[Array, "n i j p"]:
        """Returns the images, with others added before the activation."""
        z = convolve(x, self.kernel[...], self.stride)
        if self.bias is not None:
            z = z + self.bias[...][None, None, None, :]
        if self.norm is not None:
            z = self.norm(z)
        return self.activation(z if added is None else z + added)

    def as_layer(self, *, pool: Callable[[Array], Array] = identity, role: Role = "chain") -> Conv:
        """Returns the block in evaluation as a pure function of one image."""
        weights = self.kernel[...]
        if self.norm is None:
            assert self.bias is not None
            scale, shift = jnp.ones(weights.shape[-1], weights.dtype), self.bias[...]
        else:
            assert self.norm.scale is not None
            assert self.norm.bias is not None
            scale = self.norm.scale[...] / jnp.sqrt(self.norm.var[...] + self.norm.epsilon)
            shift = self.norm.bias[...] - self.norm.mean[...] * scale
        return Conv(weights, scale, shift, self.activation, pool, self.stride, role)


def _batch_norm(num_channels: int, rngs: nnx.Rngs) -> nnx.BatchNorm:
    dtype = jnp.result_type(float)
    norm = nnx.BatchNorm(num_channels, momentum=MOMENTUM, param_dtype=dtype, rngs=rngs)
    # Flax keeps the moments in float32 whatever the dtype of the parameters.
    norm.mean, norm.var = (nnx.BatchStat(moment[...].astype(dtype)) for moment in (norm.mean, norm.var))
    return norm
