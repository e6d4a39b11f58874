"""What is measured of a network: collapse at the three stages of every layer, and the feature ansatz."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from dnc_jax import (
    ClassStats,
    agop_factor,
    class_stats,
    collapse_metrics,
    cosine_of_grams,
    decision_mismatch,
    layer_agops,
    nc1,
    nc1_trace_ratio,
    nc2,
    nc2_gram_mse,
    pearson_of_grams,
    power_factor,
    principal_columns,
    within_class_rounding,
)
from dnc_jax.chunking import map_rows
from dnc_jax.collapse import (
    nc2_cosine_std_from_stats,
    nc2_equiangularity_from_stats,
    nc2_equinorm_from_stats,
)
from dnc_jax.networks import Layer
from dnc_jax.types import Stages
from experiments.support.network_cost import layer_costs
from experiments.support.records import Row

METRICS = {"nc1": nc1, "nc1_trace_ratio": nc1_trace_ratio, "nc2": nc2, "nc2_gram_mse": nc2_gram_mse}
OF_CLASSIFIER = {
    "nc2_equinorm": nc2_equinorm_from_stats,
    "nc2_equiangularity": nc2_equiangularity_from_stats,
    "nc2_cosine_std": nc2_cosine_std_from_stats,
}
# Stages of a layer that are no features: its weights against its AGOP, and the network as a whole.
WEIGHTS, NETWORK = "weights", "network"
# What the gradients of a block of points may take, for all outputs at once.
AGOP_BYTES = 2**28
# What a layer may hold of a block of points, and by how much that exceeds what it receives: patches of 3 x 3.
LAYER_BYTES, PATCHES = 2**28, 16

Measured: TypeAlias = dict[tuple[int, str], dict[str, Array]]
"""Metrics by layer, counted from 1, and stage."""


def linear_columns(layers: Sequence[Layer]) -> list[Array]:
    """Returns V S of the weights of every layer but the head, what the linear stage multiplies by."""
    return [_columns(layer.matrix) for layer in layers[:-1]]


_columns = jax.jit(principal_columns)


def measure_collapse(
    layers: Sequence[Layer], columns: Sequence[Array], x: Array, labels: Array, num_classes: int
) -> tuple[Measured, Array]:
    """Returns NC1 and NC2 by stage of every layer but the head, everything at its input; and that input."""
    metrics = METRICS | {"within_class_rounding": within_class_rounding}
    found, state = _by_stage(layers, columns, x, labels, num_classes, metrics)
    found |= _of_head(layers[-1], state, labels, num_classes, len(layers))
    return found, state


def measure_held_out(
    layers: Sequence[Layer],
    columns: Sequence[Array],
    x: Array,
    labels: Array,
    train_stats: ClassStats,
    num_classes: int,
) -> Measured:
    """Returns NC1 and NC2 of held-out points by stage, and NC4 against the class means of training."""
    held_out = {f"test_{name}": metric for name, metric in METRICS.items()}
    found, state = _by_stage(layers, columns, x, labels, num_classes, held_out)
    mismatch = decision_mismatch(state, train_stats, jax.vmap(layers[-1])(state))
    return found | {(len(layers), "input"): {"test_nc4": mismatch}}


def measure_agops(layers: Sequence[Layer], x: Array) -> list[Array]:
    """Returns `preactivation_agops` by blocks that fit: one backward pass per output serves all layers."""
    return preactivation_agops(tuple(layers), x, rows_per_block(layers, x))


def measure_ansatz(layers: Sequence[Layer], initial: Sequence[Array], agops: Sequence[Array]) -> Measured:
    """Returns how the weights of every layer correlate with the AGOP at its input and with its square root.

    Of a convolution, its weights as a map of patches, and the AGOP of patches. The centered ones are of the
    change of the weights since initialization, and left out where there is none.

    Args:
        agops: What `measure_agops` returns.
    """
    found: Measured = {}
    for number, (layer, start, agop) in enumerate(zip(layers, initial, agops, strict=True), 1):
        values = _ansatz(layer.matrix, start, agop)
        has_changed = bool(jnp.any(layer.matrix != start))
        found[number, WEIGHTS] = {
            name: value for name, value in values.items() if has_changed or not name.startswith("centered")
        }
    return found


@partial(jax.jit, static_argnames="batch_size")
def preactivation_agops(layers: Sequence[Layer], x: Array, batch_size: int) -> list[Array]:
    """Returns for every layer the AGOP K at its pre-activations, summed over positions of images.

    W K W^T is the AGOP at its input, or of its patches.
    """
    between = [lambda z, a=a, b=b: b.linear(a.rest(z)) for a, b in pairwise(layers)]
    z = jax.vmap(layers[0].linear)(x)
    return layer_agops([*between, layers[-1].rest], z, batch_size=batch_size, per_position=True)


def rows_per_block(layers: Sequence[Layer], x: Array) -> int:
    """Returns how many points' gradients, for every output, fit into `AGOP_BYTES` with what they need.

    Of the layer that needs most: derivatives of its patches, and of what it passes on.
    """
    costs = layer_costs(layers, jax.ShapeDtypeStruct(x.shape[1:], x.dtype))
    num_classes, passed_on = layers[-1].matrix.shape[1], sum(cost.num_outputs for cost in costs)
    largest = max(max(cost.num_outputs, cost.num_patch_entries) for cost in costs)
    per_point = (passed_on + 2 * num_classes * largest) * x.dtype.itemsize
    return max(1, min(len(x), AGOP_BYTES // per_point))


def to_rows(seed: int, epoch: int, *found: Measured) -> tuple[list[Row], list[str]]:
    """Returns rows as they are recorded, and the places of values that are not finite, which are left out."""
    rows, undefined = [], []
    for (layer, stage), values in jax.device_get([item for part in found for item in part.items()]):
        for metric, value in values.items():
            place = {"seed": seed, "epoch": epoch, "layer": layer, "stage": stage, "metric": metric}
            if jnp.isfinite(value):
                rows.append(place | {"value": float(value)})
            else:
                undefined.append(f"{metric} at layer {layer}, {stage}")
    return rows, undefined


def _by_stage(
    layers: Sequence[Layer],
    columns: Sequence[Array],
    x: Array,
    labels: Array,
    num_classes: int,
    metrics: dict[str, Any],
) -> tuple[Measured, Any]:
    found, state, items = {}, x, tuple(metrics.items())
    for number, (layer, projection) in enumerate(zip(layers[:-1], columns, strict=True), 1):
        by_stage, state = _measure_layer(layer, projection, state, labels, num_classes, items)
        found |= {(number, stage): values for stage, values in by_stage.items()}
    return found, state


# One program serves all layers of one shape.
@partial(jax.jit, static_argnames=("num_classes", "metrics"))
def _measure_layer(
    layer: Layer,
    columns: Array,
    state: PyTree,
    labels: Array,
    num_classes: int,
    metrics: tuple[tuple[str, Any], ...],
) -> tuple[dict[str, dict[str, Array]], Any]:
    """Returns metrics by stage, and what the next layer receives."""
    received = state[0] if isinstance(state, tuple) else state

    per_point = PATCHES * received[0].size * received.dtype.itemsize
    of_rows = jax.vmap(lambda row: (layer.project(row, columns), layer.features(row), layer(row)))
    projected, features, passed_on = map_rows(of_rows, state, max(1, LAYER_BYTES // per_point))
    stages = Stages(received, projected, features)
    by_stage = {
        stage: {name: metric(rows.reshape(len(rows), -1), labels, num_classes) for name, metric in metrics}
        for stage, rows in stages._asdict().items()
    }
    return by_stage, passed_on


@partial(jax.jit, static_argnames=("num_classes", "number"))
def _of_head(head: Layer, x: Array, labels: Array, num_classes: int, number: int) -> Measured:
    values = collapse_metrics(x, labels, num_classes, head.matrix, jax.vmap(head)(x))._asdict()
    values["nc2_gram_mse"] = nc2_gram_mse(x, labels, num_classes)
    stats = class_stats(head.matrix.T, jnp.arange(num_classes), num_classes)
    of_classifier = {name: metric(stats) for name, metric in OF_CLASSIFIER.items()}
    return {(number, "input"): values, (number, WEIGHTS): of_classifier}


@jax.jit
def _ansatz(matrix: Array, start: Array, agop: Array) -> dict[str, Array]:
    root_of_agop, change = agop_factor(jnp.eye(len(agop), dtype=agop.dtype), agop), matrix - start
    whole = matrix @ root_of_agop
    root = power_factor(whole, 0.5)
    return {
        "nfa_correlation": pearson_of_grams(matrix, whole),
        "nfa_correlation_root": pearson_of_grams(matrix, root),
        "cosine_nfa": cosine_of_grams(matrix, whole),
        "cosine_nfa_root": cosine_of_grams(matrix, root),
        "centered_nfa_correlation": pearson_of_grams(change, whole),
        "centered_nfa_correlation_root": pearson_of_grams(change, root),
        "centered_nfc": cosine_of_grams(change, change @ root_of_agop),
    }
