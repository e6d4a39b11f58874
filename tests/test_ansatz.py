from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnc_jax import (
    Stages,
    agop_alignment,
    centered_nfa_correlation,
    centered_nfc,
    cosine_nfa,
    layer_agops,
    nc1_trace_ratio,
    nfa_correlation,
    nfm,
    subspace_alignment,
    svd_stages,
)
from tests import ansatz_oracles as oracles
from tests.builders import (
    as_a_user,
    assert_close,
    class_clouds,
    over_devices,
    rotation,
    with_spectrum,
    without_values,
)
from tests.instances import DTYPES, METRICS

ANSATZES = [
    pytest.param(nfa_correlation, oracles.nfa_correlation, id="nfa_correlation"),
    pytest.param(cosine_nfa, oracles.cosine_nfa, id="cosine_nfa"),
]
POWERS = [1.0, 0.5]


def weights_and_agop(shape=(6, 4), seed=0, rank=None):
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(shape[0], shape[0] if rank is None else rank))
    return rng.normal(size=shape), factor @ factor.T


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (300, 20)])
def test_nfm_is_the_sum_of_outer_products_of_columns(dtype, shape):
    weights = np.random.default_rng(0).normal(size=shape).astype(dtype)
    assert_close(nfm(jnp.asarray(weights)), oracles.nfm(weights), dtype, "product")


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
def test_singular_pairs_of_the_weights_are_eigenpairs_of_the_nfm(shape):
    weights = np.random.default_rng(0).normal(size=shape)
    vectors, singular, _ = np.linalg.svd(weights, full_matrices=False)
    matrix = np.asarray(nfm(jnp.asarray(weights)))
    np.testing.assert_allclose(matrix @ vectors, vectors * singular**2, rtol=1e-10, atol=1e-12)
    values, found = np.linalg.eigh(matrix)
    np.testing.assert_allclose(values[::-1][: len(singular)], singular**2, rtol=1e-10)
    overlaps = np.abs(found[:, ::-1][:, : len(singular)].T @ vectors)
    np.testing.assert_allclose(overlaps, np.eye(len(singular)), atol=1e-10)


@pytest.mark.parametrize(("ansatz", "oracle"), ANSATZES)
@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_ansatz_follows_its_oracle(ansatz, oracle, power, dtype):
    weights, matrix = (jnp.asarray(m, dtype) for m in weights_and_agop())
    true = oracle(weights, matrix, power)
    assert_close(ansatz(weights, matrix, power=power), true, dtype, "product")
    assert_close(jax.jit(partial(ansatz, power=power))(weights, matrix), true, dtype, "product")
    assert len({float(ansatz(weights, matrix, power=p)) for p in POWERS}) == len(POWERS)


@pytest.mark.parametrize(("ansatz", "oracle"), ANSATZES)
@pytest.mark.parametrize("power", POWERS)
def test_the_ansatz_is_one_where_it_holds(ansatz, oracle, power):
    weights, other = weights_and_agop()
    matrix = jnp.asarray(3.0 * np.linalg.matrix_power(oracles.nfm(weights), round(1 / power)))
    np.testing.assert_allclose(ansatz(jnp.asarray(weights), matrix, power=power), 1, rtol=1e-10)
    assert ansatz(jnp.asarray(weights), jnp.asarray(other), power=power) < 0.95


@pytest.mark.parametrize(("ansatz", "oracle"), ANSATZES)
@pytest.mark.parametrize("power", POWERS)
def test_the_ansatz_has_true_gradients_and_runs_under_vmap(ansatz, oracle, power):
    weights, matrix = (jnp.asarray(m) for m in weights_and_agop())
    measure = jax.jit(partial(ansatz, power=power))
    by_weights, by_matrix = jax.jit(jax.grad(measure, argnums=(0, 1)))(weights, matrix)
    rng, step = np.random.default_rng(1), 1e-6
    turn, bend = rng.normal(size=weights.shape), rng.normal(size=matrix.shape)
    bend = bend + bend.T
    moved = [oracle(weights + s * turn, matrix + s * bend, power) for s in (step, -step)]
    change = (by_weights * turn).sum() + (by_matrix * bend).sum()
    np.testing.assert_allclose(change, (moved[0] - moved[1]) / (2 * step), rtol=1e-6)
    stack = jnp.stack([weights, 2 * weights**2])
    mapped = jax.jit(jax.vmap(measure, in_axes=(0, None)))(stack, matrix)
    np.testing.assert_allclose(mapped, [measure(w, matrix) for w in stack], rtol=1e-9)


@pytest.mark.parametrize(("ansatz", "oracle"), ANSATZES)
@pytest.mark.parametrize("power", POWERS)
def test_gradients_at_a_singular_agop_are_finite_and_know_no_scale(ansatz, oracle, power):
    weights, matrix = (jnp.asarray(m) for m in weights_and_agop(rank=2))
    gradient = jax.jit(jax.grad(partial(ansatz, power=power), argnums=1))(weights, matrix)
    assert np.all(np.isfinite(gradient))
    # Along itself the AGOP only changes its scale.
    np.testing.assert_allclose((gradient * matrix).sum(), 0, atol=1e-10)


@pytest.mark.parametrize(("ansatz", "oracle"), ANSATZES)
def test_rounding_of_a_singular_agop_is_no_feature(ansatz, oracle):
    # Eigenvalues of 1e-17 would come back as 1e-17^(1/10) = 0.02.
    weights, matrix = weights_and_agop(shape=(20, 3), rank=3)
    exact = weights @ weights.T @ matrix @ weights @ weights.T
    values, vectors = np.linalg.eigh(exact)
    true = (vectors[:, -3:] * values[-3:] ** 0.1) @ vectors[:, -3:].T
    compare = oracles.pearson if ansatz is nfa_correlation else oracles.cosine
    got = ansatz(jnp.asarray(weights), jnp.asarray(exact), power=0.1)
    np.testing.assert_allclose(got, compare(oracles.nfm(weights), true), rtol=1e-10)


@pytest.mark.parametrize("dims", [(6, 6, 6, 6), (6, 8, 5, 7, 4), (3, 9, 9, 9)])
def test_the_ansatz_is_exact_for_balanced_deep_linear_networks(dims):
    # W_l = U_l S^(1/L) U_(l+1)^T: W_l W_l^T is AGOP_l^(1/(L - l + 1)), whatever the width of a layer.
    depth, rank = len(dims) - 1, min(dims)
    singular = np.linspace(0.3, 2.0, rank) ** (1 / depth)
    bases = [rotation(dim, seed)[:, :rank] for seed, dim in enumerate(dims)]
    weights = [jnp.asarray((bases[i] * singular) @ bases[i + 1].T) for i in range(depth)]
    network = [lambda h, w=w: h @ w for w in weights]
    x = jnp.asarray(np.random.default_rng(0).normal(size=(5, dims[0])))
    for index, (w, matrix) in enumerate(zip(weights, layer_agops(network, x), strict=True)):
        power = 1 / (depth - index)
        for ansatz in (nfa_correlation, cosine_nfa):
            np.testing.assert_allclose(ansatz(w, matrix, power=power), 1, rtol=1e-10)
        truth = oracles.psd_power(np.asarray(matrix) * (np.abs(matrix) > 0), 1.0)
        np.testing.assert_allclose(truth, np.linalg.matrix_power(nfm(w), depth - index), atol=1e-10)
        if power < 1:
            assert nfa_correlation(w, matrix) < 1 - 1e-3


def test_the_centered_ansatz_takes_the_change_of_the_weights():
    (weights, matrix), (initial, _) = weights_and_agop(), weights_and_agop(seed=1)
    got = centered_nfa_correlation(*map(jnp.asarray, (weights, initial, matrix)), power=0.5)
    np.testing.assert_allclose(got, oracles.nfa_correlation(weights - initial, matrix, 0.5), rtol=1e-10)
    np.testing.assert_allclose(
        centered_nfa_correlation(*map(jnp.asarray, (weights, 0 * initial, matrix)), power=0.5),
        nfa_correlation(jnp.asarray(weights), jnp.asarray(matrix), power=0.5),
        rtol=1e-12,
    )


def test_the_centered_correlation_takes_the_change_in_the_agop_too():
    rng = np.random.default_rng(0)
    weights, initial, last = (jnp.asarray(rng.normal(size=s)) for s in ((6, 5), (6, 5), (5, 3)))
    x = jnp.asarray(rng.normal(size=(20, 6)))
    whole, preactivation, _ = layer_agops([lambda h: h @ weights, jnp.tanh, lambda h: h @ last], x)
    change = np.asarray(weights - initial)
    true = oracles.cosine(change @ change.T, change @ np.asarray(preactivation) @ change.T)
    np.testing.assert_allclose(centered_nfc(weights, initial, preactivation), true, rtol=1e-10)
    np.testing.assert_allclose(
        centered_nfc(weights, 0 * initial, preactivation), cosine_nfa(weights, whole), rtol=1e-10
    )


def test_alignments_are_one_for_equals_and_zero_for_orthogonal_ranges():
    a, b = (rotation(6)[:, i : i + 3] for i in (0, 3))
    a, b = jnp.asarray(a @ a.T), jnp.asarray(b @ b.T)
    np.testing.assert_allclose(
        [agop_alignment(a, 2 * a), agop_alignment(a, a + b)], [1, 0.5**0.5], rtol=1e-12
    )
    np.testing.assert_allclose(agop_alignment(a, b), 0, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("num_directions", [1, 3, 6, 9])
def test_subspace_alignment_is_the_share_of_the_trace(dtype, num_directions):
    matrix = with_spectrum([0.1, 0.2, 0.5, 1.0, 2.0, 5.0]).astype(dtype)
    directions = np.random.default_rng(0).normal(size=(6, num_directions)).astype(dtype)
    true = oracles.subspace_alignment(*(np.asarray(m, np.float64) for m in (matrix, directions)))
    got = subspace_alignment(jnp.asarray(matrix), jnp.asarray(directions))
    assert_close(got, true, dtype, "solve")
    doubled = np.concatenate([directions, directions @ np.ones((num_directions, 1), dtype)], axis=1)
    assert_close(subspace_alignment(jnp.asarray(matrix), jnp.asarray(doubled)), true, dtype, "solve")
    if num_directions >= 6:
        np.testing.assert_allclose(got, 1, rtol=1e-5)


def test_subspace_alignment_has_true_gradients_at_orthonormal_directions():
    matrix, directions = with_spectrum([0.1, 0.2, 0.5, 1.0]), rotation(4, 1)[:, :2]
    direction, step = np.random.default_rng(1).normal(size=(4, 2)), 1e-6
    gradient = jax.jit(jax.grad(subspace_alignment, argnums=1))(jnp.asarray(matrix), jnp.asarray(directions))
    moved = [oracles.subspace_alignment(matrix, directions + sign * step * direction) for sign in (1, -1)]
    np.testing.assert_allclose((gradient * direction).sum(), (moved[0] - moved[1]) / (2 * step), rtol=1e-6)


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_svd_stages_are_the_three_of_a_layer(shape, dtype):
    rng = np.random.default_rng(0)
    features, weights = rng.normal(size=(7, shape[0])).astype(dtype), rng.normal(size=shape).astype(dtype)
    stages = jax.jit(partial(svd_stages, activation=jax.nn.relu))(jnp.asarray(features), jnp.asarray(weights))
    np.testing.assert_array_equal(stages.input, features)
    assert stages.linear.shape == (7, min(shape))
    product = features.astype(np.float64) @ weights
    assert_close(stages.nonlinear, np.maximum(product, 0), dtype, "product")
    gram = np.asarray(stages.linear, np.float64)
    assert_close(stages.linear @ stages.linear.T, gram @ gram.T, dtype, "product")
    np.testing.assert_allclose(
        gram @ gram.T, product @ product.T, atol=1e-4 if dtype == np.float32 else 1e-12
    )


@pytest.mark.parametrize("case", METRICS)
@pytest.mark.parametrize("width", [5, 8])
def test_collapse_of_the_linear_stage_is_that_of_the_preactivations(case, width):
    features, labels = class_clouds((5, 9, 3, 6), 6, spread=0.4)
    weights = np.random.default_rng(1).normal(size=(6, width))
    stages = svd_stages(jnp.asarray(features), jnp.asarray(weights), lambda h: h)
    linear, product = (
        case.metric(h, jnp.asarray(labels), num_classes=4) for h in (stages.linear, stages.nonlinear)
    )
    np.testing.assert_allclose(linear, product, rtol=1e-9)
    np.testing.assert_allclose(linear, case.oracle(features @ weights, labels, 4), rtol=1e-9)


@pytest.mark.parametrize("singular", [(3.0, 2.0, 1.0, 0.5), (2.0, 2.0, 2.0, 2.0), (2.0, 2.0, 0.0, 0.0)])
@pytest.mark.parametrize("width", [4, 7])
def test_gradients_through_the_linear_stage_are_those_of_the_preactivations(singular, width):
    features, labels = (jnp.asarray(a) for a in class_clouds((5, 9, 3, 6), 4, spread=0.4))
    weights = jnp.asarray(rotation(4) * np.array(singular) @ rotation(width)[:4])

    def of_stage(weights, stage):
        return nc1_trace_ratio(getattr(svd_stages(features, weights, lambda h: h), stage), labels, 4)

    linear, product = (jax.jit(jax.grad(of_stage), static_argnums=1)(weights, s) for s in Stages._fields[1:])
    np.testing.assert_allclose(linear, product, rtol=1e-9, atol=1e-12)


def test_columns_of_the_linear_stage_have_true_derivatives_where_singular_values_differ():
    weights, direction = (np.random.default_rng(i).normal(size=(5, 3)) for i in (0, 1))
    mix = jnp.asarray(np.random.default_rng(2).normal(size=(5, 3)))

    def columns(weights):
        return jnp.sum(svd_stages(jnp.eye(5), weights, lambda h: h).linear * mix)

    slope = jnp.sum(jax.grad(columns)(jnp.asarray(weights)) * direction)
    moved = [columns(jnp.asarray(weights + sign * 1e-6 * direction)) for sign in (1, -1)]
    np.testing.assert_allclose(slope, (moved[0] - moved[1]) / 2e-6, rtol=1e-7)


def test_the_ansatz_over_eight_devices_is_that_of_one():
    weights, matrix = (jnp.asarray(m) for m in weights_and_agop(shape=(16, 8)))
    for power in (1.0, 0.5):
        got = jax.jit(partial(nfa_correlation, power=power))(over_devices(weights), over_devices(matrix))
        np.testing.assert_allclose(got, nfa_correlation(weights, matrix, power=power), rtol=1e-10)


UNDEFINED = [
    pytest.param(lambda w, m: nfa_correlation(0 * w, m), "pearson is undefined", id="zero weights"),
    pytest.param(lambda w, m: nfa_correlation(w, 0 * m), "pearson is undefined", id="zero agop"),
    pytest.param(lambda w, m: nfa_correlation(w, 0 * m, power=0.5), "pearson is undefined", id="zero root"),
    pytest.param(lambda w, m: cosine_nfa(w, 0 * m, power=0.5), "cosine is undefined", id="cosine"),
    pytest.param(lambda w, m: centered_nfa_correlation(w, w, m), "pearson is undefined", id="no change"),
    pytest.param(lambda w, m: centered_nfc(w.T, w.T, m), "cosine is undefined", id="no change of nfc"),
    pytest.param(lambda w, m: agop_alignment(0 * w @ w.T, m), "cosine is undefined", id="alignment"),
    pytest.param(lambda w, m: subspace_alignment(0 * m, w), "not 0: got trace 0; leave", id="subspace"),
]


@pytest.mark.parametrize(("call", "message"), UNDEFINED)
def test_what_is_undefined_raises_or_is_nan_with_gradient_zero(call, message):
    weights, matrix = (jnp.asarray(m) for m in weights_and_agop())
    with pytest.raises(ValueError, match=message):
        call(weights, matrix)
    assert np.isnan(without_values(call)(weights, matrix))
    for gradient in jax.jit(jax.grad(call, argnums=(0, 1)))(weights, matrix):
        np.testing.assert_array_equal(gradient, 0)


def test_shapes_that_do_not_fit_are_refused():
    w, m = jnp.ones((6, 4)), jnp.eye(6)
    for call in (
        lambda: nfa_correlation(w.T, m),
        lambda: cosine_nfa(w, m[:5]),
        lambda: centered_nfc(w, w, m),
        lambda: subspace_alignment(m, w.T),
    ):
        with as_a_user(), pytest.raises(ValueError, match=r"the feature matrix must have shape \("):
            call()
    with (
        as_a_user(),
        pytest.raises(ValueError, match=r"weights and initial_weights must have one shape: got"),
    ):
        centered_nfa_correlation(w, w.T, m)
    with as_a_user(), pytest.raises(ValueError, match=r"weights must be a matrix of floats: got shape"):
        nfm(w[:, 0])
    with as_a_user(), pytest.raises(ValueError, match=r"features \(n, d\) and weights \(d, p\) must fit"):
        svd_stages(w, w, jnp.tanh)
