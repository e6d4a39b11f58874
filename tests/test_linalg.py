import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnc_jax import effective_rank, nc1, psd_pinv, psd_power, squared_distances, stable_rank, unit_rows
from dnc_jax.linalg import mean_rows, norm, pinv, safe_sqrt, symmetric_product
from dnc_jax.solvers import cholesky_solve, eigh_solve, quick_cholesky_solve
from tests import collapse_oracles, oracles
from tests.builders import as_a_user, assert_close, class_clouds, rtol, with_duplicates, with_spectrum
from tests.instances import DTYPES

distances = jax.jit(squared_distances)


@pytest.mark.parametrize("dtype", DTYPES)
def test_distances_of_distant_rows(dtype):
    rng = np.random.default_rng(0)
    x, z = rng.normal(size=(17, 5)).astype(dtype), rng.normal(size=(11, 5)).astype(dtype)
    assert_close(
        squared_distances(jnp.asarray(x), jnp.asarray(z)), oracles.squared_distances(x, z), dtype, "entry"
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_duplicate_rows_are_at_distance_exactly_zero(dtype, offset):
    x = (with_duplicates(40, 100, copies=3) + offset).astype(dtype)
    for z in (x, x.copy(), x[::-1].copy()):
        truth = oracles.squared_distances(x, z)
        zero = np.asarray(squared_distances(jnp.asarray(x), jnp.asarray(z)))[truth == 0]
        assert zero.size == 40 * 9
        assert np.all(zero == 0)


def test_distance_to_itself_is_zero_when_x_is_z():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(300, 64)) + 100, jnp.float32)
    assert np.all(np.diagonal(np.asarray(squared_distances(x, x))) == 0)
    assert np.all(np.diagonal(np.asarray(squared_distances(x, x + 0))) == 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gap", [1e-9, 1e-6, 1e-4])
def test_nearly_equal_rows_keep_their_distance(dtype, gap):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 20)).astype(dtype)
    z = (x + gap * rng.normal(size=x.shape)).astype(dtype)
    truth = np.diagonal(oracles.squared_distances(x, z))
    got = np.diagonal(np.asarray(squared_distances(jnp.asarray(x), jnp.asarray(z)), np.float64))
    # What is not recomputed from x - z is above 8 eps (|x|^2 + |z|^2), where the expansion is half right.
    scale = np.finfo(dtype).eps * 2 * (x.astype(np.float64) ** 2).sum(axis=1)
    recomputed = truth < 2 * scale
    assert np.all(np.abs(got - truth) <= 8 * scale)
    np.testing.assert_allclose(got[recomputed], truth[recomputed], rtol=rtol(dtype, "entry"))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(1e-6, 1e6))
def test_distances_are_symmetric_nonnegative_and_scale(seed, scale):
    x = jnp.asarray(np.random.default_rng(seed).normal(size=(8, 3)))
    got, scaled = np.asarray(distances(x, x + 0)), np.asarray(distances(scale * x, scale * x + 0))
    assert np.all(got >= 0)
    np.testing.assert_array_equal(got, got.T)
    np.testing.assert_allclose(scaled, scale**2 * got, rtol=1e-9, atol=1e-12 * scale**2)


def test_distances_have_finite_true_gradients():
    x = jnp.asarray(with_duplicates(5, 3))
    z = x[:4] + 0
    weights = jnp.asarray(np.random.default_rng(1).normal(size=(10, 4)))

    def total(x, z):
        return jnp.sum(weights * squared_distances(x, z))

    by_x, by_z = jax.jit(jax.grad(total, argnums=(0, 1)))(x, z)
    differences = np.asarray(x)[:, None] - np.asarray(z)[None]
    true = 2 * np.asarray(weights)[..., None] * differences
    np.testing.assert_allclose(by_x, true.sum(axis=1), atol=1e-12)
    np.testing.assert_allclose(by_z, -true.sum(axis=0), atol=1e-12)


@pytest.mark.parametrize("shapes", [((3, 2), (3, 4)), ((3,), (3, 2)), ((3, 2), (2,))])
def test_distances_reject_shapes_that_do_not_fit(shapes):
    with as_a_user(), pytest.raises(ValueError, match=r"rows of one length: got shapes \(3,"):
        squared_distances(*map(jnp.ones, shapes))


@pytest.mark.parametrize("dtype", DTYPES)
def test_unit_rows_have_norm_one_and_zero_rows_stay(dtype):
    x = np.random.default_rng(0).normal(size=(6, 4)).astype(dtype)
    x[2] = 0
    unit = unit_rows(jnp.asarray(x))
    assert_close(jnp.sum(unit * unit, axis=1), [1, 1, 0, 1, 1, 1], dtype, "entry")
    assert_close(unit[3:], oracles.unit_rows(x[3:]), dtype, "entry")
    gradient = jax.grad(lambda x: jnp.sum(unit_rows(x) ** 3))(jnp.asarray(x))
    assert np.all(np.isfinite(gradient))


def test_what_is_not_a_number_stays_so():
    x = jnp.asarray([[1.0, jnp.nan], [3.0, 4.0]])
    np.testing.assert_array_equal(np.isnan(unit_rows(x)), [[True, True], [False, False]])
    assert np.isnan(norm(x))
    np.testing.assert_array_equal(safe_sqrt(jnp.asarray([jnp.nan, 0.0, 4.0])), [np.nan, 0.0, 2.0])
    np.testing.assert_array_equal(jax.vmap(jax.grad(safe_sqrt))(jnp.asarray([0.0, 4.0])), [0.0, 0.25])


def test_norm_is_the_frobenius_norm_with_gradient_zero_at_zero():
    a = np.random.default_rng(0).normal(size=(3, 4))
    np.testing.assert_allclose(norm(jnp.asarray(a)), np.sqrt((a**2).sum()))
    np.testing.assert_array_equal(jax.grad(norm)(jnp.zeros((3, 4))), np.zeros((3, 4)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("power", [0.5, 1.0, 0.25, 2.0])
def test_psd_power_is_the_power_of_the_spectrum(dtype, power):
    values = np.array([1e-3, 0.1, 1.0, 2.0, 5.0])
    a = jnp.asarray(with_spectrum(values), dtype)
    assert_close(psd_power(a, power), with_spectrum(values**power), dtype, "product")
    assert_close(psd_power(a, power), oracles.psd_power(with_spectrum(values), power), dtype, "product")


def test_psd_power_counts_negative_eigenvalues_as_zero():
    got = psd_power(jnp.asarray(with_spectrum([-1.0, -1e-12, 4.0, 9.0])), 0.5)
    np.testing.assert_allclose(got, with_spectrum([0.0, 0.0, 2.0, 3.0]), atol=1e-12)


def test_psd_power_with_a_negative_power_is_a_pseudo_inverse():
    a = with_spectrum([0.0, 0.0, 0.5, 4.0])
    np.testing.assert_allclose(psd_power(jnp.asarray(a), -1.0), np.linalg.pinv(a, rcond=1e-10), atol=1e-12)


def test_psd_power_cuts_eigenvalues_below_rtol():
    a = jnp.asarray(with_spectrum([1e-6, 1.0, 4.0]))
    np.testing.assert_allclose(psd_power(a, 0.5, rtol=1e-5), with_spectrum([0.0, 1.0, 2.0]), atol=1e-12)
    np.testing.assert_allclose(psd_power(a, 0.5, rtol=1e-7), with_spectrum([1e-3, 1.0, 2.0]), atol=1e-12)


@pytest.mark.parametrize("spectrum", [[0.5, 1.0, 2.0, 5.0], [1.0, 1.0, 1.0, 4.0], [2.0, 2.0, 2.0, 2.0]])
@pytest.mark.parametrize("power", [0.5, 1.0, 2.0, -1.0])
def test_psd_power_has_true_gradients_where_eigenvalues_coincide(spectrum, power):
    a, rng, step = with_spectrum(spectrum), np.random.default_rng(1), 1e-5
    weights, direction = rng.normal(size=(4, 4)), rng.normal(size=(4, 4))
    direction = direction + direction.T
    gradient = jax.jit(jax.grad(lambda a: jnp.sum(weights * psd_power(a, power))))(jnp.asarray(a))
    moved = [(weights * oracles.psd_power(a + s * direction, power)).sum() for s in (step, -step)]
    np.testing.assert_allclose(
        (gradient * direction).sum(), (moved[0] - moved[1]) / (2 * step), rtol=1e-7, atol=1e-8
    )


@pytest.mark.parametrize("power", [0.5, 1.0, 1.5])
def test_psd_power_has_finite_gradients_where_eigenvalues_are_zero(power):
    a, rng, step = with_spectrum([0.0, 0.0, 1.0, 3.0]), np.random.default_rng(1), 1e-5
    weights, turn = rng.normal(size=(4, 4)), rng.normal(size=(4, 4))
    gradient = jax.jit(jax.grad(lambda a: jnp.sum(weights * psd_power(a, power, rtol=1e-12))))(jnp.asarray(a))
    assert np.all(np.isfinite(gradient))
    np.testing.assert_array_equal(jax.grad(lambda a: jnp.sum(psd_power(a, power)))(jnp.zeros((3, 3))), 0)

    def rotated(s):
        # Congruence keeps the zeros: the power is differentiable along it.
        q = np.eye(4) + s * turn
        kept = np.linalg.eigh(q @ a @ q.T)
        return (weights * ((kept[1][:, 2:] * kept[0][2:] ** power) @ kept[1][:, 2:].T)).sum()

    true = (rotated(step) - rotated(-step)) / (2 * step)
    np.testing.assert_allclose((gradient * (turn @ a + a @ turn.T)).sum(), true, rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dim", [1, 5, 256, 257, 600])
def test_the_symmetric_product_is_the_product_and_symmetric(dim, dtype):
    a = np.random.default_rng(0).normal(size=(7, dim)).astype(dtype)
    got = jax.jit(symmetric_product)(jnp.asarray(a))
    assert_close(got, a.astype(np.float64).T @ a, dtype, "product")
    np.testing.assert_array_equal(got, got.T)


def test_the_mean_of_many_equal_rows_is_that_row():
    a = jnp.full((100_000, 64), 1.7, jnp.float32)
    np.testing.assert_array_equal(mean_rows(a), a[0])


@pytest.mark.parametrize("solve", [cholesky_solve, eigh_solve])
@pytest.mark.parametrize("dtype", DTYPES)
def test_solvers_solve_and_estimate_the_condition_number(solve, dtype):
    a = with_spectrum(np.geomspace(0.01, 10.0, 30)).astype(dtype)
    targets = np.random.default_rng(0).normal(size=(30, 3)).astype(dtype)
    weights, condition, _ = jax.jit(solve)(jnp.asarray(a), jnp.asarray(targets))
    truth = np.linalg.solve(a.astype(np.float64), targets.astype(np.float64))
    assert_close(weights, truth, dtype, "solve")
    assert 0.5 * 1e3 <= float(condition) <= 1.001 * 1e3


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_quick_solver_bounds_the_condition_number_by_its_pivots(dtype):
    a = with_spectrum(np.geomspace(0.01, 10.0, 30)).astype(dtype)
    targets = np.random.default_rng(0).normal(size=(30, 3)).astype(dtype)
    weights, bound, _ = jax.jit(quick_cholesky_solve)(jnp.asarray(a), jnp.asarray(targets))
    assert_close(weights, np.linalg.solve(a.astype(float), targets.astype(float)), dtype, "solve")
    pivots = np.diag(np.linalg.cholesky(a.astype(float)))
    np.testing.assert_allclose(bound, (pivots.max() / pivots.min()) ** 2, rtol=1e-3)
    assert 1 < float(bound) <= 1.001 * 1e3


@pytest.mark.parametrize("solve", [cholesky_solve, eigh_solve, quick_cholesky_solve])
def test_solvers_return_nan_where_the_matrix_is_not_positive(solve):
    a = jnp.asarray(with_spectrum([-1.0, 1.0, 2.0]))
    assert not np.any(np.isfinite(solve(a, jnp.ones((3, 1))).weights))


def test_unit_rows_and_norms_pass_nan_on_and_survive_extreme_scales():
    x = jnp.asarray([[3.0, 4.0], [3e200, 4e200], [3e-200, 4e-200], [jnp.nan, 1.0]])
    got = np.asarray(unit_rows(x))
    np.testing.assert_allclose(got[:3], [[0.6, 0.8]] * 3, rtol=1e-15)
    assert np.isnan(got[3]).all()
    assert np.isnan(norm(x[3]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_psd_pinv_keeps_the_four_conditions_of_penrose(dtype):
    # A wrong cutoff keeps the zero eigenvalues and fails all four.
    a = with_spectrum([3.0, 1.0, 0.2, 0.0, 0.0]).astype(dtype)
    x = psd_pinv(jnp.asarray(a))
    for got, true in ((a @ x @ a, a), (x @ a @ x, x), ((a @ x).T, a @ x), ((x @ a).T, x @ a)):
        assert_close(jnp.asarray(got), true, dtype, "product")
    assert_close(x, np.linalg.pinv(a.astype(np.float64), rcond=1e-4), dtype, "product")


def test_nc1_is_the_trace_with_psd_pinv():
    features, labels = class_clouds((5, 9, 3), 6, spread=0.4)
    within, between = collapse_oracles.covariances(features, labels, 3)
    true = jnp.trace(jnp.asarray(within) @ psd_pinv(jnp.asarray(between))) / 3
    np.testing.assert_allclose(nc1(jnp.asarray(features), jnp.asarray(labels), 3), true, rtol=1e-11)


@pytest.mark.parametrize("shape", [(7, 4), (4, 7), (5, 5)])
@pytest.mark.parametrize("rank", [2, 4])
def test_pinv_above_a_tolerance_is_numpy_s_with_true_gradients_at_constant_rank(shape, rank):
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(shape[0], rank)), rng.normal(size=(rank, shape[1]))
    a, mix = left @ right, rng.normal(size=shape[::-1])
    # A tangent of the matrices of this rank.
    direction = rng.normal(size=left.shape) @ right + left @ rng.normal(size=right.shape)
    tolerance = jnp.asarray(1e-8)
    got = jax.jit(pinv)(jnp.asarray(a), tolerance)
    np.testing.assert_allclose(got, np.linalg.pinv(a, rcond=1e-9), rtol=1e-10, atol=1e-12)
    gradient = jax.jit(jax.grad(lambda a: jnp.sum(pinv(a, tolerance) * mix)))(jnp.asarray(a))
    moved = [np.linalg.pinv(a + s * 1e-6 * direction, rcond=1e-6) for s in (1, -1)]
    numerical = ((moved[0] - moved[1]) / 2e-6 * mix).sum()
    np.testing.assert_allclose((gradient * direction).sum(), numerical, rtol=1e-5)


def test_matrices_of_another_shape_are_refused():
    for call, message in (
        (lambda: unit_rows(jnp.ones(3)), r"x must be a matrix of floats: got shape \(3,\)"),
        (lambda: psd_pinv(jnp.ones((3, 2))), r"a must be a square matrix: got shape \(3, 2\)"),
        (lambda: psd_power(jnp.ones((2, 2), int), 0.5), r"a must be a matrix of floats: .* of int64"),
        (lambda: stable_rank(jnp.ones(3)), r"a must be a matrix of floats: got shape \(3,\)"),
        (lambda: effective_rank(jnp.ones((3, 3, 3))), r"a must be a matrix of floats: got shape \(3, 3, 3\)"),
    ):
        with as_a_user(), pytest.raises(ValueError, match=message):
            call()
