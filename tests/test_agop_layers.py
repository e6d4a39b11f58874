from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnc_jax import agop, layer_agops
from tests import oracles
from tests.builders import as_a_user, assert_close, over_devices
from tests.instances import DTYPES


class Stack(NamedTuple):
    """An object that has layers."""

    layers: list


def layers(dtype=np.float64):
    """An image of shape (3, 4, 2) through a convolution, a flattening, dense layers and a residual one."""
    rng = np.random.default_rng(0)
    filters, first, square, last = (
        jnp.asarray(rng.normal(size=s), dtype) for s in ((2, 2, 2, 3), (18, 6), (6, 6), (6, 4))
    )

    def convolve(image):
        strides, numbers = (1, 1), ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            image[None], filters, strides, "VALID", dimension_numbers=numbers
        )[0]

    return [
        convolve,
        lambda h: jnp.tanh(h.reshape(-1)),
        lambda h: jax.nn.relu(h @ first),
        lambda h: h + jnp.sin(h @ square),
        lambda h: (h @ last).reshape(2, 2),
    ]


def images(num=16, dtype=np.float64, seed=1):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(num, 3, 4, 2)), dtype)


def rest(network, first):
    def fn(h):
        for layer in network[first:]:
            h = layer(h)
        return h

    return fn


def one_by_one(network, x, **options):
    results = []
    for index, layer in enumerate(network):
        results.append(agop(rest(network, index), x, **options))
        x = jax.vmap(layer)(x)
    return results


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("batch_size", [None, 1, 5, 8])
def test_every_layer_is_the_agop_of_the_rest_of_the_network(diagonal, batch_size):
    network, x = layers(), images()
    got = jax.jit(lambda x: layer_agops(network, x, batch_size=batch_size, diagonal=diagonal))(x)
    true = one_by_one(network, x, diagonal=diagonal)
    assert [a.shape[0] for a in got] == [24, 18, 18, 6, 6]
    for a, b in zip(got, true, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_layers_follow_numerical_jacobians():
    network, x = layers()[2:4], images().reshape(16, -1)[:, :18]
    for got, index in zip(layer_agops(network, x), range(2), strict=True):
        jacobians = np.stack([oracles.numerical_jacobian(rest(network, index), row) for row in np.asarray(x)])
        np.testing.assert_allclose(got, oracles.agop(jacobians), rtol=1e-6, atol=1e-7)
        x = jax.vmap(network[index])(x)


def test_a_scalar_output_and_one_layer_are_a_network_too():
    x = images().reshape(16, -1)
    (got,) = layer_agops([lambda row: jnp.sum(row**2) / 2], x)
    np.testing.assert_allclose(got, np.asarray(x).T @ np.asarray(x) / 16, rtol=1e-12, atol=1e-14)


def test_an_object_with_layers_is_a_network():
    for a, b in zip(layer_agops(Stack(layers()), images()), layer_agops(layers(), images()), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", DTYPES)
def test_layer_agops_keep_the_dtype_and_are_the_same_jitted(dtype):
    network = layers(dtype)
    eager = layer_agops(network, images(dtype=dtype))
    jitted = jax.jit(lambda x: layer_agops(network, x))(images(dtype=dtype))
    for a, b, true in zip(eager, jitted, layer_agops(layers(), images()), strict=True):
        assert_close(a, true, dtype, "solve")
        assert_close(b, a, dtype, "product")


def test_layer_agops_run_under_vmap_and_have_gradients():
    network, stack = layers(), jnp.stack([images(4), images(4, seed=2)])
    all_agops = jax.jit(partial(layer_agops, network, batch_size=3))
    mapped = jax.jit(jax.vmap(partial(layer_agops, network, batch_size=3)))(stack)
    for index, x in enumerate(stack):
        for got, true in zip(mapped, all_agops(x), strict=True):
            np.testing.assert_allclose(got[index], true, rtol=1e-11, atol=1e-13)

    @jax.jit
    def trace(scale):
        return jnp.trace(layer_agops([*network, lambda h: scale * h], stack[0], batch_size=3)[0])

    np.testing.assert_allclose(jax.jit(jax.grad(trace))(3.0), 6 * trace(1.0), rtol=1e-10)


def test_layer_agops_over_eight_devices_are_those_of_one():
    network, x = layers(), images()
    for batch_size in (None, 4):
        sharded = jax.jit(lambda x, b=batch_size: layer_agops(network, x, batch_size=b))(over_devices(x))
        for got, true in zip(sharded, layer_agops(network, x), strict=True):
            np.testing.assert_allclose(got, true, rtol=1e-11, atol=1e-13)


def test_one_forward_pass_and_one_backward_pass_serve_all_layers():
    calls = []

    def counted(index, layer):
        def fn(h):
            calls.append(index)
            return layer(h)

        return fn

    layer_agops([counted(i, layer) for i, layer in enumerate(layers())], images())
    assert calls == [0, 1, 2, 3, 4]


def test_layer_agops_refuse_what_is_no_network():
    with pytest.raises(ValueError, match=r"at least one layer and x at least one row: got 0 layers"):
        layer_agops([], images())
    with pytest.raises(ValueError, match=r"got 5 layers and x of shape \(0, 3, 4, 2\)"):
        layer_agops(layers(), images()[:0])
    with pytest.raises(
        ValueError, match=r"the last layer of network must return one array: got a tuple of 2"
    ):
        layer_agops([lambda h: h, lambda h: (h, h)], images())
    with pytest.raises(ValueError, match=r"one array, or a tuple of arrays: got dict from layer 0"):
        layer_agops([lambda h: {"h": h}, lambda h: h["h"]], images())
    with as_a_user(), pytest.raises(ValueError, match=r"batch_size must be at least 1"):
        layer_agops(layers(), images(), batch_size=0)


def convolve(filters):
    def layer(image):
        strides, numbers = (1, 1), ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            image[None], filters, strides, "VALID", dimension_numbers=numbers
        )[0]

    return layer


def with_filters():
    rng = np.random.default_rng(3)
    filters = jnp.asarray(rng.normal(size=(2, 2, 2, 3)))
    last = jnp.asarray(rng.normal(size=(18, 4)))
    return filters, [convolve(filters), jnp.tanh, lambda h: h.reshape(-1) @ last]


def test_per_position_and_the_weights_of_a_convolution_give_the_agop_of_its_patches():
    filters, network = with_filters()
    x = images()
    patches = np.stack([x[:, i : i + 2, j : j + 2].reshape(16, 8) for i in range(2) for j in range(3)], 1)

    def of_patches(rows):
        return network[2](jnp.tanh((rows @ filters.reshape(8, 3)).reshape(2, 3, 3)))

    jacobians = np.stack([jax.jacobian(of_patches)(rows) for rows in patches])
    true = np.einsum("ncpa,ncpb->ab", jacobians, jacobians) / 16
    agops = layer_agops(network, x, per_position=True, batch_size=5)
    assert [a.shape for a in agops] == [(2, 2), (3, 3), (3, 3)]
    weights = filters.reshape(8, 3)
    np.testing.assert_allclose(weights @ agops[1] @ weights.T, true, rtol=1e-10, atol=1e-12)
    diagonals = layer_agops(network, x, per_position=True, diagonal=True)
    for whole, diagonal in zip(agops, diagonals, strict=True):
        np.testing.assert_allclose(np.diagonal(whole), diagonal, rtol=1e-10)


def test_per_position_changes_nothing_for_rows_and_numbers():
    network = [lambda h: jnp.sin(h), lambda h: jnp.sum(h**2), lambda h: h**2]
    x = images().reshape(16, -1)
    for a, b in zip(layer_agops(network, x), layer_agops(network, x, per_position=True), strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_array_that_is_carried_past_a_layer_counts_for_those_that_use_it():
    rng = np.random.default_rng(0)
    first, second = (jnp.asarray(rng.normal(size=(6, 6))) for _ in range(2))
    x = images().reshape(-1, 6)
    network = [
        lambda h: (h @ first, h),
        lambda state: (jnp.tanh(state[0]) @ second, state[1]),
        lambda state: jax.nn.relu(state[0] + state[1]),
    ]

    def whole(h):
        return jax.nn.relu(jnp.tanh(h @ first) @ second + h)

    got = layer_agops(network, x, batch_size=7)
    np.testing.assert_allclose(got[0], agop(whole, x), rtol=1e-10, atol=1e-12)
    inside = jax.vmap(jax.jacobian(lambda z, h: jax.nn.relu(jnp.tanh(z) @ second + h)))(x @ first, x)
    np.testing.assert_allclose(
        got[1], np.einsum("nca,ncb->ab", inside, inside) / len(x), rtol=1e-10, atol=1e-12
    )
