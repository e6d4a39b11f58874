"""Networks and optimizers as an experiment's options ask for them, and networks that a run has trained."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, TypeAlias

import jax
from flax import nnx
from jaxtyping import Array
from optax import GradientTransformation

from dnc_jax.chunking import map_rows
from dnc_jax.networks import MLP, VGG, ETFHead, Functional, ResNet18, functional
from dnc_jax.training import LearningRate, OptimizerName, cosine_schedule, init_state, make_optimizer
from experiments.support.network_runs import EVALUATED, last_state, weights_key
from experiments.support.records import Run
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
        """Factor of the initialization of dense layers."""
        ...

    @property
    def loss(self) -> str:
        """The loss, which decides the logits that a fixed head must be able to give."""
        ...


class Optimization(Protocol):
    """Options that say how a network is trained."""

    @property
    def optimizer(self) -> OptimizerName:
        """Name of the optimizer."""
        ...

    @property
    def learning_rate(self) -> float:
        """Its largest rate."""
        ...

    @property
    def schedule(self) -> Literal["constant", "cosine"]:
        """How the rate changes."""
        ...

    @property
    def warmup_epochs(self) -> int:
        """Epochs until the largest rate."""
        ...

    @property
    def momentum(self) -> float:
        """Of sgd."""
        ...

    @property
    def weight_decay(self) -> float:
        """Factor of the weights."""
        ...

    @property
    def batch_size(self) -> int:
        """Points of a step."""
        ...

    @property
    def epochs(self) -> int:
        """Passes over the points."""
        ...


class Trainable(Architecture, Optimization, Protocol):
    """Options of a network and of its training."""


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


def learning_rate(config: Optimization, num_train: int) -> LearningRate:
    """Returns the configured rate, or its schedule over all steps of the run."""
    if config.schedule == "constant":
        return config.learning_rate
    steps = -(-num_train // config.batch_size)
    return cosine_schedule(
        config.learning_rate, num_steps=steps * config.epochs, warmup_steps=steps * config.warmup_epochs
    )


def optimizer_of(config: Optimization, num_train: int) -> GradientTransformation:
    """Returns the configured optimizer."""
    rate = learning_rate(config, num_train)
    return make_optimizer(config.optimizer, rate, momentum=config.momentum, weight_decay=config.weight_decay)


class Trained(NamedTuple):
    """The layers of a trained network below its classifier, as one function of rows; and the classifier."""

    features: Callable[[Array], Array]
    head: Callable[[Array], Array]


def trained_network(config: Trainable, workdir: Path, seed: int, size: RunSizes) -> Trained:
    """Returns the network that a finished run saved last, in evaluation, for rows of standardized pixels.

    Raises:
        CheckpointError: If the run of the workdir has no whole checkpoint of this seed.
    """
    network, params, stats = make_network(config, seed, size)
    fresh = init_state(params, stats, optimizer_of(config, size.num_train))
    state = last_state(Run(workdir), seed, fresh)
    *below, head = network.layers(state.params, state.stats)
    shape = input_shape(config, size)

    def features(rows: Array) -> Array:
        def one(state: Array) -> Array:
            for layer in below:
                state = layer(state)
            return state

        return map_rows(jax.vmap(one), rows.reshape(-1, *shape), EVALUATED)

    return Trained(jax.jit(features), head)


def _head(config: Architecture, seed: int, num_classes: int) -> ETFHead | None:
    if config.head == "learned":
        return None
    # Targets in {-1, +1} sum to 2 - k over the classes, logits of a simplex to 0.
    bias = (2 - num_classes) / num_classes if config.loss == "squared" else 0.0
    rngs = nnx.Rngs(jax.random.fold_in(weights_key(seed), _HEAD))
    return ETFHead(config.width, num_classes, rngs=rngs, bias=bias)
