"""VGG and ResNet: their layers as pure functions chain to the network, and serve stages and patch AGOPs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dnc_jax import layer_agops, nfa_correlation, nfm
from dnc_jax.networks import VGG, Conv, Dense, ResNet18, functional
from dnc_jax.networks import resnet as resnets
from dnc_jax.networks import vgg as vggs
from dnc_jax.networks.convolutional import ConvBlock, flatten, global_mean, max_pool


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    # The same structure with few channels: a test compiles it in seconds.
    monkeypatch.setattr(
        vggs, "CHANNELS", {"vgg11": ((3,), (4,), (5, 5), (6, 6)), "vgg13": ((3, 3), (4, 4), (5, 5), (6, 6))}
    )
    monkeypatch.setattr(resnets, "STAGES", ((3, 1), (4, 2), (5, 2), (6, 2)))


def make(name, shape=(8, 8, 2), **options):
    options = {"depth": 2, "width": 7, "rngs": nnx.Rngs(0)} | options
    return ResNet18(shape, 3, **options) if name == "resnet18" else VGG(name, shape, 3, **options)


def images(num=6, shape=(8, 8, 2)):
    return jnp.asarray(np.random.default_rng(0).normal(size=(num, *shape)))


def trained(name):
    """A network whose moments and scales have left their first values."""
    network, params, stats = functional(make(name))
    for _ in range(2):
        _, stats = network.train(params, stats, 2 * images() + 1)
    params = jax.tree.map(
        lambda p: p + 0.1 * jnp.sin(jnp.arange(p.size, dtype=p.dtype)).reshape(p.shape), params
    )
    return network, params, stats


NAMES = ["vgg11", "vgg13", "resnet18"]


@pytest.mark.parametrize("name", NAMES)
def test_the_network_is_the_chain_of_its_layers(name):
    network, params, stats = trained(name)
    layers = network.layers(params, stats)

    def chain(x):
        for layer in layers:
            x = layer(x)
        return x

    expected = jax.jit(network.predict)(params, stats, images())
    np.testing.assert_allclose(jax.jit(jax.vmap(chain))(images()), expected, rtol=1e-9, atol=1e-10)


def test_the_networks_have_the_published_layers():
    shapes = [layer.weights.shape for layer in functional_layers("vgg11")]
    assert shapes == [
        *((3, 3, 2, 3), (3, 3, 3, 4), (3, 3, 4, 5), (3, 3, 5, 5), (3, 3, 5, 6), (3, 3, 6, 6)),
        *((6, 7), (7, 7), (7, 7), (7, 3)),
    ]
    assert len(functional_layers("vgg13")) == 8 + 4
    roles = [layer.role for layer in functional_layers("resnet18")[:-3]]
    block, first = ["shortcut", "chain", "join", "fork", "join"], ["chain", "fork", "join", "fork", "join"]
    assert roles == [*first, *block, *block, *block]


def functional_layers(name):
    network, params, stats = functional(make(name))
    return network.layers(params, stats)


@pytest.mark.parametrize(("pixels", "left"), [(28, 4), (32, 4)])
def test_images_of_both_sizes_leave_sixteen_pixels(pixels, left):
    network, params, stats = functional(make("vgg11", (pixels, pixels, 1)))
    dense = [layer for layer in network.layers(params, stats) if isinstance(layer, Dense)]
    assert dense[0].weights.shape == (left * left * 6, 7)
    assert network.predict(params, stats, images(2, (pixels, pixels, 1))).shape == (2, 3)


@pytest.mark.parametrize("name", ["vgg11", "resnet18"])
def test_the_agop_of_patches_is_that_of_a_convolution_whose_patches_are_free(name):
    network, params, stats = trained(name)
    layers, x = network.layers(params, stats), images(3)
    parts = [part for layer in layers for part in (layer.linear, layer.rest)]
    agops = jax.jit(lambda x: layer_agops(parts, x, per_position=True))(x)
    state = x
    for index, layer in enumerate(layers):
        if isinstance(layer, Conv):
            z = jax.vmap(layer.linear)(state)

            def after(moved, rest_of, start=index):
                for part in parts[2 * start + 1 :]:
                    moved = part((moved, rest_of) if rest_of is not None else moved)
                    rest_of, moved = (moved[1], moved[0]) if isinstance(moved, tuple) else (None, moved)
                return moved

            if index in (0, 2, 5, 6):
                main, carried = z if isinstance(z, tuple) else (z, None)
                jacobians = jax.jit(jax.vmap(jax.jacobian(after)))(main, carried)
                true = np.einsum("ncija,ncijb->ab", jacobians, jacobians) / 3
                np.testing.assert_allclose(agops[2 * index + 1], true, rtol=1e-7, atol=1e-12)
        state = jax.vmap(layer)(state)


@pytest.mark.parametrize("role", ["chain", "shortcut"])
def test_a_convolution_is_its_matrix_times_patches(role):
    rng = np.random.default_rng(1)
    weights = jnp.asarray(rng.normal(size=(3, 3, 2, 4)))
    layer = Conv(weights, jnp.ones(4), jnp.arange(4.0), jax.nn.relu, max_pool, 2, role)
    image = images(1)[0]
    padded = np.pad(np.asarray(image), ((0, 1), (0, 1), (0, 0)))
    patches = np.array([[padded[i : i + 3, j : j + 3].ravel() for j in (0, 2, 4, 6)] for i in (0, 2, 4, 6)])
    out = np.maximum(patches @ np.asarray(layer.matrix) + np.arange(4), 0)
    np.testing.assert_allclose(layer.features(image), out, rtol=1e-12, atol=1e-12)
    assert nfm(layer.matrix).shape == (18, 18)
    after = layer(image)
    if role == "shortcut":
        np.testing.assert_array_equal(after[0], image)
        np.testing.assert_allclose(after[1], out, rtol=1e-12, atol=1e-12)
    else:
        np.testing.assert_allclose(after, out.reshape(2, 2, 2, 2, 4).max(axis=(1, 3)), rtol=1e-12, atol=1e-12)


def test_poolings_are_those_of_single_images_too():
    x = images(2, (5, 7, 3))
    assert max_pool(x).shape == (2, 3, 4, 3)
    for pool in (max_pool, flatten, global_mean):
        np.testing.assert_array_equal(pool(x)[1], pool(x[1]))
    np.testing.assert_array_equal(max_pool(x)[0, 2, 3], x[0, 4, 6])


def test_batch_normalization_changes_in_training_and_not_in_evaluation():
    network, params, stats = functional(make("resnet18"))
    logits, after = network.train(params, stats, images())
    assert any(
        bool(jnp.any(a != b)) for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(stats), strict=True)
    )
    one = network.predict(params, after, images()[:1])
    np.testing.assert_allclose(network.predict(params, after, images())[:1], one, rtol=1e-9)
    assert logits.shape == (6, 3)


def test_weights_of_convolutions_are_those_of_he():
    block = ConvBlock(40, 50, rngs=nnx.Rngs(3))
    weights = np.asarray(block.kernel[...])
    np.testing.assert_allclose(weights.std(), np.sqrt(2 / (9 * 50)), rtol=0.02)


def test_layers_of_a_network_have_correlations_with_their_agops():
    network, params, stats = trained("resnet18")
    layers = network.layers(params, stats)
    parts = [part for layer in layers for part in (layer.linear, layer.rest)]
    agops = layer_agops(parts, images(), per_position=True)
    for layer, agop in zip(layers, agops[1::2], strict=True):
        value = nfa_correlation(layer.matrix, layer.matrix @ agop @ layer.matrix.T)
        assert -1 <= value <= 1


def test_a_network_of_another_name_is_refused():
    with pytest.raises(ValueError, match=r"name must be one of vgg11, vgg13: got 'vgg12'"):
        make("vgg12")
