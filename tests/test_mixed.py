"""Mixed precision: what is in float32, that the answer is that of float64, and where float64 takes over."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnc_jax import Gaussian, Laplace, Polynomial, deep_rfm_layer_core, fit_deep_rfm, relu_features, unit_rows
from dnc_jax.agop import kernel_agop_core
from dnc_jax.agop_cost import class_free_is_cheaper_than_grouped, grouped_outputs_at_once
from dnc_jax.class_free import class_free_gram_at_centers
from dnc_jax.deep_rfm import fit_deep_rfm_layer_with_diagnostics
from dnc_jax.kernels import at_rows
from dnc_jax.machine import KernelMachine
from dnc_jax.matrix_free import ConjugateGradients
from dnc_jax.mixed_agop import estimated_cancellation, grouped_gram, groups_of, mixed_agop_core
from dnc_jax.mixed_solver import mixed_cholesky_solve
from dnc_jax.solvers import cholesky_solve
from tests import oracles
from tests.builders import class_clouds, one_hot_targets, with_spectrum

SETTINGS = {"kernel": Laplace(2.0), "ridge": 1e-3, "sample_features": partial(relu_features, width=12)}
# Of M; the answer of float64 is known to 1e-12 or better.
SINGLE, DOUBLE = 3e-6, 1e-12


def clouds(spread, num_classes=3, dim=6, size=12):
    x, labels = class_clouds((size,) * num_classes, dim, spread=spread)
    return jnp.asarray(x), jnp.asarray(one_hot_targets(labels, num_classes))


def fit(x, targets, *, mixed, **changes):
    settings = {**SETTINGS, **changes}
    return fit_deep_rfm_layer_with_diagnostics(jax.random.key(0), x, targets, mixed=mixed, **settings)


def difference(found, expected):
    """Relative, in the Frobenius norm."""
    return float(np.linalg.norm(np.asarray(found) - expected) / np.linalg.norm(expected))


def machine_on(x, targets, kernel=SETTINGS["kernel"]):
    shared, gram = at_rows(kernel, x), np.asarray(kernel(x, x))
    weights = np.linalg.solve(gram + 1e-3 * np.eye(len(x)), targets)
    return KernelMachine(shared, x, jnp.asarray(weights))


@pytest.mark.parametrize(("spread", "num_classes", "num_outputs"), [(0.7, 3, 3), (1e-6, 3, 3), (1e-3, 2, 1)])
def test_a_layer_is_in_float32_and_the_oracles(spread, num_classes, num_outputs):
    x, targets = clouds(spread, num_classes)
    targets = targets[:, :num_outputs]
    layer, diagnostics = fit(x, targets, mixed=True)
    assert diagnostics.fit.is_float32
    assert 0 < diagnostics.agop.float32_rounding < 1e-12
    whole, _ = fit(x, targets, mixed=False)
    assert difference(layer.machine.weights, whole.machine.weights) < 1e-10
    features = layer.features.weights
    true = oracles.deep_rfm_layer(x, targets, features, bandwidth=2.0, ridge=1e-3).feature_matrix
    # Distances of 1e-6 between unit vectors are known to some 1e-5, in float64.
    assert difference(layer.feature_matrix, true) < SINGLE + 3e-11 / spread
    assert 1e-10 < difference(layer.feature_matrix, whole.feature_matrix) < SINGLE
    assert difference(layer.feature_root, whole.feature_root) < SINGLE
    assert {leaf.dtype for leaf in jax.tree.leaves(layer) if hasattr(leaf, "dtype")} == {np.dtype("float64")}


def test_the_class_free_form_is_taken_in_float64_where_it_is_cheaper_and_cancels_little():
    assert class_free_is_cheaper_than_grouped(80, 40, 10)
    for spread, is_grouped in ((0.7, False), (1e-2, True)):
        x, targets = clouds(spread, num_classes=10, dim=40, size=8)
        found, diagnostics = fit(x, targets, mixed=True)
        whole, expected = fit(x, targets, mixed=False)
        assert bool(diagnostics.agop.float32_rounding > 0) == is_grouped
        assert diagnostics.agop.is_direct == expected.agop.is_direct == is_grouped
        error = difference(found.feature_matrix, whole.feature_matrix)
        assert 1e-10 < error < SINGLE if is_grouped else error < DOUBLE


@pytest.mark.parametrize("kernel", [Laplace(2.0), Gaussian(1.0)])
def test_groups_do_not_change_the_gram_but_how_much_it_cancels(kernel):
    x, targets = clouds(1e-3)
    machine = machine_on(x, targets, kernel)
    by_class, little = grouped_gram(machine, groups_of(x, targets))
    by_chance, much = grouped_gram(machine, groups_of(x, jnp.roll(targets, 1, axis=0)))
    assert difference(by_class, class_free_gram_at_centers(machine, False)[0]) < SINGLE
    assert difference(by_chance, by_class) < 1e-3
    assert little < 20
    assert much > 300


def test_outputs_of_one_product_are_a_divisor_that_leaves_memory():
    assert grouped_outputs_at_once(2000, 100, 10) == 5
    assert grouped_outputs_at_once(2000, 100, 7) == 7
    assert grouped_outputs_at_once(100, 1000, 10) == 1


@pytest.mark.parametrize("spread", [0.7, 1e-3])
def test_the_cancellation_is_estimated_before_the_form_is_taken(spread):
    x, targets = clouds(spread, dim=20)
    x = unit_rows(x)
    x = x - jnp.mean(x, axis=0)[None]
    machine = machine_on(x, targets)
    true = class_free_gram_at_centers(machine, False)[1]
    assert 1 / 3 < estimated_cancellation(machine) / true < 3


def test_sums_that_cancel_whatever_the_groups_are_taken_in_float64():
    # Pairs of nearly the same points, far from the means of their classes.
    x, targets = clouds(0.7)
    pairs = jnp.concatenate([x, x + 1e-9 * x[::-1]])
    targets = jnp.concatenate([targets, targets])
    machine = machine_on(unit_rows(pairs), targets)
    found, diagnostics = jax.jit(mixed_agop_core)(machine, targets)
    assert diagnostics.float32_rounding == 0
    whole, same = jax.jit(kernel_agop_core)(machine)
    assert difference(found, whole) < DOUBLE
    assert diagnostics.is_direct == same.is_direct
    assert diagnostics.rounding() == same.rounding()


@pytest.mark.parametrize("condition", [1e1, 1e4, 1e6])
def test_a_system_is_solved_by_a_factor_in_float32_as_well_as_in_float64(condition):
    a = jnp.asarray(with_spectrum(np.geomspace(1 / condition, 1, 40)))
    targets = np.random.default_rng(0).normal(size=(40, 3))
    targets[:, 2] = 0
    found, whole = (
        jax.jit(solve)(a, jnp.asarray(targets)) for solve in (mixed_cholesky_solve, cholesky_solve)
    )
    assert found.is_float32
    assert whole.is_float32 is None
    true = np.linalg.solve(np.asarray(a, np.longdouble).astype(float), targets)
    assert difference(found.weights, true) < 100 * condition * 2.3e-16
    assert 0.5 * condition < found.condition_estimate <= 1.001 * condition


@pytest.mark.parametrize("condition", [1e9, 1e13])
def test_a_system_beyond_float32_is_solved_in_float64(condition):
    a = jnp.asarray(with_spectrum(np.geomspace(1 / condition, 1, 40)))
    targets = jnp.asarray(np.random.default_rng(0).normal(size=(40, 3)))
    found, whole = (jax.jit(solve)(a, targets) for solve in (mixed_cholesky_solve, cholesky_solve))
    assert not found.is_float32
    np.testing.assert_array_equal(found.weights, whole.weights)
    np.testing.assert_array_equal(found.condition_estimate, whole.condition_estimate)


def test_a_layer_whose_kernel_matrix_is_beyond_float32_has_the_weights_of_float64():
    x, targets = clouds(1e-6)
    (layer, diagnostics), (whole, _) = (fit(x, targets, mixed=mixed, ridge=1e-9) for mixed in (True, False))
    assert not diagnostics.fit.is_float32
    np.testing.assert_array_equal(layer.machine.weights, whole.machine.weights)


def test_layers_and_updates_follow_float64():
    x, targets = clouds(0.7, dim=12)
    deep, whole = (
        fit_deep_rfm(jax.random.key(0), x, targets, mixed=mixed, depth=2, num_iters=2, **SETTINGS)
        for mixed in (True, False)
    )
    assert 1e-12 < difference(deep(x[:5] + 1), whole(x[:5] + 1)) < 1e-4


def test_an_agop_at_drawn_points_stays_in_float64():
    x, targets = clouds(0.7)
    layer, diagnostics = fit(x, targets, mixed=True, agop_size=12)
    assert diagnostics.agop.float32_rounding is None
    whole, _ = fit(x, targets, mixed=False, agop_size=12)
    assert difference(layer.feature_matrix, whole.feature_matrix) < DOUBLE


def test_the_core_runs_over_keys():
    x, targets = clouds(0.7)
    features = jax.vmap(lambda key: relu_features(key, 6, 12))(jax.random.split(jax.random.key(0), 2))
    core = partial(deep_rfm_layer_core, x, targets, kernel=Laplace(2.0), ridge=1e-3, mixed=True)
    layers, _ = jax.jit(jax.vmap(partial(core, solver=mixed_cholesky_solve)))(features)
    assert difference(layers.feature_matrix[1], fit(x, targets, mixed=False)[0].feature_matrix) < SINGLE


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"kernel": Polynomial(2)},
            r"needs a radial kernel, Laplace or Gaussian: got Polynomial",
        ),
        ({"solver": cholesky_solve}, r"has a solver of its own: got solver=.*; leave solver out, or .*keep="),
        ({"solver": ConjugateGradients()}, r"has a solver of its own: got solver=ConjugateGradients"),
    ],
)
def test_what_has_no_mixed_precision_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        fit(*clouds(0.7), mixed=True, **changes)


def test_float32_is_refused():
    x, targets = (array.astype(jnp.float32) for array in clouds(0.7))
    with pytest.raises(ValueError, match=r"between float64 and float32: got x in float32; use x in float64"):
        fit(x, targets, mixed=True)


def normal_rows(shape, num_classes):
    x = np.random.default_rng(0).normal(size=shape)
    return jnp.asarray(x), jnp.asarray(2 * np.eye(num_classes)[np.arange(shape[0]) % num_classes] - 1)


def test_small_eigenvalues_that_tell_classes_apart_are_those_of_float64():
    # Points are tens of bandwidths apart: few pairs make up M, and means differ where M is near its rounding.
    x, targets = clouds(0.7, num_classes=10, dim=20, size=20)
    machine = machine_on(unit_rows(x), targets, Gaussian(0.05))
    found, diagnostics = jax.jit(mixed_agop_core)(machine, targets)
    assert diagnostics.float32_rounding == 0
    np.testing.assert_array_equal(found, jax.jit(kernel_agop_core)(machine)[0])
    assert grouped_gram(machine, groups_of(machine.centers, targets))[1] < 10


def test_weights_that_cancel_within_classes_count_as_cancellation():
    x, targets = clouds(1e-3)
    x = unit_rows(x)
    machine, groups = machine_on(x, targets, Gaussian(2.0)), groups_of(x, targets)
    # Neither their sums over classes nor those of points times them tell of these weights.
    unseen = np.linalg.svd(np.concatenate([groups.is_in, x], axis=1))[0][:, -1:]
    machine = KernelMachine(machine.kernel, x, machine.weights + 1e4 * unseen)
    whole = jax.jit(kernel_agop_core)(machine)[0]
    assert difference(grouped_gram(machine, groups)[0], whole) > 2 * SINGLE
    found, diagnostics = jax.jit(mixed_agop_core)(machine, targets)
    assert diagnostics.float32_rounding == 0
    np.testing.assert_array_equal(found, whole)


@pytest.mark.parametrize("scale", [1.0, 1e-34])
def test_products_below_the_range_of_float32_are_not_lost(scale):
    # Entries of Q are below 1e-19 with the narrow kernel, targets of 1e-34 near the least number of float32.
    x, targets = normal_rows((200, 400), 10) if scale == 1 else clouds(1e-3)
    kernel = Gaussian(0.12) if scale == 1 else Laplace(2.0)
    (found, _), (whole, _) = (fit(x, targets * scale, mixed=mixed, kernel=kernel) for mixed in (True, False))
    assert difference(found.feature_matrix, whole.feature_matrix) < SINGLE


def test_gradients_that_cancel_more_than_float32_stands_are_those_of_float64():
    # Targets of one sign: all classes are one group, whose mean is far from every point.
    rng = np.random.default_rng(3)
    means = rng.normal(size=(4, 20))
    x = unit_rows(jnp.asarray(means[np.arange(100) % 4] + 0.01 * rng.normal(size=(100, 20))))
    targets = jnp.asarray(1 + rng.random(size=(100, 1)))
    machine = machine_on(x, targets)
    found, diagnostics = jax.jit(mixed_agop_core)(machine, targets)
    assert diagnostics.float32_rounding == 0
    whole = jax.jit(kernel_agop_core)(machine)[0]
    np.testing.assert_array_equal(found, whole)
    assert difference(grouped_gram(machine, groups_of(x, targets))[0], whole) > SINGLE
