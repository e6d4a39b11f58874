"""Laws that every collapse metric keeps, with a classifier or without one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from dnc_jax import class_stats, merge, simplex_etf
from dnc_jax.collapse.statistics import ClassStats
from tests.builders import assert_close, class_clouds, rotation, simplex_means
from tests.instances import CLASSIFIER_METRICS, DTYPES, METRICS

SEEDS = st.integers(0, 10**6)
COUNTS = (5, 9, 3, 7)
ALL = METRICS + CLASSIFIER_METRICS
statistics = jax.jit(class_stats, static_argnames="num_classes")


def operands(case, dim, dtype=np.float64, seed=0):
    """What a metric takes besides features, labels and num_classes."""
    if case not in [param.values[0] for param in CLASSIFIER_METRICS]:
        return ()
    return (np.random.default_rng(seed + 9).normal(size=(dim, len(COUNTS))).astype(dtype),)


def arrays(*values):
    return tuple(jnp.asarray(value) for value in values)


@pytest.mark.parametrize("case", ALL)
@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, scale=st.floats(1e-3, 1e3))
def test_invariant_to_rotation_translation_scale_order_and_duplication(case, seed, scale):
    features, labels = class_clouds(COUNTS, 6, spread=0.4, seed=seed)
    rest, rng, turn = operands(case, 6), np.random.default_rng(seed), rotation(6, seed)
    value, order = case.oracle(features, labels, 4, *rest), rng.permutation(len(labels))
    for moved, named, others in (
        (features @ turn, labels, tuple(turn.T @ a for a in rest)),
        (features + rng.normal(size=6), labels, rest),
        (features * scale, labels, tuple(a * 3 for a in rest)),
        (features[order], labels[order], rest),
    ):
        got = case.jitted(*arrays(moved, named), 4, *arrays(*others))
        np.testing.assert_allclose(got, value, rtol=1e-8, atol=1e-13)
    got = case.jitted(*arrays(np.repeat(features, 2, axis=0), np.repeat(labels, 2)), 4, *arrays(*rest))
    np.testing.assert_allclose(got, value, rtol=1e-8, atol=1e-13)


@pytest.mark.parametrize("case", ALL)
def test_invariant_to_the_names_of_the_classes(case):
    features, labels = class_clouds(COUNTS, 6, spread=0.4)
    rest, names = operands(case, 6), np.array([2, 0, 3, 1])
    renamed = tuple(a[:, np.argsort(names)] for a in rest)
    got = case.jitted(*arrays(features, names[labels]), 4, *arrays(*renamed))
    np.testing.assert_allclose(got, case.oracle(features, labels, 4, *rest), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("case", ALL)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dim", [2, 6])
def test_follows_the_oracle_in_the_dtype_given(case, dtype, dim):
    features, labels = class_clouds(COUNTS, dim, spread=0.4, offset=3.0)
    features, rest = features.astype(dtype), operands(case, dim, dtype)
    got = case.metric(*arrays(features, labels), 4, *arrays(*rest))
    assert_close(got, case.oracle(features, labels, 4, *rest), dtype, "product")


@pytest.mark.parametrize("case", ALL)
def test_eager_jitted_mapped_and_scanned_agree(case):
    features, labels = class_clouds(COUNTS, 6, spread=0.4)
    labels, *rest = arrays(labels, *operands(case, 6))
    stack = jnp.asarray(np.stack([features, 2 * features**2]))

    def measure(features):
        return case.metric(features, labels, 4, *rest)

    mapped = jax.jit(jax.vmap(measure))(stack)
    scanned = jax.jit(lambda stack: jax.lax.scan(lambda _, f: (None, measure(f)), None, stack)[1])(stack)
    true = [case.oracle(features, labels, 4, *rest) for features in np.asarray(stack)]
    for got in (
        mapped,
        scanned,
        [measure(f) for f in stack],
        [case.jitted(f, labels, 4, *rest) for f in stack],
    ):
        np.testing.assert_allclose(got, true, rtol=1e-10)


@pytest.mark.parametrize("case", ALL)
@pytest.mark.parametrize("dim", [2, 6])
def test_gradients_are_true(case, dim):
    features, labels = class_clouds(COUNTS, dim, spread=0.4)
    rest = operands(case, dim)
    gradient = jax.grad(case.jitted)(*arrays(features, labels), 4, *arrays(*rest))
    direction = np.random.default_rng(1).normal(size=features.shape)
    step = 1e-6
    forward, backward = (
        case.oracle(features + sign * step * direction, labels, 4, *rest) for sign in (1, -1)
    )
    np.testing.assert_allclose((gradient * direction).sum(), (forward - backward) / (2 * step), rtol=1e-5)


@pytest.mark.parametrize("case", ALL)
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_gradients_are_finite_at_full_collapse_and_at_a_mean_of_norm_zero(case, shift):
    # Every point at its class mean; shifted, the first class mean coincides with the global mean.
    means = simplex_means(4, 6)
    means[0] = means[0] * (1 - shift) + means[1:].mean(axis=0) * shift
    labels = np.repeat(np.arange(4), 6)
    rest = arrays(*(means.T for _ in operands(case, 6)))
    gradient = jax.grad(case.jitted)(*arrays(means[labels], labels), 4, *rest)
    assert bool(jnp.all(jnp.isfinite(gradient)))


@pytest.mark.parametrize("case", ALL)
def test_falls_as_classes_collapse_onto_a_simplex(case):
    means, values = simplex_means(4, 6), []
    for spread in (1.0, 0.1, 0.01, 0.0):
        features, labels = class_clouds((6, 6, 6, 6), 6, spread=spread, means=means)
        rest = (means.T + spread * operands(case, 6)[0],) if operands(case, 6) else ()
        values.append(float(case.jitted(*arrays(features, labels), 4, *arrays(*rest))))
    assert values == sorted(values, reverse=True)
    assert not case.is_zero or values[-1] < 1e-14


@pytest.mark.parametrize("case", ALL)
@pytest.mark.parametrize("dim", [2, 6])
def test_a_class_without_points_is_left_out(case, dim):
    features, labels = class_clouds(COUNTS, dim, spread=0.4)
    rest = operands(case, dim)
    spread_out = np.array([0, 1, 3, 5])[labels]
    wide = tuple(np.insert(a, [2, 3], 7.0, axis=1) for a in rest)
    got = case.metric(*arrays(features, spread_out), 6, *arrays(*wide))
    np.testing.assert_allclose(got, case.oracle(features, labels, 4, *rest), rtol=1e-11)


@pytest.mark.parametrize("case", [param for param in ALL if param.values[0].from_stats])
@settings(max_examples=10, deadline=None)
@given(seed=SEEDS, share=st.floats(0.1, 0.9))
def test_equals_itself_merged_from_any_split(case, seed, share):
    features, labels = class_clouds(COUNTS, 6, spread=0.4, seed=seed)
    first = np.random.default_rng(seed).permutation(len(labels)) < max(1, int(share * len(labels)))
    parts = [statistics(*arrays(features[p], labels[p]), 4) for p in (first, ~first)]
    rest = operands(case, 6)
    got = case.from_stats(ClassStats(*jax.jit(merge)(*parts)), *arrays(*rest))
    np.testing.assert_allclose(got, case.oracle(features, labels, 4, *rest), rtol=1e-9)


@pytest.mark.parametrize("case", ALL)
def test_equals_itself_sharded_over_eight_devices(case):
    features, labels = class_clouds(COUNTS, 6, spread=0.4)
    rest = operands(case, 6)
    mesh = jax.make_mesh((8,), ("n",), axis_types=(AxisType.Auto,))
    rows = NamedSharding(mesh, PartitionSpec("n"))
    assert len(labels) % 8 == 0
    placed = [jax.device_put(a, rows) for a in arrays(features, labels)]
    replicated = [jax.device_put(a, NamedSharding(mesh, PartitionSpec())) for a in arrays(*rest)]
    got = case.jitted(*placed, 4, *replicated)
    np.testing.assert_allclose(got, case.oracle(features, labels, 4, *rest), rtol=1e-11)


@pytest.mark.parametrize("case", ALL)
def test_a_label_out_of_range_is_nan_under_a_trace(case):
    features, labels = class_clouds(COUNTS, 6, spread=0.4)
    rest = arrays(*operands(case, 6))
    for wrong in (-1, 4):
        assert np.isnan(case.jitted(jnp.asarray(features), jnp.asarray(labels).at[3].set(wrong), 4, *rest))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", [param for param in METRICS if param.id.startswith("nc1")])
def test_nc1_is_proportional_to_the_squared_spread_of_a_simplex(case, dtype):
    simplex = np.asarray(simplex_etf(jax.random.key(0), 4, 6, dtype=np.dtype(np.float64)))
    noise = np.random.default_rng(0).normal(size=(24, 6))
    labels = np.arange(24) % 4
    spreads = (1e-2, 1e-4, 1e-5) if dtype == np.float32 else (1e-3, 1e-6, 1e-9, 1e-12)
    ratios = []
    for spread in spreads:
        features = (simplex[labels] + spread * noise).astype(dtype)
        ratios.append(float(case.jitted(*arrays(features, labels), 4)) / spread**2)
    np.testing.assert_allclose(ratios, ratios[0], rtol=0.02)
