"""VGG networks for small images, with a multi-layer perceptron on top."""

from typing import Literal, TypeAlias

from flax import nnx
from jaxtyping import Array, Float

from dnc_jax.networks.convolutional import ConvBlock, flatten, max_pool
from dnc_jax.networks.heads import ETFHead
from dnc_jax.networks.layers import Layer, identity
from dnc_jax.networks.mlp import MLP

VGGName: TypeAlias = Literal["vgg11", "vgg13"]

# Channels of the 3 x 3 convolutions between poolings.
CHANNELS: dict[VGGName, tuple[tuple[int, ...], ...]] = {
    "vgg11": ((64,), (128,), (256, 256), (512, 512)),
    "vgg13": ((64, 64), (128, 128), (256, 256), (512, 512)),
}


class VGG(nnx.Module):
    """The convolutions of a VGG until its fourth pooling, 512 images of 4 x 4, and an MLP of these 8192.

    After a first dense layer of 8192 -> width the head has depth hidden layers. Images of 28 x 28 and of
    32 x 32 pixels both leave 4 x 4; there is no batch normalization.

    References:
        Simonyan and Zisserman (2015), configurations A and B.
        Beaglehole, Sukenik, Mondelli and Belkin (2024): VGG11 cut to 15 modules, head of 5 x 512.
    """

    def __init__(
        self,
        name: VGGName,
        image_shape: tuple[int, int, int],
        num_classes: int,
        *,
        rngs: nnx.Rngs,
        depth: int = 5,
        width: int = 512,
        init_gain: float = 1.0,
        head: ETFHead | None = None,
    ) -> None:
        """Draws the weights; raises ValueError for an unknown name or sizes that no network has."""
        if name not in CHANNELS:
            raise ValueError(f"name must be one of {', '.join(CHANNELS)}: got {name!r}")
        height, width_of_image, channels = image_shape
        stages = []
        for outputs in CHANNELS[name]:
            inputs = (channels, *outputs[:-1])
            stages.append(
                nnx.List([ConvBlock(d, p, rngs=rngs) for d, p in zip(inputs, outputs, strict=True)])
            )
            channels = outputs[-1]
        self.stages = nnx.List(stages)
        for _ in range(len(stages) - 1):
            height, width_of_image = -(-height // 2), -(-width_of_image // 2)
        self.mlp = MLP(
            height * width_of_image * channels,
            num_classes,
            rngs=rngs,
            depth=depth + 1,
            width=width,
            init_gain=init_gain,
            head=head,
        )

    def __call__(self, x: Float[Array, "n h w d"]) -> Float[Array, "n k"]:
        """Returns the logits of every image."""
        for index, stage in enumerate(self.stages):
            x = max_pool(x) if index else x
            for block in stage:
                x = block(x)
        return self.mlp(flatten(x))

    @property
    def layers(self) -> list[Layer]:
        """The convolutions, with the poolings that follow, and the layers of the MLP."""
        convolutions = []
        for index, stage in enumerate(self.stages):
            after = flatten if index == len(self.stages) - 1 else max_pool
            *inner, last = stage
            convolutions += [block.as_layer(pool=identity) for block in inner] + [last.as_layer(pool=after)]
        return [*convolutions, *self.mlp.layers]
