"""AGOPs over batches of rows, and at drawn ones with their standard error."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnc_jax import KernelMachine, Laplace, fit_deep_rfm_layer, relu_features
from dnc_jax.agop import kernel_agop_core
from dnc_jax.agop_streamed import draw_points, drawn_agop, relative_error, streamed_agop
from dnc_jax.deep_rfm import fit_deep_rfm_layer_with_diagnostics
from tests import oracles
from tests.builders import as_a_user, assert_close
from tests.instances import LAPLACE

NUM_POINTS, DIM, NUM_OUTPUTS = 60, 5, 30


def machine(num_points=NUM_POINTS):
    rng = np.random.default_rng(0)
    x, weights = rng.normal(size=(num_points, DIM)), rng.normal(size=(num_points, NUM_OUTPUTS))
    return KernelMachine(LAPLACE.kernel, jnp.asarray(x), jnp.asarray(weights))


def gradients(of, rows=None):
    x = of.centers if rows is None else of.centers[rows]
    return LAPLACE.gradients(x, of.centers, of.weights)


@pytest.mark.parametrize("num_rows", [1, 3, 7, 60])
def test_the_streamed_form_is_the_oracle(num_rows):
    # A batch of 3 rows is smaller than DIM and its outputs are taken in groups; one of 7 is not.
    got, diagnostics = jax.jit(streamed_agop, static_argnums=1)(machine(), 8 * NUM_POINTS * num_rows)
    assert_close(got, oracles.agop(gradients(machine())), np.float64, "product")
    assert bool(diagnostics.is_direct)
    whole = kernel_agop_core(machine(), is_direct=True)[1]
    np.testing.assert_allclose(diagnostics.cancellation, whole.cancellation, rtol=1e-10)
    assert float(whole.cancellation) > 1.01


@pytest.mark.parametrize("num_rows", [1, 4, 60])
@pytest.mark.parametrize("size", [2, 9, 29, 60])
def test_the_mean_is_over_the_drawn_points(size, num_rows):
    drawn = draw_points(jax.random.key(1), NUM_POINTS, size)
    assert len(set(np.asarray(drawn).tolist())) == size
    estimate, diagnostics = jax.jit(drawn_agop, static_argnums=2)(machine(), drawn, 8 * NUM_POINTS * num_rows)
    assert_close(estimate.value, oracles.agop(gradients(machine(), drawn)), np.float64, "product")
    assert np.all(np.isfinite(estimate.standard_error))
    at_drawn = kernel_agop_core(machine(), machine().centers[drawn], is_direct=True)[1]
    np.testing.assert_allclose(diagnostics.cancellation, at_drawn.cancellation, rtol=1e-9)
    assert (float(relative_error(estimate)) > 0) == (size < NUM_POINTS)


def test_the_standard_error_is_the_spread_of_draws():
    of = machine(400)
    whole = oracles.agop(gradients(of))
    estimate_of = jax.jit(lambda drawn: drawn_agop(of, drawn, 2**12)[0])
    draws = [draw_points(jax.random.key(seed), 400, 200) for seed in range(60)]
    estimates = [estimate_of(drawn) for drawn in draws]
    spread = np.sqrt(np.mean([(one.value - whole) ** 2 for one in estimates], axis=0))
    claimed = np.sqrt(np.mean([one.standard_error**2 for one in estimates], axis=0))
    np.testing.assert_allclose(np.linalg.norm(claimed), np.linalg.norm(spread), rtol=0.15)


def test_points_are_drawn_in_random_order_by_the_key():
    first, second = (np.asarray(draw_points(jax.random.key(seed), 50, 20)) for seed in (0, 1))
    assert np.any(np.diff(first) < 0)
    assert set(first) != set(second)
    np.testing.assert_array_equal(draw_points(jax.random.key(0), 50, 20), first)


def layer_options(num_points=40):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(num_points, DIM)))
    targets = jnp.asarray(np.sign(rng.normal(size=(num_points, 2))))
    sample = partial(relu_features, width=6)
    return (x, targets), {"kernel": Laplace(2.0), "ridge": 1e-2, "sample_features": sample}


def test_a_layer_takes_its_agop_at_as_many_points_as_it_is_told():
    points, options = layer_options()
    found = [
        fit_deep_rfm_layer_with_diagnostics(jax.random.key(seed), *points, agop_size=size, **options)
        for seed, size in ((0, None), (0, 40), (0, 10), (1, 10))
    ]
    matrices = [np.asarray(layer.feature_matrix) for layer, _ in found]
    np.testing.assert_allclose(matrices[1], matrices[0], rtol=1e-10, atol=1e-12)
    assert np.abs(matrices[2] - matrices[0]).max() > 1e-3
    assert np.abs(matrices[3] - matrices[2]).max() > 1e-3
    errors = [float(diagnostics.agop_error) for _, diagnostics in found]
    assert errors[:2] == [0, 0]
    assert 0.01 < errors[2] < 1


@pytest.mark.parametrize("size", [0, 1, 41])
def test_more_points_than_there_are_are_refused(size):
    points, options = layer_options()
    with as_a_user(), pytest.raises(ValueError, match=rf"agop_size must lie in 2..40, .* got {size}"):
        fit_deep_rfm_layer(jax.random.key(0), *points, agop_size=size, **options)
