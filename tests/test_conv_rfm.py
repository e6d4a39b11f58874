"""Convolutional recursive feature machines: their steps, laws, options, and what they refuse."""

from functools import partial
from itertools import islice

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnc_jax import (
    ConvNTK,
    ConvRFM,
    FitError,
    Laplace,
    conv_rfm_iterates,
    fit_conv_machine,
    fit_conv_rfm,
    fit_kernel_machine,
    misclassification,
    patch_agop,
    select_rfm,
    update_conv_rfm,
)
from dnc_jax.matrix_free import ConjugateGradients
from dnc_jax.solvers import eigh_solve
from tests import conv_oracles, oracles
from tests.builders import as_a_user, assert_close, one_hot_targets
from tests.conv_oracles import Network
from tests.instances import DTYPES

N, RIDGE = 8, 1e-2
NETWORK = Network(2, 2, padding="same", stride=2)
KERNEL = ConvNTK(*NETWORK)
D = 8


def problem(num=N, seed=0, dtype=np.float64):
    """Images (n, 5, 4, 2) and two targets that depend on their corner."""
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(num, 5, 4, 2))
    targets = np.stack([images[:, 0, 0, 0] * images[:, 1, 1, 0], np.abs(images[:, 0, 1, 1])], axis=1)
    return jnp.asarray(images, dtype), jnp.asarray(targets, dtype)


def truth(images, targets, num_iters):
    """M and the predictions at the images, by loops."""
    images, targets = np.asarray(images), np.asarray(targets)
    matrix = np.eye(D)
    for iteration in range(num_iters + 1):
        root = oracles.psd_power(matrix, 0.5)
        gram = conv_oracles.gram(images, images, NETWORK, root)
        weights = oracles.ridge_weights(gram, targets, RIDGE * gram.max())
        if iteration == num_iters:
            return matrix, gram @ weights
        matrix = conv_oracles.patch_agop(images, images, weights, NETWORK, root)
        matrix = matrix / np.trace(matrix)
    raise AssertionError


@pytest.mark.parametrize("num_iters", [0, 1, 2])
def test_it_is_the_oracles(num_iters):
    images, targets = problem(5)
    conv = fit_conv_rfm(KERNEL, images, targets, ridge=RIDGE, num_iters=num_iters)
    matrix, predictions = truth(images, targets, num_iters)
    assert_close(conv.feature_matrix, matrix, np.float64, "solve")
    assert_close(conv(images), predictions, np.float64, "solve")


def test_without_updates_it_is_the_plain_kernel():
    images, targets = problem()
    conv = fit_conv_rfm(KERNEL, images, targets, ridge=RIDGE, num_iters=0)
    added = RIDGE * float(jnp.max(KERNEL(images, images)))
    machine = fit_kernel_machine(KERNEL, images, targets, ridge=added)
    new = problem(4, 1)[0]
    assert_close(conv(new), machine(new), np.float64, "solve")
    np.testing.assert_allclose(conv.added_ridge, added, rtol=1e-14)
    np.testing.assert_array_equal(conv.feature_matrix, np.eye(D))
    assert conv.machine.kernel.patch_root is None


def test_iterates_are_fits_of_growing_length_and_updates_of_the_last():
    images, targets = problem()
    options = {"ridge": RIDGE, "agop_size": 3}
    key = jax.random.key(1)
    machines = list(islice(conv_rfm_iterates(KERNEL, images, targets, key=key, **options), 3))
    conv = fit_conv_machine(KERNEL, images, targets, ridge=RIDGE)
    for iteration, machine in enumerate(machines):
        alone = fit_conv_rfm(KERNEL, images, targets, num_iters=iteration, key=key, **options)
        for got in (alone, conv):
            jax.tree.map(np.testing.assert_array_equal, got, machine)
        conv = update_conv_rfm(conv, targets, key=jax.random.fold_in(key, iteration + 1), **options)


def test_its_matrix_is_the_agop_over_its_trace_and_its_root_what_patches_are_seen_through():
    images, targets = problem()
    first, second = islice(conv_rfm_iterates(KERNEL, images, targets, ridge=RIDGE), 1, 3)
    agop = patch_agop(first.machine)
    assert_close(second.feature_matrix, agop / jnp.trace(agop), np.float64, "product")
    for conv in (first, second):
        np.testing.assert_allclose(np.trace(conv.feature_matrix), 1, rtol=1e-13)
        root = np.asarray(conv.feature_root)
        np.testing.assert_allclose(root @ root, conv.feature_matrix, atol=1e-14)
        np.testing.assert_allclose(np.linalg.norm(root), 1, rtol=1e-13)
        np.testing.assert_array_equal(conv.machine.kernel.patch_root, root)


def test_predictions_at_the_images_of_the_fit_are_known_without_a_gram_matrix():
    images, targets = problem()
    for conv in islice(conv_rfm_iterates(KERNEL, images, targets, ridge=RIDGE), 2):
        known = targets - conv.added_ridge * conv.machine.weights
        assert_close(known, conv(images), np.float64, "solve")
        assert np.max(np.abs(known - targets)) > 1e-3


@pytest.mark.parametrize("scale", [1e-100, 1e-3, 255.0, 1e100])
def test_the_scale_of_images_changes_nothing(scale):
    (images, targets), new = problem(), problem(4, 1)[0]
    fit = partial(fit_conv_rfm, KERNEL, targets=targets, ridge=RIDGE, num_iters=1)
    plain, scaled = fit(images=images), fit(images=scale * images)
    assert_close(scaled(scale * new), plain(new), np.float64, "solve")
    assert_close(scaled.feature_matrix, plain.feature_matrix, np.float64, "solve")


def test_drawn_images_are_seeded_and_all_of_them_are_the_agop_of_all():
    images, targets = problem()
    fit = partial(fit_conv_rfm, KERNEL, images, targets, ridge=RIDGE, num_iters=1)
    whole = np.asarray(fit().feature_matrix)
    drawn = np.asarray(fit(agop_size=3, key=jax.random.key(0)).feature_matrix)
    np.testing.assert_array_equal(fit(agop_size=3, key=jax.random.key(0)).feature_matrix, drawn)
    assert np.max(np.abs(fit(agop_size=3, key=jax.random.key(7)).feature_matrix - drawn)) > 1e-3
    assert np.max(np.abs(whole - drawn)) > 1e-3
    assert_close(fit(agop_size=N, key=jax.random.key(0)).feature_matrix, whole, np.float64, "product")
    np.testing.assert_array_equal(fit(key=jax.random.key(0)).feature_matrix, whole)


def test_the_ridge_and_the_solver_are_those_that_are_given():
    images, targets = problem()

    def doubling(a, targets):
        solution = eigh_solve(a, targets)
        return solution._replace(weights=solution.weights * (1 + 1e-7))

    fit = partial(fit_conv_rfm, KERNEL, images, targets, ridge=RIDGE, num_iters=1)
    plain = fit()
    assert_close(fit(solver=eigh_solve).machine.weights, plain.machine.weights, np.float64, "solve")
    doubled = (1 + 1e-7) * np.asarray(plain.machine.weights)
    np.testing.assert_allclose(fit(solver=doubling).machine.weights, doubled, rtol=1e-9)
    assert np.max(np.abs(fit(ridge=0.3)(images) - plain(images))) > 1e-2


def test_a_fit_goes_on_from_the_root_of_another():
    images, targets = problem()
    *_, first, second = islice(conv_rfm_iterates(KERNEL, images, targets, ridge=RIDGE), 3)
    again, onward = islice(conv_rfm_iterates(first.machine.kernel, images, targets, ridge=RIDGE), 2)
    assert_close(again.feature_matrix, first.feature_matrix, np.float64, "product")
    assert_close(again(images), first(images), np.float64, "solve")
    assert_close(onward.feature_matrix, second.feature_matrix, np.float64, "solve")


def test_float32_is_close_to_float64():
    conv = fit_conv_rfm(KERNEL, *problem(), ridge=0.1, num_iters=1)
    single = fit_conv_rfm(KERNEL, *problem(dtype=np.float32), ridge=0.1, num_iters=1)
    assert {leaf.dtype for leaf in jax.tree.leaves(single)} == {np.dtype(np.float32)}
    np.testing.assert_allclose(single.feature_matrix, conv.feature_matrix, atol=1e-4)
    np.testing.assert_allclose(single(problem(dtype=np.float32)[0]), conv(problem()[0]), atol=1e-3)


def blinking(num, seed):
    """Noise of 9 x 9 pixels, every second image with a cross somewhere: the task of stars, in small."""
    rng = np.random.default_rng(seed)
    images, labels = 0.3 * rng.normal(size=(num, 9, 9, 1)), np.arange(num) % 2
    for image in images[1::2]:
        row, column = rng.integers(1, 8, 2)
        image[row - 1 : row + 2, column] += 1
        image[row, column - 1 : column + 2] += 1
    return jnp.asarray(images), jnp.asarray(one_hot_targets(labels, 2))


@pytest.fixture(scope="module")
def selected():
    train, held_out = blinking(30, 0), blinking(200, 1)
    iterates = conv_rfm_iterates(ConvNTK(1, 3), *train, ridge=1e-3)
    return select_rfm(iterates, train, num_iters=2, validation=held_out, error=misclassification)


def test_an_update_finds_what_images_share_wherever_it_is(selected):
    best, history = selected
    plain, once, _ = history.validation_errors
    assert plain - once > 0.05
    assert history.best > 0
    assert best.feature_matrix.shape == (9, 9)
    # The cross, or its opposite, is the eigenvector of the largest eigenvalue.
    top = np.linalg.eigh(best.feature_matrix)[1][:, -1]
    cross = np.array([0, 1, 0, 1, 1, 1, 0, 1, 0]) / 5**0.5
    assert abs(top @ cross) > 0.8


def test_selection_keeps_the_history_of_the_matrix(selected):
    best, history = selected
    np.testing.assert_array_equal(history.feature_matrices[0], np.eye(9))
    np.testing.assert_array_equal(history.feature_matrices[history.best], best.feature_matrix)
    np.testing.assert_allclose(np.sum(history.spectra[1:], axis=1), 1, rtol=1e-12)


def test_it_is_a_pytree_that_survives_a_round_trip():
    images, targets = problem()
    conv = fit_conv_rfm(KERNEL, images, targets, ridge=RIDGE, num_iters=1)
    leaves, structure = jax.tree.flatten(conv)
    rebuilt = jax.tree.unflatten(structure, leaves)
    assert isinstance(rebuilt, ConvRFM)
    np.testing.assert_array_equal(rebuilt(images), conv(images))
    assert_close(jax.jit(lambda conv, x: conv(x))(conv, images), conv(images), np.float64, "product")


def refused(match, error=ValueError, kernel=KERNEL, images=None, targets=None, **options):
    own, true = problem()
    images, targets = own if images is None else images, true if targets is None else targets
    with as_a_user(), pytest.raises(error, match=match):
        fit_conv_rfm(kernel, images, targets, **{"ridge": RIDGE, "num_iters": 1} | options)


def test_options_that_no_fit_can_use_are_refused():
    for value in (-1, 1.5, True):
        refused(rf"num_iters must be at least 0 AGOP updates: got {value}", num_iters=value)
    refused(r"kernel must be a ConvNTK: got Laplace; fit_rfm takes any kernel", kernel=Laplace(1.0))
    refused(r"ridge must be a finite number of at least 0: got -1", ridge=-1.0)
    refused(r"agop_size must lie in 1..8, the number of rows: got 9", agop_size=9)
    refused(r"agop_size must lie in 1..8, the number of rows: got 0", agop_size=0)
    refused(r"agop_size draws rows and needs a key: got None", agop_size=3)
    refused(r"patch_root must have 8 rows", kernel=ConvNTK(1, 2, patch_root=jnp.eye(9)))


def test_cosines_of_blocks_are_of_the_kernel_that_was_solved():
    images, targets = problem()
    averages = jnp.repeat(jnp.eye(2), 4, axis=0) / 4
    plain = fit_conv_machine(KERNEL, images, targets, ridge=RIDGE, averages=averages)
    once = update_conv_rfm(plain, targets, ridge=RIDGE, averages=averages)
    for conv in (plain, once):
        gram = np.asarray(conv.machine.kernel(images, images))
        roots = np.sqrt(np.diag(gram))
        expected = (gram / np.outer(roots, roots)).reshape(2, 4, 2, 4).mean(axis=(1, 3))
        assert_close(conv.block_cosines, expected, np.float64, "product")
    assert fit_conv_machine(KERNEL, images, targets, ridge=RIDGE).block_cosines is None
    with as_a_user(), pytest.raises(ValueError, match=r"a row for each of the 8 images: got shape \(9, 2\)"):
        fit_conv_machine(KERNEL, images, targets, ridge=RIDGE, averages=jnp.ones((9, 2)))


def test_a_solver_that_never_has_the_kernel_matrix_is_refused():
    message = r"solver must be a function .* got ConjugateGradients; .* units of the largest entry of K"
    refused(message, solver=ConjugateGradients())
    images, targets = problem()
    conv = fit_conv_machine(KERNEL, images, targets, ridge=RIDGE)
    with as_a_user(), pytest.raises(ValueError, match=message):
        update_conv_rfm(conv, targets, ridge=RIDGE, solver=ConjugateGradients())


def test_images_and_targets_that_no_fit_can_use_are_refused():
    images, targets = problem()
    bad = images.at[3, 0, 0, 0].set(jnp.nan).at[6, 1, 1, 1].set(jnp.inf)
    refused(r"finite: got 2 NaN or infinite values in 2 rows, the first in row 3", images=bad)
    refused(r"targets must be finite: got 1 NaN .* row 2", targets=targets.at[2, 0].set(jnp.nan))
    refused(r"images must be floats of shape .* got float64 of shape \(8, 40\)", images=images.reshape(8, 40))
    refused(r"channels last", images=jnp.ones((8, 3, 32, 32)), kernel=ConvNTK(1, 3))
    refused(r"same number of rows, at least 1: got 8 and 7", targets=targets[:7])
    refused(r"for one output pass targets\[:, None\]", targets=targets[:, 0])
    refused(r"targets must not all be 0", targets=jnp.zeros_like(targets))


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_error_of_the_fit_names_the_iteration(dtype):
    images, targets = problem(dtype=dtype)
    twins = jnp.concatenate([images[:4], images[:4]])
    refused(r"fit of iteration 0 failed", FitError, images=twins, targets=targets, ridge=0.0)
    refused(r"images must not all be 0: got 8 whose kernel matrix is 0", images=0 * images, targets=targets)


def test_an_update_is_refused_by_name():
    images, targets = problem()
    conv = fit_conv_machine(KERNEL, images, targets, ridge=RIDGE)
    with as_a_user():
        with pytest.raises(ValueError, match=r"same number of rows, at least 1: got 8 and 7"):
            update_conv_rfm(conv, targets[:7], ridge=RIDGE)
        with pytest.raises(ValueError, match=r"agop_size draws rows and needs a key"):
            update_conv_rfm(conv, targets, ridge=RIDGE, agop_size=2)
        zero = jax.tree.map(jnp.zeros_like, conv)
        with pytest.raises(FitError, match=r"patch AGOP of round 7 is 0 .* n = 8 images is constant"):
            update_conv_rfm(zero, targets, ridge=RIDGE, name="round 7")
