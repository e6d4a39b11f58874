"""Training: each optimizer, loss and schedule against numpy, and epochs against a loop of steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dnc_jax.networks import MLP, functional
from dnc_jax.training import (
    TrainingError,
    check_losses,
    cosine_schedule,
    cross_entropy,
    evaluate,
    init_state,
    make_optimizer,
    squared_error,
    train_epoch,
)

RATE = 0.05


class Linear:
    """x @ params, with the number of training passes as stats."""

    def train(self, params, stats, x):
        return x @ params, stats + 1

    def predict(self, params, _stats, x):
        return x @ params


LINEAR = Linear()


def data(n=23, dim=4):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, dim)), rng.integers(0, 3, n), rng.normal(size=(dim, 3))


def losses_by_hand(loss, logits, labels):
    onehot = np.eye(3)[labels]
    if loss is squared_error:
        return ((logits - (2 * onehot - 1)) ** 2).mean(axis=1)
    return np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels]


def gradient_by_hand(loss, weights, x, labels):
    logits, onehot = x @ weights, np.eye(3)[labels]
    if loss is squared_error:
        slope = 2 * (logits - (2 * onehot - 1)) / 3
    else:
        slope = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True) - onehot
    return x.T @ slope / len(x)


def steps_by_hand(name, loss, weights, batches, *, momentum, decay):
    first = second = velocity = np.zeros_like(weights)
    for count, (x, labels) in enumerate(batches, 1):
        gradient = gradient_by_hand(loss, weights, x, labels)
        if name != "adamw":
            gradient = gradient + decay * weights
        if name == "sgd":
            velocity = momentum * velocity + gradient
            weights = weights - RATE * velocity
            continue
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        step = first / (1 - 0.9**count) / (np.sqrt(second / (1 - 0.999**count)) + 1e-8)
        weights = weights - RATE * (step + (decay * weights if name == "adamw" else 0))
    return weights


@pytest.mark.parametrize("loss", [squared_error, cross_entropy])
@pytest.mark.parametrize(
    ("name", "momentum", "decay"),
    [("sgd", 0.0, 0.0), ("sgd", 0.9, 0.1), ("adam", 0.0, 0.0), ("adam", 0.0, 0.1), ("adamw", 0.0, 0.1)],
)
def test_an_epoch_is_a_loop_of_steps_over_batches_in_random_order(name, momentum, decay, loss):
    x, labels, weights = data()
    optimizer = make_optimizer(name, RATE, momentum=momentum, weight_decay=decay)
    state = init_state(jnp.asarray(weights), jnp.zeros(()), optimizer)
    key = jax.random.key(3)
    order = np.asarray(jax.random.permutation(key, len(x)))
    batches = [(x[order[i : i + 5]], labels[order[i : i + 5]]) for i in range(0, len(x), 5)]
    points = jnp.asarray(x), jnp.asarray(labels)
    state, losses = train_epoch(LINEAR, optimizer, loss, state, *points, key, 5)
    true = steps_by_hand(name, loss, weights, batches, momentum=momentum, decay=decay)
    np.testing.assert_allclose(state.params, true, rtol=1e-9, atol=1e-12)
    first = losses_by_hand(loss, batches[0][0] @ weights, batches[0][1]).mean()
    np.testing.assert_allclose(losses[0], first, rtol=1e-12)
    assert losses.shape == (5,)
    assert state.step == state.stats == 5


def test_evaluation_in_blocks_is_that_of_all():
    x, labels, weights = data()
    state = init_state(jnp.asarray(weights), jnp.zeros(()), make_optimizer("sgd", RATE))
    for batch_size in (None, 7):
        found = evaluate(
            LINEAR, cross_entropy, state, jnp.asarray(x), jnp.asarray(labels), batch_size=batch_size
        )
        np.testing.assert_allclose(found.logits, x @ weights, rtol=1e-12)
        true = losses_by_hand(cross_entropy, x @ weights, labels).mean()
        np.testing.assert_allclose(found.loss, true, rtol=1e-12)
        np.testing.assert_allclose(found.accuracy, (np.argmax(x @ weights, axis=1) == labels).mean())


def test_a_network_learns_classes_that_can_be_told_apart():
    rng = np.random.default_rng(0)
    labels = jnp.asarray(np.arange(90) % 3)
    x = jnp.asarray(3 * np.eye(3, 6)[np.asarray(labels)] + 0.3 * rng.normal(size=(90, 6)))
    network, params, stats = functional(MLP(6, 3, depth=2, width=16, rngs=nnx.Rngs(0)))
    optimizer = make_optimizer("adam", 1e-2)
    state = init_state(params, stats, optimizer)
    for epoch in range(20):
        key = jax.random.fold_in(jax.random.key(0), epoch)
        state, _ = train_epoch(network, optimizer, squared_error, state, x, labels, key, 32)
    found = evaluate(network, squared_error, state, x, labels)
    assert found.accuracy == 1
    assert found.loss < 0.1


def test_the_cosine_schedule_warms_up_and_ends_at_zero():
    schedule = cosine_schedule(0.1, num_steps=110, warmup_steps=10)
    rates = [float(schedule(step)) for step in (0, 5, 10, 60, 110)]
    np.testing.assert_allclose(rates, [0, 0.05, 0.1, 0.05, 0], atol=1e-7)
    np.testing.assert_allclose(float(cosine_schedule(0.1, num_steps=10)(0)), 0.1, rtol=1e-6)
    with pytest.raises(ValueError, match=r"warmup_steps must lie in 0\.\.9, below num_steps 10: got 10"):
        cosine_schedule(0.1, num_steps=10, warmup_steps=10)


def test_options_that_no_optimizer_has_are_refused():
    for options, message in (
        ({"name": "adam", "momentum": 0.9}, r"momentum is an option of sgd: got 0\.9 for adam"),
        ({"name": "sgd", "momentum": 1.0}, r"momentum must lie in \[0, 1\)"),
        ({"name": "sgd", "weight_decay": -1.0}, "weight_decay be at least 0"),
    ):
        with pytest.raises(ValueError, match=message):
            make_optimizer(learning_rate=0.1, **options)


def test_a_loss_that_is_not_a_number_is_named_with_its_step():
    check_losses(jnp.ones(3), epoch=2, first_step=6, learning_rate=0.1)
    with pytest.raises(
        TrainingError, match=r"the loss is nan at step 8, in epoch 3, with learning rate 0\.1"
    ):
        check_losses(jnp.asarray([1.0, jnp.nan, jnp.inf]), epoch=3, first_step=6, learning_rate=0.1)
    with pytest.raises(
        TrainingError, match=r"at step 8, in epoch 3, with learning rate 0\.6 in the step before"
    ):
        check_losses(jnp.asarray([1.0, jnp.nan]), epoch=3, first_step=6, learning_rate=lambda step: step / 10)
