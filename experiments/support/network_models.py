"""Networks by name, as an experiment's options ask for them."""

import math
from typing import Literal, Protocol, TypeAlias

import jax
from flax import nnx

from dnc_jax.networks import MLP, VGG, ETFHead, Functional, ResNet18, functional
from experiments.support.network_runs import weights_key
from experiments.support.sizes import RunSizes

NetworkName: TypeAlias = Literal["mlp", "vgg11", "vgg13", "resnet18"]
HeadName: TypeAlias = Literal["learned", "etf"]

# Of the stream of a seed that weights are drawn from: the rotation of a fixed head.
_HEAD = 1


class Architecture(Protocol):
    """Options that say what a network is made of."""

    @property
    def network(self) -> NetworkName:
        """The architecture."""
        ...

    @property
    def head(self) -> HeadName:
        """Whether the classifier is learned."""
        ...

    @property
    def depth(self) -> int:
        """Hidden layers of the MLP, or of the head on convolutions."""
        ...

    @property
    def width(self) -> int:
        """Units of a hidden layer."""
        ...

    @property
    def init_gain(self) -> float:
        """Factor of the initialisation of dense layers."""
        ...

    @property
    def loss(self) -> str:
        """The loss, which decides the logits that a fixed head must be able to give."""
        ...


def make_network(config: Architecture, seed: int, size: RunSizes) -> tuple[Functional, nnx.State, nnx.State]:
    """Returns the network of a seed, with its parameters and other arrays before the first step."""
    sizes = {"depth": config.depth, "width": config.width, "init_gain": config.init_gain}
    options = sizes | {"rngs": nnx.Rngs(weights_key(seed)), "head": _head(config, seed, size.num_classes)}
    if config.network == "mlp":
        return functional(MLP(math.prod(size.image_shape), size.num_classes, **options))
    if config.network == "resnet18":
        return functional(ResNet18(size.image_shape, size.num_classes, **options))
    return functional(VGG(config.network, size.image_shape, size.num_classes, **options))


def input_shape(config: Architecture, size: RunSizes) -> tuple[int, ...]:
    """Returns the shape of one example as the network takes it: a row for an MLP, else an image."""
    return (math.prod(size.image_shape),) if config.network == "mlp" else size.image_shape


def _head(config: Architecture, seed: int, num_classes: int) -> ETFHead | None:
    if config.head == "learned":
        return None
    # Targets in {-1, +1} sum to 2 - k over the classes, logits of a simplex to 0.
    bias = (2 - num_classes) / num_classes if config.loss == "squared" else 0.0
    rngs = nnx.Rngs(jax.random.fold_in(weights_key(seed), _HEAD))
    return ETFHead(config.width, num_classes, rngs=rngs, bias=bias)
