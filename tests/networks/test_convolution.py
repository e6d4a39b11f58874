"""The product of patches is XLA's convolution, for all strides and sizes, and so are its derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnc_jax.networks.convolution import convolve

CASES = [
    ((2, 8, 8, 3), (3, 3, 3, 4), 1),
    ((2, 8, 8, 3), (3, 3, 3, 4), 2),
    ((1, 7, 5, 2), (3, 3, 2, 3), 2),
    ((1, 7, 5, 2), (4, 4, 2, 3), 1),
    ((2, 6, 6, 2), (1, 1, 2, 5), 2),
    ((1, 9, 8, 1), (5, 5, 1, 2), 3),
]


def arrays(shape, window):
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(size=shape)), jnp.asarray(rng.normal(size=window))


def convolved_by_library(x, weights, stride):
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, weights, (stride, stride), "SAME", dimension_numbers=numbers)


@pytest.mark.parametrize(("shape", "window", "stride"), CASES)
def test_a_convolution_is_the_one_of_the_library(shape, window, stride):
    x, weights = arrays(shape, window)
    expected = convolved_by_library(x, weights, stride)
    np.testing.assert_allclose(convolve(x, weights, stride), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("shape", "window", "stride"), CASES[:3])
def test_its_derivatives_are_those_of_the_library(shape, window, stride):
    x, weights = arrays(shape, window)

    def loss(function):
        return lambda x, weights: jnp.sum(jnp.sin(function(x, weights, stride)))

    found, expected = (
        jax.grad(loss(f), argnums=(0, 1))(x, weights) for f in (convolve, convolved_by_library)
    )
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11)


def test_on_other_platforms_it_is_the_library_that_convolves():
    x, weights = arrays(*CASES[0][:2])
    exported = jax.export.export(jax.jit(lambda x, w: convolve(x, w, 1)), platforms=["cuda"])(x, weights)
    assert "stablehlo.convolution" in exported.mlir_module()
    on_cpu = jax.export.export(jax.jit(lambda x, w: convolve(x, w, 1)), platforms=["cpu"])(x, weights)
    assert "stablehlo.convolution" not in on_cpu.mlir_module()
