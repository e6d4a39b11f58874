"""Metrics of more points than fit in memory: accumulators of four pure functions.

    state = accumulator.init()
    state = accumulator.update(state, features, labels)     # in any loop, or in lax.scan
    state = accumulator.merge(state, other)                 # from another host, in any order
    value = accumulator.compute(state)

Which to take:

    accumulate_class_stats  one pass, O(k d): NC2, NC3, trace ratios, CDNV, by the `*_from_stats` functions
    accumulate_nc1          second pass, given class statistics, O(min(k, d) d): NC1
    accumulate_decisions    second pass, given class statistics, O(k d): NC4 and nearest-class-mean accuracy
    accumulate_scatter      one pass, O(k d + d^2): NC1, where the points cannot be read twice

All give the same in any order, up to rounding. The scatter matrix knows the means of the batches only, so its
relative error grows as eps times the distance between the means over the spread within them; the second pass
subtracts the means of all points, and its error stays far below that.
"""

import dataclasses
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dnc_jax.collapse.checks import check_labeled, check_several_classes, check_shape
from dnc_jax.collapse.decision import agreements, disagreements, nearest
from dnc_jax.collapse.statistics import (
    ClassStats,
    GlobalMean,
    class_stats,
    merge,
    nan_if_out_of_range,
    of_classes,
    residuals,
)
from dnc_jax.collapse.within import whitened_scatter, whitening
from dnc_jax.linalg import matmul

State = TypeVar("State")
Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class Accumulator(Generic[State, Result]):
    """Four pure functions over a pytree state; update takes (state, features, labels, *operands)."""

    init: Callable[[], State]
    update: Callable[..., State]
    merge: Callable[[State, State], State]
    compute: Callable[[State], Result]


def accumulate_class_stats(
    num_classes: int, dim: int, dtype: jnp.dtype | None = None
) -> Accumulator[ClassStats, ClassStats]:
    """Returns the accumulator of `ClassStats`, by the pairwise update of Chan, Golub and LeVeque (1983).

    Counts are held in the dtype of the features: exact up to 2^24 points a class in float32.

    Raises:
        ValueError: If num_classes or dim is below 1; by update, as `class_stats`, except that an empty batch
            changes nothing.
    """
    if num_classes < 1 or dim < 1:
        raise ValueError(f"num_classes and dim must be at least 1: got {num_classes} and {dim}")

    def init() -> ClassStats:
        zeros = jnp.zeros(num_classes, dtype)
        return ClassStats(zeros, jnp.zeros((num_classes, dim), dtype), zeros)

    def update(state: ClassStats, features: Float[Array, "n d"], labels: Int[Array, "n"]) -> ClassStats:
        return merge(state, class_stats(features, labels, num_classes)) if len(labels) else state

    return Accumulator(init, update, merge, lambda state: state)


class MeanState(NamedTuple):
    """A sum over points, and how many they were; states add."""

    total: Float[Array, "..."]
    num_points: Float[Array, ""]


def accumulate_nc1(
    stats: ClassStats, *, global_mean: GlobalMean = of_classes
) -> Accumulator[MeanState, Float[Array, ""]]:
    """Returns the accumulator of `nc1` over a second pass, given the statistics of all points.

    compute is NaN before the first point, and after a label out of range under a trace. States add, also by
    `jax.lax.psum`.

    Raises:
        ValueError: If the statistics are of fewer than 2 classes; by update, as `class_stats`, except that an
            empty batch changes nothing.
    """
    check_several_classes(stats.counts.shape[0])
    whitener = whitening(stats, global_mean)

    def update(state: MeanState, features: Float[Array, "n d"], labels: Int[Array, "n"]) -> MeanState:
        if not len(labels):
            return state
        check_labeled(features, labels, stats.counts.shape[0])
        total = whitened_scatter(features, labels, stats, whitener)
        return _add_points(state, total, labels, stats)

    return Accumulator(lambda: _zero_mean(stats, ()), update, _add, _mean)


def accumulate_decisions(stats: ClassStats) -> Accumulator[MeanState, Float[Array, "2"]]:
    """Returns the accumulator of (nc4, nearest-class-mean accuracy) against the means of given statistics.

    update takes (state, features, labels, logits). With the statistics of the training points and held-out
    features it is NC4 on held-out points. NaN after a point that is not finite, and after a label out of
    range under a trace. States add, also by `jax.lax.psum`.

    Raises:
        ValueError: By update, as `class_stats`, except that an empty batch changes nothing; or if the logits
            do not fit.
    """

    def update(
        state: MeanState,
        features: Float[Array, "n d"],
        labels: Int[Array, "n"],
        logits: Float[Array, "n k"],
    ) -> MeanState:
        check_shape("logits", logits.shape, (features.shape[0], stats.counts.shape[0]))
        if not len(labels):
            return state
        check_labeled(features, labels, stats.counts.shape[0])
        found = nearest(features, stats)
        total = jnp.sum(jnp.stack([disagreements(found, logits), agreements(found, labels)]), axis=1)
        return _add_points(state, total, labels, stats)

    return Accumulator(lambda: _zero_mean(stats, (2,)), update, _add, _mean)


class ScatterState(NamedTuple):
    """Class statistics and the d x d matrix sum_i (x_i - mu)(x_i - mu)^T, mu the mean of a point's class."""

    stats: ClassStats
    scatter: Float[Array, "d d"]


def accumulate_scatter(
    num_classes: int,
    dim: int,
    dtype: jnp.dtype | None = None,
    *,
    global_mean: GlobalMean = of_classes,
) -> Accumulator[ScatterState, Float[Array, ""]]:
    """Returns the accumulator of `nc1` in one pass, with the d x d scatter matrix within classes.

    Raises:
        ValueError: If num_classes is below 2 or dim below 1; by update, as `class_stats`, except that an
            empty batch changes nothing.
    """
    check_several_classes(num_classes)
    inner = accumulate_class_stats(num_classes, dim, dtype)

    def init() -> ScatterState:
        return ScatterState(inner.init(), jnp.zeros((dim, dim), dtype))

    def update(state: ScatterState, features: Float[Array, "n d"], labels: Int[Array, "n"]) -> ScatterState:
        if not len(labels):
            return state
        stats = class_stats(features, labels, num_classes)
        noise = residuals(features, labels, stats)
        return merge_scatter(state, ScatterState(stats, matmul(noise.T, noise)))

    def compute(state: ScatterState) -> Float[Array, ""]:
        whitener = whitening(state.stats, global_mean)
        return jnp.sum(whitener * matmul(state.scatter, whitener)) / jnp.sum(state.stats.counts)

    return Accumulator(init, update, merge_scatter, compute)


def merge_scatter(a: ScatterState, b: ScatterState) -> ScatterState:
    """Returns the scatter of the union of two disjoint sets of points."""
    weights = a.stats.counts * b.stats.counts / jnp.maximum(a.stats.counts + b.stats.counts, 1)
    difference = b.stats.means - a.stats.means
    between = matmul(difference.T * weights[None, :], difference)
    return ScatterState(merge(a.stats, b.stats), a.scatter + b.scatter + between)


def merge_over_axis(accumulator: Accumulator[State, Result], state: State, axis_name: str) -> State:
    """Returns the state merged over a mapped axis, as under shard_map or vmap, the same on every device.

    In a scan within shard_map the state differs between devices from the first update on: start it from
    jax.lax.pcast(accumulator.init(), axis_name, to="varying").
    """
    parts, own = jax.lax.axis_size(axis_name), jax.lax.axis_index(axis_name)

    def of_all(leaf: Array) -> Array:
        # A sum of what each device puts in its own place is, unlike all_gather, known to be the same on all.
        places = jnp.zeros((parts, *leaf.shape), leaf.dtype).at[own].set(leaf)
        return jax.lax.psum(places, axis_name)

    gathered = jax.tree.map(of_all, state)
    merged = jax.tree.map(lambda leaf: leaf[0], gathered)
    for part in range(1, parts):
        merged = accumulator.merge(merged, jax.tree.map(lambda leaf, i=part: leaf[i], gathered))
    return merged


def _zero_mean(stats: ClassStats, shape: tuple[int, ...]) -> MeanState:
    dtype = stats.means.dtype
    return MeanState(jnp.zeros(shape, dtype), jnp.zeros((), dtype))


def _add_points(state: MeanState, total: Array, labels: Int[Array, "n"], stats: ClassStats) -> MeanState:
    total = total + nan_if_out_of_range(labels, stats.counts.shape[0])
    return MeanState(state.total + total, state.num_points + labels.shape[0])


def _add(a: MeanState, b: MeanState) -> MeanState:
    return MeanState(a.total + b.total, a.num_points + b.num_points)


def _mean(state: MeanState) -> Float[Array, "..."]:
    return state.total / state.num_points
