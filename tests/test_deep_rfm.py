from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnc_jax import (
    DeepRFM,
    DeepRFMLayer,
    FitError,
    Gaussian,
    Laplace,
    deep_rfm_layer_core,
    fit_deep_rfm,
    fit_deep_rfm_layer,
    gaussian_fourier_features,
    relu_features,
    stages,
    unit_rows,
)
from dnc_jax.solvers import cholesky_solve
from tests import oracles
from tests.builders import as_a_user, assert_close, class_clouds, one_hot_targets
from tests.instances import DTYPES

WIDTH = 12
SETTINGS = {"kernel": Laplace(2.0), "ridge": 1e-2, "sample_features": partial(relu_features, width=WIDTH)}


def problem(dtype=np.float64):
    x, labels = class_clouds((8, 8, 8), 6, spread=0.7)
    return jnp.asarray(x, dtype), jnp.asarray(one_hot_targets(labels, 3), dtype)


def fit(key=0, dtype=np.float64, **changes):
    return fit_deep_rfm_layer(jax.random.key(key), *problem(dtype), **{**SETTINGS, **changes})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ridge", [1e-2, 1.0])
def test_a_layer_is_the_oracles(dtype, ridge):
    x, targets = problem(dtype)
    layer = fit(dtype=dtype, ridge=ridge)
    true = oracles.deep_rfm_layer(x, targets, layer.features.weights, bandwidth=2.0, ridge=ridge)
    got = stages(layer, x)
    assert_close(layer.feature_matrix, true.feature_matrix, dtype, "solve")
    for stage in got._fields:
        assert_close(getattr(got, stage), getattr(true, stage), dtype, "solve")
    assert_close(jnp.max(layer.feature_matrix), 1.0, dtype, "entry")


def test_new_points_pass_through_the_same_stages():
    layer, new = fit(), jnp.asarray(np.random.default_rng(5).normal(size=(4, 6)))
    got = stages(layer, new)
    np.testing.assert_allclose(got.input, oracles.unit_rows(new), rtol=1e-14)
    np.testing.assert_allclose(
        got.linear, oracles.unit_rows(new) @ layer.feature_root, rtol=1e-12, atol=1e-14
    )
    expected = np.maximum(np.asarray(got.linear) @ np.asarray(layer.features.weights), 0)
    np.testing.assert_allclose(got.nonlinear, expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(layer(new), got.nonlinear)


def test_the_root_squares_to_the_matrix_and_carries_no_noise_where_the_matrix_is_blind():
    # Three points in twelve dimensions: M sees at most three directions.
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 12)))
    layer = fit_deep_rfm_layer(jax.random.key(0), x, jnp.eye(3), **SETTINGS)
    np.testing.assert_allclose(layer.feature_root @ layer.feature_root, layer.feature_matrix, atol=1e-14)
    blind = np.linalg.svd(np.asarray(x))[2][3:]
    assert np.max(np.abs(blind @ layer.feature_root)) < 1e-14


def test_each_layer_draws_with_its_own_key_and_takes_what_the_last_one_passed_on():
    x, targets = problem()
    deep = fit_deep_rfm(jax.random.key(3), x, targets, depth=3, **SETTINGS)
    assert len(deep.layers) == 3
    for index, layer in enumerate(deep.layers):
        key = jax.random.fold_in(jax.random.key(3), index)
        drawn = relu_features(key, x.shape[1], WIDTH)
        np.testing.assert_array_equal(layer.features.weights, drawn.weights)
        single = fit_deep_rfm_layer(key, x, targets, **SETTINGS)
        np.testing.assert_allclose(layer.feature_matrix, single.feature_matrix, rtol=1e-10, atol=1e-12)
        x = layer(x)


def test_predictions_are_those_of_the_oracle_chain():
    x, targets = problem()
    deep = fit_deep_rfm(jax.random.key(3), x, targets, depth=2, **SETTINGS)
    new = np.random.default_rng(5).normal(size=(4, 6))
    (first, _), inputs = deep.layers, np.asarray(x)
    weights = first.features.weights
    root = oracles.psd_power(
        oracles.deep_rfm_layer(inputs, targets, weights, bandwidth=2.0, ridge=1e-2).feature_matrix, 0.5
    )

    def hidden(rows):
        return oracles.unit_rows(np.maximum(oracles.unit_rows(rows) @ root @ np.asarray(weights), 0))

    gram = oracles.laplace_gram(hidden(inputs), hidden(inputs), 2.0)
    solution = oracles.ridge_weights(gram, targets, 1e-2)
    expected = oracles.laplace_gram(hidden(new), hidden(inputs), 2.0) @ solution
    assert_close(deep(jnp.asarray(new)), expected, np.float64, "solve")


def test_every_option_changes_the_result():
    base = fit().feature_matrix
    for changes in (
        {"kernel": Laplace(1.0)},
        {"kernel": Gaussian(2.0)},
        {"ridge": 1.0},
        {"num_iters": 2},
    ):
        assert np.max(np.abs(fit(**changes).feature_matrix - base)) > 1e-4, changes
    np.testing.assert_array_equal(fit(key=1).feature_matrix, base)
    assert np.max(np.abs(fit(key=1).features.weights - fit().features.weights)) > 1e-2
    cosines = fit(sample_features=partial(gaussian_fourier_features, width=7, bandwidth=1.0))
    assert cosines(problem()[0]).shape == (24, 7)


def test_more_agop_updates_are_the_oracles():
    x, targets = problem()
    layer = fit(num_iters=3)
    inputs, matrix = oracles.unit_rows(x), np.eye(6)
    for _ in range(3):
        # f(x) = g(x root), so the gradient in x is root times that of g.
        root = oracles.psd_power(matrix, 0.5)
        rows = inputs @ root
        weights = oracles.ridge_weights(oracles.laplace_gram(rows, rows, 2.0), targets, 1e-2)
        jacobians = oracles.gradients(rows, rows, weights, oracles.laplace_radial_derivative, 2.0) @ root
        matrix = oracles.agop(jacobians)
        matrix = matrix / matrix.max()
    assert_close(layer.feature_matrix, matrix, np.float64, "solve")
    expected = oracles.laplace_gram(rows, rows, 2.0) @ weights
    assert_close(layer.machine(stages(layer, x).input), expected, np.float64, "solve")


def worse_at_first(factor):
    """A solver whose weights are off by a factor, and the condition high, in the first update of M alone."""
    x, _ = problem()
    first = Laplace(2.0)(unit_rows(x), unit_rows(x))[0, 1]

    def solve(a, targets):
        found = cholesky_solve(a, targets)
        is_first = jnp.abs(a[0, 1] - first) < 1e-9
        weights = jnp.where(is_first, factor, 1.0) * found.weights
        return found._replace(
            weights=weights, condition_estimate=jnp.where(is_first, 1e9, found.condition_estimate)
        )

    return solve


def test_the_diagnostics_of_several_updates_are_those_of_the_worst_fit():
    features = relu_features(jax.random.key(0), 6, 5)
    core = partial(deep_rfm_layer_core, *problem(), features, kernel=Laplace(2.0), ridge=1e-2, num_iters=3)
    layer, diagnostics = core(solver=worse_at_first(1 + 1e-7))
    assert float(diagnostics.fit.condition_estimate) == 1e9
    assert float(diagnostics.fit.residual) == pytest.approx(1e-7, rel=1e-4)
    assert np.asarray(diagnostics.fit.column_residuals) == pytest.approx(1e-7, rel=1e-4)
    assert diagnostics.fit.finite
    np.testing.assert_allclose(layer.feature_matrix, fit(num_iters=3).feature_matrix, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("factor", "reason"), [(1.1, r"a residual of 1\.0e-01"), (np.nan, "no finite weights")]
)
def test_the_fit_of_an_earlier_update_may_not_fail(factor, reason):
    with pytest.raises(FitError, match=f"the fit of the layer failed: {reason}"):
        fit(num_iters=3, solver=worse_at_first(factor))


@pytest.mark.parametrize("dtype", DTYPES)
def test_everything_keeps_the_dtype_of_the_input(dtype):
    layer = fit(dtype=dtype)
    arrays = [
        leaf for leaf in jax.tree.leaves((layer, stages(layer, problem(dtype)[0]))) if hasattr(leaf, "dtype")
    ]
    # The kernel's bandwidth may be a weakly typed scalar.
    assert {array.dtype for array in arrays if array.ndim} == {dtype}
    assert layer(problem(dtype)[0]).dtype == dtype
    assert layer.machine(stages(layer, problem(dtype)[0]).input).dtype == dtype


def test_float32_follows_float64_with_the_same_key():
    double, single = fit(), fit(dtype=np.float32)
    np.testing.assert_allclose(single.feature_matrix, double.feature_matrix, atol=1e-4)
    np.testing.assert_array_equal(single.features.weights, double.features.weights.astype(np.float32))


def test_layers_are_pytrees_that_survive_a_round_trip():
    x, targets = problem()
    deep = fit_deep_rfm(jax.random.key(3), x, targets, depth=2, **SETTINGS)
    rebuilt = jax.tree.unflatten(jax.tree.structure(deep), jax.tree.leaves(deep))
    assert isinstance(rebuilt, DeepRFM)
    assert isinstance(rebuilt.layers[0], DeepRFMLayer)
    np.testing.assert_array_equal(rebuilt(x), deep(x))
    np.testing.assert_allclose(jax.jit(lambda model, x: model(x))(deep, x), deep(x), rtol=1e-10, atol=1e-12)


def test_the_core_runs_under_jit_and_over_keys():
    x, targets = problem()
    keys = jax.random.split(jax.random.key(0), 3)
    features = jax.vmap(lambda key: relu_features(key, 6, WIDTH))(keys)

    def passed_on(features):
        layer, diagnostics = deep_rfm_layer_core(x, targets, features, kernel=Laplace(2.0), ridge=1e-2)
        return layer(x), diagnostics

    batched, diagnostics = jax.jit(jax.vmap(passed_on))(features)
    assert np.all(np.isfinite(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(diagnostics)])))
    for key, got in zip(keys, batched, strict=True):
        np.testing.assert_allclose(
            got, fit_deep_rfm_layer(key, x, targets, **SETTINGS)(x), rtol=1e-9, atol=1e-11
        )


def test_rows_of_zeros_stay_and_do_no_harm():
    x, targets = problem()
    x = x.at[3].set(0)
    layer = fit_deep_rfm_layer(jax.random.key(0), x, targets, **SETTINGS)
    assert np.all(np.isfinite(layer.feature_root))
    np.testing.assert_array_equal(layer(x)[3], np.zeros(WIDTH))


def test_the_scale_of_a_row_does_not_matter():
    x, targets = problem()
    scaled = x * jnp.geomspace(1e-3, 1e3, 24)[:, None]
    layer = fit_deep_rfm_layer(jax.random.key(0), scaled, targets, **SETTINGS)
    np.testing.assert_allclose(layer.feature_matrix, fit().feature_matrix, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(unit_rows(scaled), unit_rows(x), rtol=1e-13)


def test_errors_name_the_layer_or_the_argument():
    x, targets = problem()
    twins = x.at[1].set(x[0] * 2)
    contradicting = targets.at[1].set(-targets[0])
    with pytest.raises(
        FitError, match=r"fit of the layer failed: .* n = 24, ridge = 0, float64, condition number"
    ):
        fit_deep_rfm_layer(jax.random.key(0), twins, contradicting, **{**SETTINGS, "ridge": 0.0})
    with pytest.raises(FitError, match=r"fit of layer 1 of 2 failed"):
        fit_deep_rfm(jax.random.key(0), twins, contradicting, depth=2, **{**SETTINGS, "ridge": 0.0})
    with pytest.raises(FitError, match=r"the AGOP of the layer is 0 or not finite"):
        fit_deep_rfm_layer(jax.random.key(0), jnp.ones_like(x), targets, **SETTINGS)


def test_arguments_out_of_range_are_refused():
    x, targets = problem()
    with pytest.raises(ValueError, match=r"num_iters must be at least 1 AGOP update: got 0"):
        fit(num_iters=0)
    with pytest.raises(ValueError, match=r"depth must be at least 1 layer: got 0"):
        fit_deep_rfm(jax.random.key(0), x, targets, depth=0, **SETTINGS)
    with pytest.raises(ValueError, match=r"ridge must be a finite number of at least 0: got -1"):
        fit(ridge=-1.0)
    with pytest.raises(ValueError, match=r"targets must be finite: got 1 NaN"):
        fit_deep_rfm_layer(jax.random.key(0), x, targets.at[2, 1].set(jnp.nan), **SETTINGS)
    for bad in (jnp.nan, jnp.inf):
        with pytest.raises(ValueError, match=r"x must be finite: got 1 NaN or infinite values in 1 rows"):
            fit_deep_rfm_layer(jax.random.key(0), x.at[2, 1].set(bad), targets, **SETTINGS)
    with as_a_user(), pytest.raises(ValueError, match=r"same number of rows, at least 1: got 24 and 23"):
        fit_deep_rfm_layer(jax.random.key(0), x, targets[1:], **SETTINGS)
    for bad in (jnp.nan, jnp.inf):
        with pytest.raises(ValueError, match=r"x must be finite: got .* in 1 rows, the first in row 3"):
            fit_deep_rfm_layer(jax.random.key(0), x.at[3, 1].set(bad), targets, **SETTINGS)
