"""Training as pure functions: an optimizer, one epoch in one compiled scan, and evaluation.

    state = init_state(params, stats, optimizer)
    for epoch in range(num_epochs):
        state, losses = train_epoch(network, optimizer, squared_error, state, x, labels, key, batch_size)

A network is anything hashable with train and predict, as `dnc_jax.networks.Functional`.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple, Protocol, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from dnc_jax.chunking import map_rows
from dnc_jax.errors import NumericalError
from dnc_jax.linalg import share

Loss: TypeAlias = Callable[[Float[Array, "n k"], Int[Array, "n"]], Float[Array, "n"]]
"""The loss of each point, from logits and labels."""

LearningRate: TypeAlias = float | optax.Schedule
OptimizerName: TypeAlias = Literal["sgd", "adam", "adamw"]


class TrainingError(NumericalError):
    """Training that has left the finite numbers."""


class Trainable(Protocol):
    """A network as functions of its params, and of the stats that a training pass may change."""

    def train(self, params: PyTree, stats: PyTree, x: Array) -> tuple[Array, PyTree]:
        """Returns the logits of a batch in training, and the new stats."""
        ...

    def predict(self, params: PyTree, stats: PyTree, x: Array) -> Array:
        """Returns the logits of a batch in evaluation."""
        ...


class TrainState(NamedTuple):
    """What training continues from; step counts the updates."""

    params: PyTree
    stats: PyTree
    opt_state: PyTree
    step: Int[Array, ""]


def squared_error(logits: Float[Array, "n k"], labels: Int[Array, "n"]) -> Float[Array, "n"]:
    """Returns the mean over classes of (logit - target)^2 of each point, the target +1 at its class, else -1.

    References:
        Beaglehole, Sukenik, Mondelli and Belkin (2024).
    """
    targets = 2 * jax.nn.one_hot(labels, logits.shape[1], dtype=logits.dtype) - 1
    return jnp.mean((logits - targets) ** 2, axis=1)


def cross_entropy(logits: Float[Array, "n k"], labels: Int[Array, "n"]) -> Float[Array, "n"]:
    """Returns for each point -log softmax(logits) at its class."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def cosine_schedule(learning_rate: float, *, num_steps: int, warmup_steps: int = 0) -> optax.Schedule:
    """Returns a rate that rises linearly from 0 over warmup_steps, then falls to 0 along half a cosine.

    Raises:
        ValueError: If there are not more steps than steps of warm-up.
    """
    if not 0 <= warmup_steps < num_steps:
        raise ValueError(
            f"warmup_steps must lie in 0..{num_steps - 1}, below num_steps {num_steps}: got {warmup_steps}"
        )
    return optax.warmup_cosine_decay_schedule(
        0.0 if warmup_steps else learning_rate, learning_rate, warmup_steps, num_steps
    )


def make_optimizer(
    name: OptimizerName, learning_rate: LearningRate, *, momentum: float = 0.0, weight_decay: float = 0.0
) -> optax.GradientTransformation:
    """Returns SGD, Adam or AdamW.

    Args:
        momentum: Of SGD; Adam's moments decay by 0.9 and 0.999.
        weight_decay: Added to the gradient as weight_decay * weights, before the moments; AdamW instead
            subtracts it, times the learning rate, from the weights.

    Raises:
        ValueError: For an unknown name, a number out of range, or momentum without SGD.
    """
    if name not in ("sgd", "adam", "adamw"):
        raise ValueError(f"optimizer must be sgd, adam or adamw: got {name!r}")
    if name != "sgd" and momentum:
        raise ValueError(f"momentum is an option of sgd: got {momentum} for {name}")
    if not 0 <= momentum < 1 or not 0 <= weight_decay < float("inf"):
        raise ValueError(
            f"momentum must lie in [0, 1) and weight_decay be at least 0: got {momentum} and {weight_decay}"
        )
    if name == "adamw":
        return optax.adamw(learning_rate, weight_decay=weight_decay)
    inner = optax.adam(learning_rate) if name == "adam" else optax.sgd(learning_rate, momentum or None)
    return optax.chain(optax.add_decayed_weights(weight_decay), inner) if weight_decay else inner


def rate_of(learning_rate: LearningRate, step: int) -> float:
    """Returns the learning rate of a step, counted from 0."""
    return float(jnp.asarray(learning_rate(step))) if callable(learning_rate) else learning_rate


def init_state(params: PyTree, stats: PyTree, optimizer: optax.GradientTransformation) -> TrainState:
    """Returns the state before the first step."""
    return TrainState(params, stats, optimizer.init(params), jnp.zeros((), jnp.int32))


@partial(jax.jit, static_argnames=("network", "optimizer", "loss", "batch_size"), donate_argnames="state")
def train_epoch(
    network: Trainable,
    optimizer: optax.GradientTransformation,
    loss: Loss,
    state: TrainState,
    x: Float[Array, "n *shape"],
    labels: Int[Array, "n"],
    key: PRNGKeyArray,
    batch_size: int,
) -> tuple[TrainState, Float[Array, "steps"]]:
    """Returns the state after one pass over all points in random order, and the mean loss of every batch.

    One compiled scan over device-resident points; the last batch may be smaller. The old state is consumed:
    its buffers are reused.
    """
    num_points = x.shape[0]
    size = min(batch_size, num_points)
    order = jax.random.permutation(key, num_points)

    def step(state: TrainState, rows: Int[Array, "b"]) -> tuple[TrainState, Float[Array, ""]]:
        def batch_loss(params: PyTree) -> tuple[Float[Array, ""], PyTree]:
            logits, stats = network.train(params, state.stats, x[rows])
            return jnp.mean(loss(logits, labels[rows])), stats

        (value, stats), gradient = jax.value_and_grad(batch_loss, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(params, stats, opt_state, state.step + 1), value

    whole = num_points // size * size
    state, losses = jax.lax.scan(step, state, order[:whole].reshape(-1, size))
    if whole < num_points:
        state, last = step(state, order[whole:])
        losses = jnp.append(losses, last)
    return state, losses


class Evaluation(NamedTuple):
    """Mean loss, share of points whose largest logit is that of their class, and the logits."""

    loss: Float[Array, ""]
    accuracy: Float[Array, ""]
    logits: Float[Array, "n k"]


@partial(jax.jit, static_argnames=("network", "loss", "batch_size"))
def evaluate(
    network: Trainable,
    loss: Loss,
    state: TrainState,
    x: Float[Array, "n *shape"],
    labels: Int[Array, "n"],
    *,
    batch_size: int | None = None,
) -> Evaluation:
    """Returns loss, accuracy and logits in evaluation mode; batch_size is how many rows are held at once."""
    logits = map_rows(lambda rows: network.predict(state.params, state.stats, rows), x, batch_size)
    accuracy = share((jnp.argmax(logits, axis=1) == labels).astype(logits.dtype))
    return Evaluation(jnp.mean(loss(logits, labels)), accuracy, logits)


def check_losses(
    losses: Float[Array, "steps"], *, epoch: int, first_step: int, learning_rate: LearningRate
) -> None:
    """Raises TrainingError, with the step and its learning rate, if a loss of an epoch is NaN or infinite.

    The loss of a step, counted from 0, is that of the weights which the steps before it left.
    """
    bad = np.flatnonzero(~np.isfinite(jax.device_get(losses)))
    if bad.size:
        step = first_step + int(bad[0])
        raise TrainingError(
            f"the loss is {float(losses[bad[0]])} at step {step + 1}, in epoch {epoch}, with learning rate "
            f"{rate_of(learning_rate, max(step - 1, 0)):g} in the step before; lower it, warm it up, or "
            "lower the gain of the weights"
        )
