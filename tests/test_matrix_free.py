"""Kernel machines without the kernel matrix: tiles, preconditioner, solutions."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnc_jax import (
    ConvNTK,
    FitError,
    Gaussian,
    Laplace,
    fit_deep_rfm_layer,
    fit_kernel_machine,
    relu_features,
)
from dnc_jax.machine import kernel_machine_core
from dnc_jax.matrix_free import ConjugateGradients, gram_tiles, nystrom, solve_matrix_free
from dnc_jax.matrix_free.solve import block_shape
from tests import oracles
from tests.builders import as_a_user, class_clouds, one_hot_targets

SMALL = ConjugateGradients(rank=64, tile_bytes=8 * 12**2)
BANDWIDTH, RIDGE = 2.0, 1e-2


def problem(num_points=100, num_classes=4, dim=5, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    labels = np.arange(num_points) % num_classes
    x = rng.normal(size=(num_points, dim)) + 2 * rng.normal(size=(num_classes, dim))[labels]
    return jnp.asarray(x.astype(dtype)), jnp.asarray(2.0 * np.eye(num_classes)[labels] - 1, dtype)


def rows_in_blocks(x, num_blocks):
    return gram_tiles.rows_of(x.reshape(num_blocks, -1, *x.shape[1:]), None)


def oracle_gram(x):
    return oracles.laplace_gram(np.asarray(x), np.asarray(x), BANDWIDTH)


@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize("num_blocks", [1, 2, 3, 4, 5, 10])
def test_the_product_is_that_of_the_whole_matrix(num_blocks, keeps):
    x, _ = problem(60 if num_blocks != 5 else 65)
    rows = rows_in_blocks(x, num_blocks)
    v = np.random.default_rng(1).normal(size=(len(x), 3))
    kernel = Laplace(BANDWIDTH)
    tiles = gram_tiles.make_tiles(kernel, rows, x.dtype) if keeps else None
    product = jax.jit(lambda v: gram_tiles.times(kernel, rows, tiles, v, None))
    got = product(jnp.asarray(v).reshape(num_blocks, -1, 3)).reshape(-1, 3)
    np.testing.assert_allclose(got, oracle_gram(x) @ v, rtol=1e-12, atol=1e-12)


def test_tiles_are_half_of_the_matrix_and_may_be_rounded():
    x, _ = problem(70)
    rows = rows_in_blocks(x, 7)
    tiles = gram_tiles.make_tiles(Laplace(BANDWIDTH), rows, jnp.dtype("float32"))
    assert tiles.shape == (7, 4, 10, 10)
    assert tiles.dtype == jnp.float32
    gram = oracle_gram(x)
    for own in range(7):
        for step in range(4):
            other = (own + step) % 7
            expected = gram[10 * own : 10 * own + 10, 10 * other : 10 * other + 10]
            np.testing.assert_allclose(tiles[own, step], expected, rtol=1e-7)
    np.testing.assert_array_equal(np.diagonal(tiles[:, 0], axis1=1, axis2=2), 1)


@pytest.mark.parametrize("num_rows", [1, 11, 12, 13, 100])
def test_blocks_hold_all_rows_and_fit_the_memory_of_a_tile(num_rows):
    num_blocks, size = block_shape(num_rows, SMALL.tile_bytes, 8)
    assert num_blocks * size >= num_rows
    assert size <= 12
    assert num_blocks * size - num_rows < num_blocks


@pytest.mark.parametrize("rank", [64, 128])
def test_pivots_give_a_factor_that_leaves_a_semidefinite_rest(rank):
    x, _ = problem(200)
    factor = nystrom.pivoted_cholesky(
        jax.random.key(0), Laplace(BANDWIDTH), rows_in_blocks(x, 4), jnp.ones(200), rank, None
    )
    rest = oracle_gram(x) - np.asarray(factor @ factor.T)
    assert factor.shape == (200, rank)
    assert np.linalg.eigvalsh(rest).min() > -1e-12
    # As good as the best approximation of a third of the rank.
    best = np.linalg.eigvalsh(oracle_gram(x))[: -rank // 3].sum()
    assert np.trace(rest) < best


def test_a_matrix_of_low_rank_is_factored_whole():
    x, _ = problem(20)
    twins = jnp.concatenate([x] * 10)
    factor = nystrom.pivoted_cholesky(
        jax.random.key(0), Laplace(BANDWIDTH), rows_in_blocks(twins, 4), jnp.ones(200), 192, None
    )
    assert np.all(np.isfinite(factor))
    np.testing.assert_allclose(factor @ factor.T, oracle_gram(twins), atol=1e-11)


def test_the_preconditioner_is_the_inverse_of_its_root_and_tames_the_spectrum():
    x, _ = problem(200)
    made = nystrom.nystrom_preconditioner(
        jax.random.key(0), Laplace(BANDWIDTH), rows_in_blocks(x, 4), jnp.ones(200), 1e-3, 64, None
    )
    identity = jnp.eye(200)
    inverse_root = made.inverse_root(identity, None)
    np.testing.assert_allclose(made.root(inverse_root, None), identity, atol=1e-10)
    system = oracle_gram(x) + 1e-3 * np.eye(200)
    values = np.linalg.eigvalsh(inverse_root @ system @ inverse_root)
    plain = np.linalg.eigvalsh(system)
    assert values[-1] / values[0] < 0.1 * plain[-1] / plain[0]
    assert 0.9 * plain[-1] < float(made.largest) < plain[-1]


def test_rows_that_only_fill_a_block_are_never_drawn():
    x, _ = problem(100)
    filled = jnp.concatenate([x, jnp.full((4, x.shape[1]), 50.0)])
    is_real = jnp.asarray([1.0] * 100 + [0.0] * 4)
    args = Laplace(BANDWIDTH), rows_in_blocks(filled, 4), is_real, 64, None
    factor = nystrom.pivoted_cholesky(jax.random.key(0), *args)
    np.testing.assert_array_equal(factor[100:], 0)


@pytest.mark.parametrize("keep", ["float64", "float32", "nothing"])
@pytest.mark.parametrize("num_points", [97, 100, 12])
def test_the_weights_are_those_of_the_system(keep, num_points):
    x, targets = problem(num_points)
    machine = fit_kernel_machine(
        Laplace(BANDWIDTH), x, targets, ridge=RIDGE, solver=dataclasses.replace(SMALL, keep=keep)
    )
    true = oracles.ridge_weights(oracle_gram(x), np.asarray(targets), RIDGE)
    np.testing.assert_allclose(machine.weights, true, rtol=1e-8, atol=1e-8)


def test_residuals_are_those_of_the_matrix_by_output():
    x, targets = problem()
    targets = targets.at[:, 2].set(0.0)
    loose = dataclasses.replace(SMALL, tolerance=1e-3, rank=1)
    machine, diagnostics = kernel_machine_core(Laplace(BANDWIDTH), x, targets, RIDGE, loose)
    left = (oracle_gram(x) + RIDGE * np.eye(len(x))) @ np.asarray(machine.weights) - targets
    lengths = np.linalg.norm(targets, axis=0)
    expected = np.linalg.norm(left, axis=0) / np.where(lengths > 0, lengths, 1)
    np.testing.assert_allclose(diagnostics.column_residuals, expected, rtol=1e-9, atol=1e-14)
    assert 1e-9 < float(diagnostics.residual) < 1e-3
    np.testing.assert_allclose(
        diagnostics.residual, np.linalg.norm(left) / np.linalg.norm(targets), rtol=1e-9
    )
    true = np.linalg.cond(oracle_gram(x) + RIDGE * np.eye(len(x)))
    assert true < float(diagnostics.condition_estimate) < 1e3 * true
    assert int(diagnostics.num_steps) > 1


def test_tiles_in_float32_are_refined_to_the_residual_of_the_matrix_itself():
    x, targets = problem()
    single = dataclasses.replace(SMALL, keep="float32")
    steps = {}
    for rounds in (1, 4):
        recipe = dataclasses.replace(single, max_rounds=rounds)
        found = solve_matrix_free(Laplace(BANDWIDTH), x, targets, jnp.full(len(x), RIDGE), recipe)
        steps[rounds] = float(jnp.max(found.residual_norms))
    assert steps[1] > 1e-8
    assert steps[4] < 1e-9


def test_row_weights_divide_the_ridge():
    x, targets = problem()
    weights = np.random.default_rng(0).uniform(0.5, 2, size=len(x))
    options = {"ridge": RIDGE, "sample_weights": jnp.asarray(weights)}
    machine = fit_kernel_machine(Gaussian(BANDWIDTH), x, targets, solver=SMALL, **options)
    direct = fit_kernel_machine(Gaussian(BANDWIDTH), x, targets, **options)
    np.testing.assert_allclose(machine.weights, direct.weights, rtol=1e-6, atol=1e-7)


def test_images_are_rows_too():
    images = jnp.asarray(np.random.default_rng(0).normal(size=(30, 5, 4, 2)))
    targets = one_hot_targets(np.arange(30) % 3, 3)
    machine = fit_kernel_machine(ConvNTK(1, 2), images, jnp.asarray(targets), ridge=RIDGE, solver=SMALL)
    direct = fit_kernel_machine(ConvNTK(1, 2), images, jnp.asarray(targets), ridge=RIDGE)
    np.testing.assert_allclose(machine.weights, direct.weights, rtol=1e-7, atol=1e-8)


def test_float32_reaches_what_it_can_carry():
    x, targets = problem(dtype=np.float32)
    fit = partial(kernel_machine_core, Laplace(BANDWIDTH), x, targets, RIDGE)
    (machine, diagnostics), (_, asked) = fit(SMALL), fit(dataclasses.replace(SMALL, tolerance=1e-5))
    assert machine.weights.dtype == jnp.float32
    true = oracles.ridge_weights(oracle_gram(x), np.asarray(targets), RIDGE)
    np.testing.assert_allclose(machine.weights, true, atol=2e-3 * np.abs(true).max())
    # A tolerance of 1e-10 is no reason to go on where rounding is all that is left.
    assert int(diagnostics.num_steps) <= int(asked.num_steps) + 10


def test_the_seed_draws_the_pivots():
    x, targets = problem()
    loose = dataclasses.replace(SMALL, tolerance=1e-3)
    solvers = [dataclasses.replace(loose, seed=seed) for seed in (0, 0, 1)]
    fits = [fit_kernel_machine(Laplace(BANDWIDTH), x, targets, ridge=RIDGE, solver=one) for one in solvers]
    np.testing.assert_array_equal(fits[0].weights, fits[1].weights)
    assert np.abs(fits[0].weights - fits[2].weights).max() > 1e-9


@pytest.mark.parametrize("agop_size", [None, 100])
def test_a_layer_is_that_of_cholesky(agop_size):
    x, labels = class_clouds([25] * 4, 6, spread=0.5)
    targets = jnp.asarray(one_hot_targets(labels, 4))
    fit = partial(
        fit_deep_rfm_layer,
        *(jax.random.key(0), jnp.asarray(x), targets),
        kernel=Laplace(BANDWIDTH),
        ridge=1e-3,
        sample_features=partial(relu_features, width=16),
        num_iters=2,
    )
    direct, free = fit(), fit(solver=SMALL, agop_size=agop_size)
    np.testing.assert_allclose(free.feature_matrix, direct.feature_matrix, atol=1e-7)
    np.testing.assert_allclose(free(jnp.asarray(x)), direct(jnp.asarray(x)), atol=1e-6)


def test_what_cannot_be_solved_is_refused():
    x, targets = problem()
    fit = partial(fit_kernel_machine, Laplace(BANDWIDTH), x, targets)
    with as_a_user():
        for options, message in (
            ({"rank": 0}, "rank must be a whole number of at least 1: got 0"),
            ({"max_steps": 1.5}, "max_steps must be a whole number of at least 1: got 1.5"),
            ({"tolerance": 0.0}, "tolerance must lie between 0 and 1: got 0.0"),
            ({"keep": "all"}, "keep must be 'float32', 'float64' or 'nothing': got 'all'"),
        ):
            with pytest.raises(ValueError, match=message):
                fit(ridge=RIDGE, solver=ConjugateGradients(**options))
        with pytest.raises(ValueError, match="ridge must be positive for conjugate gradients: got 0"):
            fit(ridge=0.0, solver=SMALL)
    with pytest.raises(
        FitError, match=r"did not converge: a residual of .* after 2 steps of .* raise the rank, max_steps"
    ):
        fit(ridge=1e-6, solver=dataclasses.replace(SMALL, max_steps=1, max_rounds=2, rank=1))


jitted_core = jax.jit(kernel_machine_core, static_argnames="solver")


def test_a_tolerance_that_one_output_misses_for_want_of_steps_is_an_error():
    x, targets = problem()
    # Of little weight in the residual of all outputs together.
    targets = targets.at[:, 2].set(1e-7 * np.random.default_rng(0).normal(size=len(x)))
    few = dataclasses.replace(SMALL, rank=1, max_steps=16, max_rounds=1)
    _, diagnostics = jitted_core(Laplace(BANDWIDTH), x, targets, RIDGE, few)
    columns = np.asarray(diagnostics.column_residuals)
    assert float(diagnostics.residual) < 1e-8
    assert 1e-9 < columns[2] == columns.max()
    message = rf"residual of {columns[2]:.1e} of output 2, above the tolerance of 1.0e-12, after 16 steps"
    with pytest.raises(FitError, match=message):
        fit_kernel_machine(Laplace(BANDWIDTH), x, targets, ridge=RIDGE, solver=few)
    fit_kernel_machine(
        Laplace(BANDWIDTH), x, targets, ridge=RIDGE, solver=dataclasses.replace(few, max_steps=100)
    )


@pytest.mark.parametrize(("dtype", "ridge"), [(np.float64, 1e-6), (np.float32, 1e-2)])
def test_a_tolerance_that_rounding_keeps_out_of_reach_is_no_error(dtype, ridge):
    x, targets = problem(dtype=dtype)
    # Collapsed classes: the weights are large, and so is what rounding leaves over.
    x = x * 1e-3 + jnp.asarray(np.eye(4, 5)[np.arange(len(x)) % 4], dtype)
    targets = targets.at[:, 0].set(np.random.default_rng(0).normal(size=len(x)).astype(dtype))
    asked = dataclasses.replace(SMALL, tolerance=1e-15, rank=16)
    core = partial(jitted_core, Laplace(BANDWIDTH), x, targets, ridge)
    _, diagnostics = core(asked)
    assert float(jnp.max(diagnostics.column_residuals)) > 1e-13
    np.testing.assert_array_equal(diagnostics.excess_residuals, 0)
    fit_kernel_machine(Laplace(BANDWIDTH), x, targets, ridge=ridge, solver=asked)
    _, stopped = core(dataclasses.replace(asked, max_steps=1, max_rounds=1))
    assert float(jnp.max(stopped.excess_residuals)) > 0
