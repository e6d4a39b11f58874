from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnc_jax import agop, agop_by_probes, egop
from tests.builders import as_a_user, assert_close, over_devices, with_spectrum
from tests.instances import DTYPES

NUM_KEYS = 200
FIRST, SECOND = with_spectrum([0.5, 1.0, 2.0], seed=0), with_spectrum([-1.0, 0.3, 0.7], seed=1)
UPPER = np.triu_indices(3)


def quadratics(row):
    """x^T A x / 2 and x^T B x / 2, whose EGOP at x ~ N(0, I) is A^2 + B^2."""
    return jnp.stack([row @ jnp.asarray(a, row.dtype) @ row / 2 for a in (FIRST, SECOND)])


def normal(key, num, shape=(3,), dtype=np.float64):
    return jax.random.normal(key, (num, *shape), dtype)


def keys():
    return jax.random.split(jax.random.key(7), NUM_KEYS)


def of_keys(estimate):
    """Values and standard errors of the distinct entries, one row for each key."""
    value, error = jax.jit(jax.vmap(estimate))(keys())
    return np.asarray(value)[:, *UPPER], np.asarray(error)[:, *UPPER]


def calibration(values, errors, true):
    """The share of entries within two standard errors, and the error squared over what was announced."""
    deviations = values - true[UPPER]
    return np.mean(np.abs(deviations) < 2 * errors), np.mean(deviations**2) / np.mean(errors**2)


@pytest.mark.parametrize("outputs", [1, 2])
def test_sampling_errors_fall_like_one_over_root_n(outputs):
    true = FIRST @ FIRST + (outputs == 2) * SECOND @ SECOND
    sizes, root_mean_squares = (32, 128, 512, 2048), []
    for num_samples in sizes:
        estimate = partial(egop, lambda row: quadratics(row)[:outputs], normal, num_samples=num_samples)
        values, _ = of_keys(estimate)
        root_mean_squares.append(np.sqrt(np.mean((values - true[UPPER]) ** 2)))
    slope = np.polyfit(np.log(sizes), np.log(root_mean_squares), 1)[0]
    assert -0.54 < slope < -0.46


def test_standard_errors_of_sampling_are_calibrated():
    values, errors = of_keys(partial(egop, quadratics, normal, num_samples=2048, batch_size=500))
    share, ratio = calibration(values, errors, FIRST @ FIRST + SECOND @ SECOND)
    assert 0.925 < share < 0.975
    assert 0.8 < ratio < 1.25


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch_size", [None, 1, 7, 20])
def test_sampling_is_agop_at_the_samples_with_the_error_of_a_mean(dtype, batch_size, key):
    sampler = partial(normal, shape=(3,), dtype=dtype)
    got = egop(quadratics, sampler, key, num_samples=40, batch_size=batch_size)
    x = np.asarray(sampler(key, 40), np.float64)
    jacobians = np.stack([x @ FIRST, x @ SECOND], axis=1)
    products = np.einsum("nci,ncj->nij", jacobians, jacobians)
    assert_close(got.value, products.mean(axis=0), dtype, "product")
    assert_close(got.standard_error, products.std(axis=0, ddof=1) / np.sqrt(40), dtype, "product")


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_linear_function_is_known_without_error(dtype, key):
    def linear(image):
        return 1e3 * image

    got = egop(linear, partial(normal, shape=(2, 2), dtype=dtype), key, num_samples=50, batch_size=8)
    assert_close(got.value, 1e6 * np.eye(4), dtype, "entry")
    np.testing.assert_array_equal(got.standard_error, 0)
    gradient = jax.grad(lambda s: jnp.sum(egop(lambda r: s * r, normal, key, num_samples=5).standard_error))(
        2.0
    )
    assert np.isfinite(gradient)


def many_outputs(row):
    weights = np.random.default_rng(2).normal(size=(3, 20))
    return jnp.tanh(row.reshape(-1) @ jnp.asarray(weights, row.dtype))


def test_probes_are_unbiased_with_calibrated_errors():
    x = normal(jax.random.key(3), 10)
    probes = partial(agop_by_probes, fn=many_outputs, x=x, batch_size=4)
    few, few_errors = of_keys(lambda key: probes(key, num_probes=8))
    values, errors = of_keys(lambda key: probes(key, num_probes=32))
    share, ratio = calibration(values, errors, np.asarray(agop(many_outputs, x)))
    assert 0.92 < share < 0.975
    assert 0.8 < ratio < 1.25
    mean_error = np.abs(values.mean(axis=0) - np.asarray(agop(many_outputs, x))[UPPER])
    assert np.all(mean_error < 4 * values.std(axis=0) / np.sqrt(NUM_KEYS))
    assert 1.8 < np.sqrt(np.mean(few_errors**2) / np.mean(errors**2)) < 2.2
    assert not np.array_equal(few, values)


@pytest.mark.parametrize("dtype", DTYPES)
def test_probes_of_one_output_are_exact(dtype, key):
    x = normal(jax.random.key(3), 10, (3, 1), dtype)

    def fn(image):
        return jnp.sin(image.sum()) * image[0]

    got = agop_by_probes(key, fn, x, num_probes=3, batch_size=4)
    assert_close(got.value, agop(fn, x.astype(np.float64)), dtype, "product")
    assert np.max(got.standard_error) <= 4 * np.finfo(dtype).eps * np.max(got.value)
    assert got.standard_error.dtype == dtype


def test_probes_over_eight_devices_and_in_blocks_are_those_of_one(key):
    x = normal(jax.random.key(3), 16)
    one = agop_by_probes(key, many_outputs, x, num_probes=3)
    for batch_size in (None, 5):
        probes = jax.jit(
            lambda x, b=batch_size: agop_by_probes(key, many_outputs, x, num_probes=3, batch_size=b)
        )
        for got, true in zip(probes(over_devices(x)), one, strict=True):
            np.testing.assert_allclose(got, true, rtol=1e-10, atol=1e-12)


def test_estimates_refuse_counts_without_a_standard_error(key):
    with pytest.raises(
        ValueError, match=r"num_probes must be at least 2, or there is no standard error: got 1"
    ):
        agop_by_probes(key, many_outputs, normal(key, 4), num_probes=1)
    with pytest.raises(ValueError, match=r"num_samples must be at least 2"):
        egop(quadratics, normal, key, num_samples=1)
    with as_a_user(), pytest.raises(ValueError, match=r"sampler must return shape \(6, ...\): got \(5, 3\)"):
        egop(quadratics, lambda key, num: normal(key, num - 1), key, num_samples=6)
