"""Multi-layer perceptrons: what they compute, what they start from, and their layers as pure functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dnc_jax import agop, layer_agops, nfa_correlation, simplex_etf, svd_stages
from dnc_jax.networks import MLP, ETFHead, Frozen, functional
from tests.builders import assert_close


def small(head=None, **options):
    return MLP(6, 3, depth=2, width=5, rngs=nnx.Rngs(0), head=head, **options)


def by_hand(weights, biases, x):
    for w, b in list(zip(weights, biases, strict=True))[:-1]:
        x = np.maximum(x @ w + b, 0)
    return x @ weights[-1] + biases[-1]


@pytest.mark.parametrize("use_bias", [False, True])
def test_the_network_is_the_chain_of_its_layers(use_bias):
    model = small(use_bias=use_bias)
    if use_bias:
        model.hidden[0].bias[...] = jnp.arange(5.0)
    network, params, stats = functional(model)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(7, 6)))
    layers = network.layers(params, stats)
    true = by_hand(
        [np.asarray(a.weights) for a in layers], [np.asarray(a.bias) for a in layers], np.asarray(x)
    )
    logits, after = network.train(params, stats, x)
    assert_close(logits, true, np.dtype("float64"), "product")
    assert_close(jax.jit(network.predict)(params, stats, x), true, np.dtype("float64"), "product")
    chained = x[2]
    for layer in layers:
        chained = layer(chained)
    assert_close(chained, true[2], np.dtype("float64"), "product")
    assert jax.tree.leaves(after) == []


def test_weights_are_uniform_with_the_variance_of_glorot_times_the_gain():
    model = MLP(400, 10, depth=2, width=300, init_gain=0.1, rngs=nnx.Rngs(1))
    for layer in [*model.hidden, model.head]:
        weights = np.asarray(layer.kernel[...])
        limit = 300**-0.5 if layer is model.head else 0.1 * np.sqrt(6 / sum(weights.shape))
        assert np.abs(weights).max() <= limit
        np.testing.assert_allclose(weights.std(), limit / np.sqrt(3), rtol=0.03)
        assert layer.bias is None


def test_one_seed_gives_one_network_and_another_another():
    first, again, other = (
        jax.tree.leaves(functional(MLP(6, 3, depth=2, width=5, rngs=nnx.Rngs(seed)))[1]) for seed in (0, 0, 1)
    )
    for a, b, c in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.any(a != c)


def test_layers_serve_agops_stages_and_the_ansatz():
    network, params, stats = functional(small())
    x = jnp.asarray(np.random.default_rng(0).normal(size=(20, 6)))
    layers = network.layers(params, stats)
    agops = layer_agops(layers, x)
    whole = agop(lambda row: network.predict(params, stats, row[None])[0], x)
    np.testing.assert_allclose(agops[0], whole, rtol=1e-12, atol=1e-14)
    stages = svd_stages(x, layers[0].weights, layers[0].activation)
    np.testing.assert_allclose(stages.nonlinear, layers[0](x), rtol=1e-12)
    assert -1 <= nfa_correlation(layers[0].weights, agops[0], power=0.5) <= 1


def test_a_fixed_head_is_a_simplex_that_is_no_parameter():
    head = ETFHead(5, 3, rngs=nnx.Rngs(7), bias=-1 / 3, scale=2.0)
    network, params, stats = functional(small(head=head))
    assert [leaf.shape for leaf in jax.tree.leaves(params)] == [(6, 5), (5, 5)]
    weights = network.layers(params, stats)[-1].weights
    np.testing.assert_allclose(weights.T @ weights, 4 * (1.5 * np.eye(3) - 0.5), atol=1e-12)
    np.testing.assert_allclose(network.layers(params, stats)[-1].bias, -1 / 3)
    logits, after = network.train(params, stats, jnp.ones((2, 6)))
    np.testing.assert_allclose(logits.sum(axis=1), -1, rtol=1e-12)
    for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(stats), strict=True):
        np.testing.assert_array_equal(a, b)
    assert isinstance(head.kernel, Frozen)
    assert simplex_etf(jax.random.key(0), 3, 5).T.shape == weights.shape


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 0}, "depth must be at least 1: got 0"),
        ({"width": -1}, "width must be at least 1: got -1"),
        ({"init_gain": 0.0}, r"init_gain must be a positive number: got 0\.0"),
    ],
)
def test_sizes_that_no_network_has_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MLP(6, 3, rngs=nnx.Rngs(0), **options)
    with pytest.raises(ValueError, match="dim must be at least num_classes - 1 = 9"):
        ETFHead(5, 10, rngs=nnx.Rngs(0))
