import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnc_jax import KernelMachine, Laplace, agop, class_free, kernel_agop
from dnc_jax.agop import ROUNDING_TOLERANCE, kernel_agop_core
from dnc_jax.closed_form import class_free_gram as closed_form_gram
from tests import oracles
from tests.builders import as_a_user, assert_close, class_clouds, one_hot_targets, rotation
from tests.instances import DTYPES, KINDS, LAPLACE

FEW, MANY = 2, 30  # outputs, below and above what makes the class-free form the cheaper one
OPTIONS = ("centered", "diagonal", "batch_size")
closed_form = jax.jit(kernel_agop, static_argnames=OPTIONS)
diagnosed = jax.jit(kernel_agop_core, static_argnames=OPTIONS)
differentiated = jax.jit(lambda machine, x: agop(lambda row: machine(row[None])[0], x))


def points(num_points=20, dim=5, seed=0):
    return np.random.default_rng(seed).normal(size=(num_points, dim))


def network(dim, width):
    rng = np.random.default_rng(3)
    first, second = jnp.asarray(rng.normal(size=(dim, 7))), jnp.asarray(rng.normal(size=(7, width)))
    return lambda row: jnp.tanh(row @ first) @ second


def machine_of(case, centers, num_outputs, dtype=np.float64, seed=1):
    weights = np.random.default_rng(seed).normal(size=(len(centers), num_outputs))
    return KernelMachine(case.kernel, jnp.asarray(centers, dtype), jnp.asarray(weights, dtype))


def true_gradients(case, machine, x=None):
    x = machine.centers if x is None else x
    return case.gradients(x, machine.centers, machine.weights)


@pytest.mark.parametrize("mode", [None, "forward", "reverse"])
@pytest.mark.parametrize("width", [3, 9])
def test_agop_is_the_mean_of_numerical_jacobians(mode, width):
    fn, x = network(5, width), points()
    true = oracles.agop(np.stack([oracles.numerical_jacobian(fn, row) for row in x]))
    np.testing.assert_allclose(agop(fn, jnp.asarray(x), mode=mode), true, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", DTYPES)
def test_agop_of_a_linear_map_is_w_w_transposed(dtype):
    weights = np.random.default_rng(0).normal(size=(5, 3)).astype(dtype)
    got = agop(lambda row: row @ jnp.asarray(weights), jnp.asarray(points().astype(dtype)))
    assert_close(got, weights.astype(np.float64) @ weights.T.astype(np.float64), dtype, "product")


def test_agop_takes_scalar_outputs_and_matrices_of_outputs():
    x = jnp.asarray(points())
    quadratic = agop(lambda row: jnp.sum(row**2) / 2, x)
    np.testing.assert_allclose(quadratic, np.asarray(x).T @ np.asarray(x) / len(x), rtol=1e-12)
    np.testing.assert_allclose(agop(lambda row: jnp.stack([row, row]), x), 2 * np.eye(5), atol=1e-15)


def test_agop_moves_with_a_rotation():
    fn, x, q = network(5, 3), points(), rotation(5)
    turned = agop(lambda row: fn(row @ jnp.asarray(q.T)), jnp.asarray(x @ q))
    np.testing.assert_allclose(turned, q.T @ agop(fn, jnp.asarray(x)) @ q, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("batch_size", [1, 7, 10, 20, 100])
def test_agop_in_blocks_is_the_whole(batch_size):
    fn, x = network(5, 3), jnp.asarray(points())
    np.testing.assert_allclose(agop(fn, x, batch_size=batch_size), agop(fn, x), rtol=1e-12, atol=1e-14)


def test_agop_refuses_what_it_cannot_use():
    fn, x = network(5, 3), jnp.asarray(points())
    with pytest.raises(ValueError, match=r"at least one row: got shape \(0, 5\)"):
        agop(fn, x[:0])
    with pytest.raises(ValueError, match=r"batch_size must be at least 1, or None"):
        agop(fn, x, batch_size=0)
    with (
        as_a_user(),
        pytest.raises(ValueError, match=r"mode must be 'forward', 'reverse' or None: got 'sideways'"),
    ):
        agop(fn, x, mode="sideways")


@pytest.mark.parametrize("case", KINDS)
@pytest.mark.parametrize("num_outputs", [FEW, MANY])
def test_closed_form_is_autodiff_off_the_centers(case, num_outputs):
    machine = machine_of(case, points(), num_outputs)
    x = jnp.asarray(points(12, seed=7))
    closed = closed_form(machine, x)
    np.testing.assert_allclose(closed, differentiated(machine, x), rtol=1e-10, atol=1e-12)
    assert_close(closed, oracles.agop(true_gradients(case, machine, x)), np.float64, "product")
    np.testing.assert_allclose(kernel_agop(machine, x), closed, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("case", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("num_outputs", [FEW, MANY])
def test_closed_form_is_the_oracle_at_the_centers(case, dtype, num_outputs):
    machine = machine_of(case, points(), num_outputs, dtype)
    diagnostics = diagnosed(machine)[1]
    is_lossy = diagnostics.cancellation * np.finfo(dtype).eps > ROUNDING_TOLERANCE[np.dtype(dtype).name]
    assert bool(diagnostics.is_direct) == (num_outputs == FEW or bool(is_lossy))
    assert_close(closed_form(machine), oracles.agop(true_gradients(case, machine)), dtype, "product")


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("min_rows", [3, 6, 20])
def test_the_class_free_form_at_the_centers_is_the_oracle_whatever_its_blocks(
    monkeypatch, min_rows, centered
):
    monkeypatch.setattr(class_free, "MIN_ROWS", min_rows)
    machine = machine_of(LAPLACE, points(), MANY)
    assert class_free.num_blocks_of(20) == {3: 5, 6: 3, 20: 1}[min_rows]
    got, cancellation = class_free.class_free_gram_at_centers(machine, centered)
    true = true_gradients(LAPLACE, machine)
    assert_close(got, oracles.agop(true, centered=centered), np.float64, "product")
    if not centered:
        # The cancellation is that of the general form, which has the two parts of the gradients in hand.
        general = closed_form_gram(machine, jnp.asarray(points()) + 0, None, False, None)[1]
        np.testing.assert_allclose(cancellation, general, rtol=1e-9)


def test_blocks_are_odd_and_few():
    assert [class_free.num_blocks_of(n) for n in (1, 100, 600, 800, 10**6)] == [1, 1, 1, 3, 9]


@pytest.mark.parametrize("num_outputs", [FEW, MANY])
@pytest.mark.parametrize("dtype", DTYPES)
def test_duplicate_centers_drop_out_of_each_others_gradient(num_outputs, dtype):
    machine = machine_of(LAPLACE, np.repeat(points(), 2, axis=0).astype(dtype), num_outputs, dtype)
    true = oracles.agop(true_gradients(LAPLACE, machine))
    assert_close(closed_form(machine), true, dtype, "product")
    assert_close(closed_form(machine, machine.centers + 0), true, dtype, "product")
    assert_close(closed_form(machine, machine.centers[::-1]), true, dtype, "product")


@pytest.mark.parametrize("dtype", DTYPES)
def test_cancellation_turns_to_the_direct_form_and_stays_exact(dtype):
    # Points that have nearly merged, with weights that sum to nearly 0 within a class, as ridge 0 makes them:
    # the terms of the class-free form are huge and cancel.
    spread = 1e-7 if dtype == np.float64 else 1e-2
    x, _ = class_clouds([6] * 4, 5, spread=spread)
    machine = machine_of(LAPLACE, x.astype(dtype), MANY, dtype)
    got, diagnostics = diagnosed(machine)
    assert float(diagnostics.cancellation) >= 1
    true = oracles.agop(true_gradients(LAPLACE, machine))
    # The distances themselves are known to eps |x|^2 / spread^2 only.
    known = np.finfo(dtype).eps * (x**2).sum(axis=1).max() / spread**2
    np.testing.assert_allclose(got, true, atol=100 * known * np.abs(true).max())


@pytest.mark.parametrize("far", [0.0, 1e5])
def test_which_form_is_taken_is_reported(far):
    # Far from the origin, s x_i and sum_m S_im a_m z_m are huge and their difference is not.
    machine = machine_of(LAPLACE, points(seed=2) + far, MANY)
    got, diagnostics = diagnosed(machine)
    assert bool(diagnostics.is_direct) == (far > 0)
    true = oracles.agop(true_gradients(LAPLACE, machine))
    np.testing.assert_allclose(got, true, atol=(1e-12 if far == 0 else 1e-3) * np.abs(true).max())


@pytest.mark.parametrize("num_outputs", [FEW, MANY])
@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("at_centers", [False, True])
def test_options_and_blocks_are_the_oracles(num_outputs, centered, diagonal, at_centers):
    machine = machine_of(LAPLACE, points(), num_outputs)
    x = None if at_centers else jnp.asarray(points(13, seed=4))
    true = oracles.agop(true_gradients(LAPLACE, machine, x), centered=centered)
    true = np.diagonal(true) if diagonal else true
    for batch_size in (None, 4):
        got = closed_form(machine, x, centered=centered, diagonal=diagonal, batch_size=batch_size)
        assert_close(got, true, np.float64, "product")


@pytest.mark.parametrize("batch_size", [1, 10, 19, 20, 100])
def test_closed_form_in_blocks_is_the_whole(batch_size):
    machine = machine_of(LAPLACE, points(), MANY)
    assert_close(closed_form(machine, batch_size=batch_size), closed_form(machine), np.float64, "product")


def test_closed_form_refuses_empty_blocks():
    with pytest.raises(
        ValueError, match=r"batch_size must be at least 1, or None for all rows at once: got 0"
    ):
        kernel_agop(machine_of(LAPLACE, points(), FEW), batch_size=0)


def test_centering_and_the_diagonal_change_the_result():
    machine = machine_of(LAPLACE, points(), FEW)
    whole = closed_form(machine)
    assert np.max(np.abs(whole - closed_form(machine, centered=True))) > 1e-3
    assert closed_form(machine, diagonal=True).shape == (5,)
    assert np.max(np.abs(whole - closed_form(machine, jnp.asarray(points(seed=9))))) > 1e-3


def test_closed_form_of_a_fitted_machine_runs_under_jit_and_vmap():
    x, labels = class_clouds([5] * 3, 4, spread=1.0)
    targets = one_hot_targets(labels, 3)
    weights = np.stack(
        [oracles.ridge_weights(oracles.laplace_gram(x, x, 2.0), targets, r) for r in (0.1, 1.0)]
    )

    def of_weights(weights):
        return kernel_agop(KernelMachine(Laplace(2.0), jnp.asarray(x), weights))

    batched = jax.jit(jax.vmap(of_weights))(jnp.asarray(weights))
    for w, got in zip(weights, batched, strict=True):
        true = oracles.agop(oracles.gradients(x, x, w, oracles.laplace_radial_derivative, 2.0))
        assert_close(got, true, np.float64, "product")


@pytest.mark.parametrize("num_outputs", [FEW, MANY])
def test_closed_form_is_differentiable_in_the_weights(num_outputs):
    machine = machine_of(LAPLACE, points(), num_outputs)

    def trace(scale):
        return jnp.trace(kernel_agop(KernelMachine(machine.kernel, machine.centers, scale * machine.weights)))

    np.testing.assert_allclose(jax.jit(jax.grad(trace))(2.0), 4 * trace(1.0), rtol=1e-10)
