from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dnc_jax
from dnc_jax import FourierFeatures, ReLUFeatures, relu_features
from tests.instances import DTYPES, FOURIER_SAMPLERS, SAMPLERS


@pytest.mark.parametrize("dtype", DTYPES)
def test_relu_features_are_the_positive_part_of_a_product(dtype):
    rng = np.random.default_rng(0)
    x, weights = rng.normal(size=(6, 4)).astype(dtype), rng.normal(size=(4, 9)).astype(dtype)
    got = ReLUFeatures(jnp.asarray(weights))(jnp.asarray(x))
    assert got.dtype == dtype
    np.testing.assert_allclose(got, np.maximum(x @ weights, 0), rtol=1e-5, atol=1e-6)
    assert np.min(got) == 0


def test_relu_weights_are_rounded_once_so_that_devices_draw_the_same_bits(key):
    uniform = np.asarray(jax.random.uniform(key, (25, 8000), jnp.float32))
    once_rounded = ((2 * uniform.astype(np.float64) - 1) * np.float32(25**-0.5)).astype(np.float32)
    np.testing.assert_array_equal(relu_features(key, 25, 8000).weights, once_rounded)


@pytest.mark.parametrize("dtype", DTYPES)
def test_fourier_features_are_scaled_cosines(dtype):
    rng = np.random.default_rng(0)
    x, frequencies, phases = (rng.normal(size=s).astype(dtype) for s in ((6, 4), (4, 9), (9,)))
    got = FourierFeatures(jnp.asarray(frequencies), jnp.asarray(phases))(jnp.asarray(x))
    assert got.dtype == dtype
    np.testing.assert_allclose(got, np.sqrt(2 / 9) * np.cos(x @ frequencies + phases), rtol=1e-4, atol=1e-5)


def test_relu_weights_are_uniform_within_one_over_root_d(key):
    weights = np.asarray(relu_features(key, 25, 8000).weights)
    assert weights.shape == (25, 8000)
    assert np.abs(weights).max() <= 0.2
    # Mean, variance and fourth moment of the uniform law, within five standard errors of 200,000 draws.
    unit = weights.ravel() / 0.2
    for power, moment in ((1, 0.0), (2, 1 / 3), (4, 1 / 5)):
        draws = unit**power
        assert abs(draws.mean() - moment) < 5 * draws.std() / np.sqrt(draws.size)
    quartiles = np.quantile(unit, [0.25, 0.5, 0.75])
    np.testing.assert_allclose(quartiles, [-0.5, 0, 0.5], atol=0.01)


def kernel_errors(case, width, num_keys=8):
    """Root mean squared error of phi(x).phi(z) against the kernel, over pairs and keys."""
    x = np.random.default_rng(0).normal(size=(12, 3))
    true = case.kernel_of(x[:, None] - x[None])
    squared = []
    for key in jax.random.split(jax.random.key(1), num_keys):
        phi = np.asarray(case.sample(key, 3, width)(jnp.asarray(x)))
        squared.append(((phi @ phi.T - true) ** 2).mean())
    return np.sqrt(np.mean(squared))


@pytest.mark.parametrize("case", FOURIER_SAMPLERS)
def test_fourier_features_approximate_their_kernel_like_one_over_root_width(case):
    narrow, wide = kernel_errors(case, 250), kernel_errors(case, 16_000)
    # 64 times the width, an eighth of the error; one entry deviates by sqrt(1.5 / width) at most.
    assert 5 < narrow / wide < 13
    assert wide < np.sqrt(1.5 / 16_000)


def test_the_three_kernels_are_told_apart():
    laplace, product = (FOURIER_SAMPLERS[i].values[0] for i in (1, 2))
    wrong = kernel_errors(laplace._replace(kernel_of=product.kernel_of), 16_000)
    assert wrong > 10 * kernel_errors(laplace, 16_000)


@pytest.mark.parametrize("sample", SAMPLERS)
def test_samplers_are_functions_of_their_key(sample):
    first, again, other = (sample(jax.random.key(seed), 4, 6) for seed in (0, 0, 1))
    for a, b, c in zip(*map(jax.tree.leaves, (first, again, other)), strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.any(np.asarray(a) != np.asarray(c))


@pytest.mark.parametrize("sample", SAMPLERS)
def test_maps_are_pytrees_that_run_under_jit(sample):
    features = sample(jax.random.key(0), 4, 6)
    rebuilt = jax.tree.unflatten(jax.tree.structure(features), jax.tree.leaves(features))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 4)))
    assert features(x).shape == (5, 6)
    np.testing.assert_allclose(jax.jit(lambda f, x: f(x))(rebuilt, x), features(x), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("sample", SAMPLERS)
@pytest.mark.parametrize("sizes", [(0, 4), (4, 0)])
def test_sizes_below_one_are_refused(sample, sizes):
    with pytest.raises(ValueError, match=r"in_dim and width must be at least 1: got in_dim"):
        sample(jax.random.key(0), *sizes)


@pytest.mark.parametrize("name", ["gaussian", "laplace", "product_laplace"])
def test_bandwidths_scale_the_frequencies_and_are_checked(name, key):
    sample = getattr(dnc_jax, f"{name}_fourier_features")
    narrow, wide = sample(key, 4, 6, bandwidth=1.0), sample(key, 4, 6, bandwidth=2.0)
    np.testing.assert_allclose(wide.frequencies, narrow.frequencies / 2, rtol=1e-12)
    assert np.all((np.asarray(wide.phases) >= 0) & (np.asarray(wide.phases) <= 2 * np.pi))
    for bandwidth in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=r"bandwidth of the features must be a positive finite number"):
            partial(sample, key, 4, 6)(bandwidth=bandwidth)
