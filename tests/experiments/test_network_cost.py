"""What a training must compute and hold, against counts by hand and against what is compiled."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np

from dnc_jax.networks import Conv, Dense
from dnc_jax.networks.convolutional import global_mean
from experiments.support import network_measures
from experiments.support.network_cost import layer_costs, training_cost
from experiments.support.network_measures import preactivation_agops, rows_per_block


def dense(*dims):
    return [Dense(jnp.zeros(pair, jnp.float32), jnp.zeros(pair[1], jnp.float32)) for pair in pairwise(dims)]


def convolutions():
    rng = np.random.default_rng(0)
    weights = [jnp.asarray(rng.normal(size=(3, 3, d, p)), jnp.float32) for d, p in ((2, 8), (8, 16))]
    ones = [jnp.ones(w.shape[-1], jnp.float32) for w in weights]
    first = Conv(weights[0], ones[0], 0 * ones[0], jax.nn.relu, stride=2)
    return [first, Conv(weights[1], ones[1], 0 * ones[1], jax.nn.relu, global_mean), *dense(16, 5)]


def test_costs_of_layers_are_counted_from_their_shapes():
    first, second, head = layer_costs(convolutions(), jax.ShapeDtypeStruct((10, 12, 2), jnp.float32))
    assert first.flops == 2 * (5 * 6) * (9 * 2) * 8
    assert (first.num_outputs, first.num_patch_entries) == (2 * 5 * 6 * 8, 5 * 6 * 18)
    assert second.flops == 2 * (5 * 6) * (9 * 8) * 16
    assert (second.num_outputs, second.num_patch_entries) == (5 * 6 * 16 + 16, 5 * 6 * 72)
    assert head.flops == 2 * 16 * 5


def test_a_training_takes_three_products_for_each_of_the_forward_pass():
    layers = dense(4, 3, 2)
    params = [layer.weights for layer in layers]
    options = {"image_shape": (4,), "dtype": jnp.dtype(jnp.float32), "num_images": 2**20, "batch_size": 2}
    text = training_cost(layers, params, [], num_epochs=10, **options)
    flops = 3 * 2**20 * 2 * (12 + 6)
    assert text.startswith(f"products: {flops:.2g} flops an epoch, {10 * flops:.2g} in all")
    assert "images 16 MiB" in text


def test_blocks_of_gradients_keep_to_their_budget(monkeypatch):
    x = jnp.zeros((500, 4), jnp.float32)
    per_point = (2 * 1000 + 2 * 10 + 2 * 10 * 2000) * 4
    for rows, expected in ((7, 7), (10_000, 500)):
        monkeypatch.setattr(network_measures, "AGOP_BYTES", rows * per_point)
        assert rows_per_block(dense(4, 1000, 10), x) == expected


def test_the_compiled_program_keeps_to_the_budget(monkeypatch):
    layers = convolutions()
    x = jnp.asarray(np.random.default_rng(1).normal(size=(256, 16, 16, 2)), jnp.float32)
    monkeypatch.setattr(network_measures, "AGOP_BYTES", 2**21)

    def held(block):
        compiled = preactivation_agops.lower(tuple(layers), x, block).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    block = rows_per_block(layers, x)
    assert 1 < block < 64
    # The pre-activations of the first layer are those of all points.
    assert held(block) < 2 * 2**21 + 256 * 8 * 8 * 8 * 4
    assert held(256) > 4 * held(block)
