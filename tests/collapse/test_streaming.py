"""Accumulators: any loop, any split, any order, over devices, and what they lose."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, PartitionSpec

from dnc_jax import (
    accumulate_class_stats,
    accumulate_decisions,
    accumulate_nc1,
    accumulate_scatter,
    class_stats,
    merge_over_axis,
    nc1,
    nc2_from_stats,
)
from tests import collapse_oracles
from tests.builders import class_clouds

COUNTS, DIM = (10, 18, 6, 14), 5
STATS = accumulate_class_stats(4, DIM, jnp.dtype("float64"))
SCATTER = accumulate_scatter(4, DIM, jnp.dtype("float64"))
updated_stats, updated_scatter = jax.jit(STATS.update), jax.jit(SCATTER.update)


def data(spread=0.5, seed=0, dim=DIM):
    features, labels = class_clouds(COUNTS, dim, spread=spread, seed=seed)
    return jnp.asarray(features), jnp.asarray(labels)


def batches(features, labels, size=8):
    return [(features[i : i + size], labels[i : i + size]) for i in range(0, len(labels), size)]


def total(accumulator, update, parts):
    state = accumulator.init()
    for part in parts:
        state = update(state, *part)
    return state


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), spread=st.sampled_from([1.0, 1e-4]))
def test_any_order_of_batches_gives_the_whole(seed, spread):
    features, labels = data(spread, seed)
    true = collapse_oracles.nc1(features, labels, 4)
    parts = batches(features, labels)
    order = np.random.default_rng(seed).permutation(len(parts))
    forward = total(STATS, updated_stats, [parts[i] for i in order])
    back = total(STATS, updated_stats, [parts[i] for i in order[::-1]][:3])
    rest = total(STATS, updated_stats, [parts[i] for i in order[::-1]][3:])
    for stats in (forward, STATS.merge(back, rest), STATS.merge(STATS.init(), forward)):
        second = accumulate_nc1(stats)
        found = second.compute(total(second, second.update, parts[:1])) * 0
        state = second.init()
        for part in parts:
            state = second.merge(second.update(second.init(), *part), state)
        np.testing.assert_allclose(found + second.compute(state), true, rtol=1e-9)
    scattered = SCATTER.compute(total(SCATTER, updated_scatter, [parts[i] for i in order]))
    np.testing.assert_allclose(scattered, true, rtol=1e-6)


def test_scan_gives_what_a_loop_gives():
    features, labels = data()
    stacked = features.reshape(6, 8, DIM), labels.reshape(6, 8)

    @jax.jit
    def scanned(features, labels):
        state, _ = jax.lax.scan(
            lambda s, part: (STATS.update(s, *part), None), STATS.init(), (features, labels)
        )
        return state

    for found, true in zip(scanned(*stacked), class_stats(features, labels, 4), strict=True):
        np.testing.assert_allclose(found, true, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("accumulator", [STATS, SCATTER], ids=["stats", "scatter"])
def test_devices_merge_their_parts_over_an_axis(accumulator):
    features, labels = data()
    mesh = jax.make_mesh((8,), ("n",), axis_types=(AxisType.Auto,))

    def local(features, labels):
        state = accumulator.update(accumulator.init(), features, labels)
        return merge_over_axis(accumulator, state, "n")

    rows = PartitionSpec("n")
    everywhere = jax.shard_map(local, mesh=mesh, in_specs=(rows, rows), out_specs=PartitionSpec())
    found = jax.jit(everywhere)(features, labels)
    whole = accumulator.update(accumulator.init(), features, labels)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


def test_devices_scan_their_parts_before_they_merge():
    features, labels = data()
    mesh = jax.make_mesh((8,), ("n",), axis_types=(AxisType.Auto,))

    def local(features, labels):
        start = jax.lax.pcast(STATS.init(), "n", to="varying")
        parts = features.reshape(3, 2, DIM), labels.reshape(3, 2)
        state, _ = jax.lax.scan(lambda state, part: (STATS.update(state, *part), None), start, parts)
        return merge_over_axis(STATS, state, "n")

    rows = PartitionSpec("n")
    everywhere = jax.shard_map(local, mesh=mesh, in_specs=(rows, rows), out_specs=PartitionSpec())
    found = jax.jit(everywhere)(features, labels)
    for a, b in zip(found, class_stats(features, labels, 4), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


def all_accumulators():
    stats = class_stats(*data(), 4)
    return [(STATS, 0), (SCATTER, 0), (accumulate_nc1(stats), 0), (accumulate_decisions(stats), 4)]


@pytest.mark.parametrize("which", range(4))
def test_an_empty_batch_changes_nothing(which):
    accumulator, num_logits = all_accumulators()[which]
    features, labels = data()
    logits = (jnp.ones((48, num_logits)),) if num_logits else ()
    state = accumulator.update(accumulator.init(), features, labels, *logits)
    after = accumulator.update(state, features[:0], labels[:0], *(a[:0] for a in logits))
    for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("which", range(4))
def test_labels_out_of_range_are_refused_and_nan_under_a_trace(which):
    accumulator, num_logits = all_accumulators()[which]
    features, labels = data()
    logits = (jnp.ones((48, num_logits)),) if num_logits else ()
    bad = labels.at[7].set(4)
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.3: got 1 outside, the first 4 at row 7"):
        accumulator.update(accumulator.init(), features, bad, *logits)
    state = jax.jit(accumulator.update)(accumulator.init(), features, bad, *logits)
    value = accumulator.compute(state)
    assert np.any(np.isnan(value.counts if accumulator is STATS else value))


def test_accumulators_of_nothing_are_refused():
    for call in (lambda: accumulate_class_stats(0, 3), lambda: accumulate_scatter(4, 0)):
        with pytest.raises(ValueError, match="num_classes and dim must be at least 1: got"):
            call()
    one = class_stats(jnp.ones((3, 2)), jnp.zeros(3, int), 1)
    with pytest.raises(ValueError, match="num_classes must be at least 2 for a collapse metric: got 1"):
        accumulate_nc1(one)


def test_held_out_points_that_are_not_finite_are_not_counted_as_decided():
    features, labels = data()
    accumulator = accumulate_decisions(class_stats(features, labels, 4))
    state = accumulator.update(accumulator.init(), features.at[3, 1].set(jnp.nan), labels, jnp.ones((48, 4)))
    assert np.all(np.isnan(accumulator.compute(state)))


def test_second_passes_add_under_psum():
    features, labels = data()
    stats = class_stats(features, labels, 4)
    second = accumulate_nc1(stats)
    parts = features.reshape(8, 6, DIM), labels.reshape(8, 6)

    def local(features, labels):
        return second.compute(jax.lax.psum(second.update(second.init(), features, labels), "n"))

    found = jax.vmap(local, axis_name="n")(*parts)
    np.testing.assert_allclose(found, np.full(8, nc1(features, labels, 4)), rtol=1e-11)


def test_decisions_on_held_out_points():
    features, labels = data()
    held_out, names = data(spread=2.0, seed=3)
    logits = jnp.asarray(np.random.default_rng(1).normal(size=(len(names), 4)))
    stats = class_stats(features, labels, 4)
    accumulator = accumulate_decisions(stats)
    state = accumulator.init()
    for i in range(0, len(names), 8):
        state = accumulator.update(state, held_out[i : i + 8], names[i : i + 8], logits[i : i + 8])
    nearest = collapse_oracles.nearest_class_mean(held_out, stats.means)
    mismatch, accuracy = accumulator.compute(state)
    assert float(mismatch) == pytest.approx((np.argmax(logits, axis=1) != nearest).mean())
    assert float(accuracy) == pytest.approx((nearest == np.asarray(names)).mean())
    with pytest.raises(ValueError, match=r"logits must have shape \(48, 4\): got \(48, 3\)"):
        accumulator.update(state, held_out, names, logits[:, :3])


def test_two_passes_are_more_exact_than_the_scatter_matrix():
    features, labels = data(spread=1e-11)
    true = collapse_oracles.nc1(features, labels, 4)
    parts = batches(features, labels)
    second = accumulate_nc1(total(STATS, updated_stats, parts))
    two_passes = float(second.compute(total(second, second.update, parts)))
    one_pass = float(SCATTER.compute(total(SCATTER, updated_scatter, parts)))
    assert two_passes == pytest.approx(true, rel=1e-8)
    assert one_pass == pytest.approx(true, rel=1e-4)
    assert abs(one_pass - true) > abs(two_passes - true)


def test_many_classes_in_tiles_need_no_matrix_of_all_pairs(monkeypatch):
    import dnc_jax.collapse.tiles as tiles

    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(40), 2)
    features = rng.normal(size=(80, DIM))
    stats = class_stats(jnp.asarray(features), jnp.asarray(labels), 40)
    monkeypatch.setattr(tiles, "TILE_ENTRIES", 7 * 40)
    from dnc_jax.collapse.angles import nc2_equiangularity_from_stats, nc2_log_energy_from_stats
    from dnc_jax.collapse.ratios import nc1_cdnv_from_stats

    assert tiles.rows_per_tile(40) == 7
    for name, tiled in (
        ("nc1_cdnv", nc1_cdnv_from_stats),
        ("nc2_equiangularity", nc2_equiangularity_from_stats),
        ("nc2_log_energy", nc2_log_energy_from_stats),
        ("nc2", nc2_from_stats),
    ):
        true = getattr(collapse_oracles, name)(features, labels, 40)
        np.testing.assert_allclose(tiled(stats), true, rtol=1e-11, err_msg=name)
        assert "40,40" not in str(jax.make_jaxpr(tiled)(stats)), name
