"""Recursive feature machines beside numpy loops, on published tasks, with every option, and refused."""

from functools import partial
from itertools import islice

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnc_jax import (
    ConvNTK,
    FitError,
    Gaussian,
    KernelMachine,
    Laplace,
    Polynomial,
    by_max,
    by_trace,
    fit_kernel_machine,
    fit_rfm,
    kernel_agop,
    median_bandwidth,
    median_scaled,
    rfm_iterates,
)
from dnc_jax.agop import kernel_agop_core
from dnc_jax.diagnostics import is_solved
from dnc_jax.rfm import rfm_core
from dnc_jax.rfm_steps import Recipe, Regression, first_feature
from dnc_jax.solvers import quick_cholesky_solve
from tests import oracles
from tests.builders import as_a_user

N, D, C = 40, 5, 2


def problem(num_rows=N, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(num_rows, D))
    return jnp.asarray(x), jnp.asarray(np.stack([x[:, 0] * x[:, 1], np.sin(x[:, 2])], axis=1))


def truth(
    x, targets, *, ridge, num_iters, bandwidth=3.0, centered=False, diagonal=False, power=1.0, scale=None
):
    """M and the predictions at x, from explicit gradients of f(x) = sum_m k(|M^(1/2) (x - z_m)|) a_m."""
    x, targets = np.asarray(x), np.asarray(targets)
    matrix = np.eye(x.shape[1])
    for iteration in range(num_iters + 1):
        root = oracles.psd_power(matrix, 0.5)
        moved = x @ root
        gram = oracles.laplace_gram(moved, moved, bandwidth)
        weights = oracles.ridge_weights(gram, targets, ridge)
        if iteration == num_iters:
            return matrix, gram @ weights
        inner = oracles.gradients(moved, moved, weights, oracles.laplace_radial_derivative, bandwidth)
        matrix = oracles.agop(inner @ root, centered=centered)
        matrix = np.diag(np.diag(matrix)) if diagonal else matrix
        matrix = oracles.psd_power(matrix, power)
        matrix = matrix if scale is None else matrix / scale(matrix)
    raise AssertionError


def with_twice_the_width(kernel, _):
    return Laplace(2 * kernel.bandwidth)


@pytest.mark.parametrize("power", [1.0, 0.5])
@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize(("rescale", "scale"), [(None, None), (by_max, np.max), (by_trace, np.trace)])
def test_it_is_the_machine_of_the_equations(power, centered, diagonal, rescale, scale):
    x, targets = problem()
    options = {"ridge": 1e-2, "num_iters": 2, "centered": centered, "diagonal": diagonal, "power": power}
    rfm = fit_rfm(Laplace(3.0), x, targets, rescale=rescale, **options)
    matrix, predictions = truth(x, targets, scale=scale, **options)
    found = jnp.diag(rfm.feature_matrix) if diagonal else rfm.feature_matrix
    np.testing.assert_allclose(found, matrix, rtol=1e-8, atol=1e-10 * matrix.max())
    np.testing.assert_allclose(rfm(x), predictions, rtol=1e-8, atol=1e-9)


def test_published_scores_of_the_tutorial_task():
    rng = np.random.RandomState(1717)
    x, new = (jnp.asarray(rng.normal(size=(n, 100))) for n in (2000, 10_000))
    targets, true = x[:, :1] * x[:, 1:2], new[:, 0] * new[:, 1]
    iterates = rfm_iterates(Laplace(10.0), x, targets, ridge=1e-4, centered=True)
    scores = []
    for rfm in islice(iterates, 6):
        residual = true - rfm(new)[:, 0]
        scores.append(float(1 - jnp.sum(residual**2) / jnp.sum((true - true.mean()) ** 2)))
    published = [0.07895, 0.84483, 0.90519, 0.92092, 0.92314, 0.92314499]
    np.testing.assert_allclose(scores, published, atol=1e-4)


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("num_outputs", [1, 30])
def test_a_row_of_weight_two_counts_as_two(centered, num_outputs):
    # The direct form of the AGOP for one output, the class-free one for thirty.
    rng = np.random.default_rng(3)
    x, targets = problem(30)[0], jnp.asarray(rng.normal(size=(30, num_outputs)))
    weights = jnp.asarray(rng.integers(1, 4, 30).astype(float))
    repeated = np.repeat(np.arange(30), np.asarray(weights, int))
    options = {"ridge": 1e-2, "num_iters": 2, "centered": centered}
    weighted = fit_rfm(Laplace(3.0), x, targets, sample_weights=weights, **options)
    plain = fit_rfm(Laplace(3.0), x[repeated], targets[repeated], **options)
    np.testing.assert_allclose(weighted.feature_matrix, plain.feature_matrix, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(weighted(x), plain(x), rtol=1e-7, atol=1e-8)
    assert np.abs(weighted(x) - fit_rfm(Laplace(3.0), x, targets, **options)(x)).max() > 1e-4


@pytest.mark.parametrize("batch_size", [None, 7])
@pytest.mark.parametrize("diagonal", [False, True])
def test_weights_of_rows_weigh_gradients(batch_size, diagonal):
    x, targets = problem()
    machine = fit_kernel_machine(Gaussian(2.0), x, targets, ridge=1e-2)
    points, weights = problem(9, seed=1)[0], jnp.arange(1.0, 10.0)
    options = {"row_weights": weights, "batch_size": batch_size, "diagonal": diagonal, "centered": True}
    found = kernel_agop(machine, points, **options)
    inner = oracles.gradients(points, x, machine.weights, oracles.gaussian_radial_derivative, 2.0)
    true = oracles.agop(np.repeat(inner, np.arange(1, 10), axis=0), centered=True)
    np.testing.assert_allclose(found, np.diag(true) if diagonal else true, rtol=1e-10, atol=1e-13)


def test_an_agop_of_some_rows_is_that_of_a_seeded_subset():
    x, targets = problem()
    fit = partial(fit_rfm, Laplace(3.0), x, targets, ridge=1e-2, num_iters=1)
    whole, all_of_it = fit(), fit(agop_size=N, key=jax.random.key(0))
    np.testing.assert_allclose(all_of_it.feature_matrix, whole.feature_matrix, rtol=1e-12, atol=1e-14)
    one, same, other = (fit(agop_size=10, key=jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.feature_matrix, same.feature_matrix)
    assert np.abs(one.feature_matrix - other.feature_matrix).max() > 1e-4
    assert np.abs(one.feature_matrix - whole.feature_matrix).max() > 1e-4


def test_rows_that_are_drawn_keep_their_weights():
    x, targets = problem()
    fit = partial(fit_rfm, Laplace(3.0), x, targets, ridge=1e-2, num_iters=1)
    weights = jnp.linspace(0.2, 3.0, N)
    drawn = fit(agop_size=N, key=jax.random.key(0), sample_weights=weights)
    whole = fit(sample_weights=weights)
    np.testing.assert_allclose(drawn.feature_matrix, whole.feature_matrix, rtol=1e-12, atol=1e-14)


def test_an_adapted_bandwidth_follows_the_median_distance():
    x, targets = problem()
    options = {"ridge": 1e-2, "num_iters": 2}
    adapted = fit_rfm(Laplace(1.5), x, targets, adapt_kernel=median_scaled, **options)
    moved = x @ adapted.feature_root
    np.testing.assert_allclose(adapted.machine.kernel.bandwidth, 1.5 * median_bandwidth(moved), rtol=1e-12)
    # A machine that follows the scale of M does not know it.
    rescaled = fit_rfm(Laplace(1.5), x, targets, adapt_kernel=median_scaled, rescale=by_max, **options)
    np.testing.assert_allclose(adapted(x), rescaled(x), rtol=1e-9, atol=1e-11)


def test_iterates_are_the_fits_of_growing_length():
    x, targets = problem()
    iterates = rfm_iterates(Laplace(3.0), x, targets, ridge=1e-2)
    for num_iters, rfm in enumerate(islice(iterates, 3)):
        alone = fit_rfm(Laplace(3.0), x, targets, ridge=1e-2, num_iters=num_iters)
        np.testing.assert_allclose(rfm.feature_matrix, alone.feature_matrix, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(rfm(x), alone(x), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kernel", [Laplace(3.0), Polynomial(2, offset=1.0)])
@pytest.mark.parametrize("options", [{}, {"agop_size": 10}, {"adapt_kernel": with_twice_the_width}])
def test_one_program_is_its_steps_one_by_one(kernel, options):
    x, targets = problem()
    if options and isinstance(kernel, Polynomial):
        options = {"agop_size": 10}
    key = jax.random.key(0)
    steps = rfm_iterates(kernel, x, targets, ridge=1e-2, rescale=by_max, key=key, **options)
    stepwise = next(islice(steps, 3, None))
    whole = fit_rfm(kernel, x, targets, ridge=1e-2, num_iters=3, rescale=by_max, key=key, **options)
    assert jax.tree.structure(whole) == jax.tree.structure(stepwise)
    np.testing.assert_allclose(whole.feature_matrix, stepwise.feature_matrix, rtol=1e-8, atol=1e-11)
    np.testing.assert_allclose(whole(x), stepwise(x), rtol=1e-8, atol=1e-10)


def test_many_ridges_are_fitted_by_one_mapped_program():
    x, targets = problem()
    recipe = Recipe(False, False, by_max, 1.0, None, None, quick_cholesky_solve)
    start = first_feature(None, x, diagonal=False)
    ridges = jnp.asarray([1e-3, 1e-2, 0.1])

    def fit(ridge):
        return rfm_core(Regression(Laplace(3.0), x, targets, ridge, None), start, 2, None, recipe=recipe)

    machines, progress = jax.jit(jax.vmap(fit))(ridges)
    np.testing.assert_array_equal(progress.iteration, [2, 2, 2])
    for index, ridge in enumerate(ridges):
        alone = fit_rfm(Laplace(3.0), x, targets, ridge=float(ridge), num_iters=2, rescale=by_max)
        matrix = machines.feature_matrix[index]
        np.testing.assert_allclose(matrix, alone.feature_matrix, rtol=1e-8, atol=1e-11)


def test_it_stops_at_the_first_step_that_fails():
    x, targets = problem()
    recipe = Recipe(False, False, None, 1.0, None, None, quick_cholesky_solve)
    start = first_feature(None, x, diagonal=False)
    # The gradients of a constant are 0: the update after the first fit has no M.
    constant = Regression(Laplace(3.0), jnp.ones_like(x), targets, 1.0, None)
    _, progress = jax.jit(rfm_core, static_argnames="recipe")(constant, start, 5, None, recipe=recipe)
    assert int(progress.iteration) == 0
    assert not bool(progress.is_usable)
    assert bool(is_solved(progress.fit))


def test_a_fit_goes_on_from_the_matrix_of_another():
    x, targets = problem()
    options = {"ridge": 1e-2, "rescale": by_max, "power": 0.5}
    *_, second, third = islice(rfm_iterates(Laplace(3.0), x, targets, **options), 4)
    matrix = second.feature_matrix
    again, onward = islice(rfm_iterates(Laplace(3.0), x, targets, feature_matrix=matrix, **options), 2)
    np.testing.assert_allclose(again(x), second(x), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(onward.feature_matrix, third.feature_matrix, rtol=1e-8, atol=1e-10)
    with pytest.raises(ValueError, match=r"feature_matrix must have the shape \(5,\) and the dtype float64"):
        next(rfm_iterates(Laplace(3.0), x, targets, ridge=1.0, diagonal=True, feature_matrix=matrix))


def refused(match, error=ValueError, scale=1.0, **options):
    x, targets = problem()
    targets = scale * targets
    with as_a_user(), pytest.raises(error, match=match):
        fit_rfm(Laplace(3.0), x, targets, **{"ridge": 1e-2, "num_iters": 1} | options)


def test_what_no_fit_can_use_is_refused():
    refused(r"num_iters must be at least 0 AGOP updates: got -1", num_iters=-1)
    refused(r"num_iters must be at least 0 AGOP updates: got 1.5", num_iters=1.5)
    for power in (0.0, -1.0, float("nan"), "a"):
        refused(r"power must be a positive finite number", power=power)
    refused(r"rescale must be a function of M such as by_max, or None: got 'max'", rescale="max")
    refused(r"squares of targets of up to .* are out of the range", FitError, scale=1e200)
    refused(r"agop_size must lie in 1..40, the number of rows: got 41", agop_size=41)
    refused(r"agop_size draws rows and needs a key: got None", agop_size=3)
    refused(r"sample_weights must be a vector of 40 numbers", sample_weights=jnp.ones(3))
    refused(
        r"sample_weights must be positive finite numbers: got 0 to 1; leave",
        sample_weights=jnp.ones(40).at[3].set(0),
    )


def test_weights_of_rows_need_a_number_for_each_and_a_closed_form():
    x, targets = problem()
    machine = fit_kernel_machine(Gaussian(2.0), x, targets, ridge=1e-2)
    with as_a_user(), pytest.raises(ValueError, match=r"row_weights must be a vector of 40 numbers"):
        kernel_agop(machine, row_weights=jnp.ones(3))
    other = KernelMachine(lambda a, b: Gaussian(2.0)(a, b), x, targets)
    with as_a_user(), pytest.raises(TypeError, match=r"row_weights need a kernel with gradient_terms"):
        kernel_agop_core(other, row_weights=jnp.ones(40))


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (jnp.full((D, D), jnp.nan), r"finite, symmetric and not 0: got a largest entry of nan"),
        (jnp.zeros((D, D)), r"finite, symmetric and not 0: got a largest entry of 0"),
        (jnp.eye(D).at[0, 1].set(0.5), r"differ from their mirror by up to 0.5"),
        (-jnp.eye(D), r"positive semidefinite: got eigenvalues of -1 to -1"),
    ],
)
def test_a_matrix_that_no_fit_can_start_from_is_refused(matrix, message):
    refused(message, feature_matrix=matrix)


def test_a_kernel_of_images_is_refused():
    with as_a_user(), pytest.raises(ValueError, match=r"must take rows: got ConvNTK, .* use fit_conv_rfm"):
        fit_rfm(ConvNTK(1, 2), jnp.ones((4, 5, 5, 1)), jnp.ones((4, 1)), ridge=1e-2, num_iters=1)


def test_points_without_columns_are_refused():
    x, targets = problem()
    with as_a_user(), pytest.raises(ValueError, match=r"x must have at least 1 column: got shape \(40, 0\)"):
        fit_rfm(Laplace(3.0), x[:, :0], targets, ridge=1e-2, num_iters=1)


def test_only_a_kernel_with_a_bandwidth_is_adapted():
    x, targets = problem()
    with as_a_user(), pytest.raises(ValueError, match=r"only a Laplace or Gaussian kernel has a bandwidth"):
        fit_rfm(Polynomial(2), x, targets, ridge=1e-2, num_iters=1, adapt_kernel=median_scaled)


def test_an_error_names_the_iteration():
    x, targets = problem()
    twins = jnp.concatenate([x, x])
    with pytest.raises(FitError, match=r"the fit of iteration 0 failed"):
        fit_rfm(Laplace(3.0), twins, jnp.concatenate([targets, -targets]), ridge=0.0, num_iters=1)
    with pytest.raises(FitError, match=r"the AGOP of iteration 1 is 0 or not finite"):
        fit_rfm(Laplace(3.0), jnp.ones_like(x), targets, ridge=1.0, num_iters=2)
