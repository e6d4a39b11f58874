"""ResNet18 for small images, with a multi-layer perceptron on top."""

from flax import nnx
from jaxtyping import Array, Float

from dnc_jax.networks.convolutional import ConvBlock, global_mean
from dnc_jax.networks.heads import ETFHead
from dnc_jax.networks.layers import Conv, Layer, identity
from dnc_jax.networks.mlp import MLP

# Channels and stride of the two residual blocks of each stage.
STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))


class ResidualBlock(nnx.Module):
    """x -> relu(two 3 x 3 convolutions of x + x), the last x through a 1 x 1 convolution if shapes differ.

    References:
        He, Zhang, Ren and Sun (2016), the basic block.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, rngs: nnx.Rngs) -> None:
        """Draws the weights."""
        self.first = ConvBlock(in_channels, out_channels, stride=stride, batch_norm=True, rngs=rngs)
        self.second = ConvBlock(out_channels, out_channels, batch_norm=True, rngs=rngs)
        options = {"size": 1, "stride": stride, "batch_norm": True, "activation": identity}
        is_same = stride == 1 and in_channels == out_channels
        self.shortcut = None if is_same else ConvBlock(in_channels, out_channels, rngs=rngs, **options)

    def __call__(self, x: Float[Array, "n h w d"]) -> Float[Array, "n i j p"]:
        """Returns the images that the block makes of x."""
        added = x if self.shortcut is None else self.shortcut(x)
        return self.second(self.first(x), added)

    @property
    def layers(self) -> list[Conv]:
        """The convolutions as pure functions of one image, that of the shortcut first."""
        join = self.second.as_layer(role="join")
        if self.shortcut is None:
            return [self.first.as_layer(role="fork"), join]
        return [self.shortcut.as_layer(role="shortcut"), self.first.as_layer(), join]


class ResNet18(nnx.Module):
    """A 3 x 3 convolution, eight residual blocks, the mean over pixels, and an MLP of these 512 features.

    The form for small images: no stride and no pooling before the first block. Every convolution has batch
    normalization.

    References:
        He, Zhang, Ren and Sun (2016).
        Beaglehole, Sukenik, Mondelli and Belkin (2024): head of 5 x 512, gain 0.25.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int,
        *,
        rngs: nnx.Rngs,
        depth: int = 5,
        width: int = 512,
        init_gain: float = 1.0,
        head: ETFHead | None = None,
    ) -> None:
        """Draws the weights; raises ValueError for sizes that no network has."""
        channels = STAGES[0][0]
        self.stem = ConvBlock(image_shape[2], channels, batch_norm=True, rngs=rngs)
        blocks = []
        for out_channels, stride in STAGES:
            blocks.append(ResidualBlock(channels, out_channels, stride=stride, rngs=rngs))
            blocks.append(ResidualBlock(out_channels, out_channels, stride=1, rngs=rngs))
            channels = out_channels
        self.blocks = nnx.List(blocks)
        sizes = {"depth": depth, "width": width, "init_gain": init_gain}
        self.mlp = MLP(channels, num_classes, rngs=rngs, head=head, **sizes)

    def __call__(self, x: Float[Array, "n h w d"]) -> Float[Array, "n k"]:
        """Returns the logits of every image."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.mlp(global_mean(x))

    @property
    def layers(self) -> list[Layer]:
        """All convolutions, those of shortcuts too, and the layers of the MLP."""
        *inner, last = [layer for block in self.blocks for layer in block.layers]
        last = Conv(last.weights, last.scale, last.shift, last.activation, global_mean, 1, "join")
        return [self.stem.as_layer(), *inner, last, *self.mlp.layers]
