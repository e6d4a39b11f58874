"""What is measured of a network: collapse at the three stages of every layer, and the feature ansatz."""

from collections.abc import Sequence
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array

from dnc_jax import (
    centered_nfa_correlation,
    centered_nfc,
    class_stats,
    cosine_nfa,
    decision_mismatch,
    layer_agops,
    nc1,
    nc1_trace_ratio,
    nc2,
    nc2_gram_mse,
    nc3,
    nc3_self_duality,
    nc4,
    nfa_correlation,
    svd_stages,
    within_class_rounding,
)
from dnc_jax.networks import Dense
from experiments.support.records import Row

METRICS = {"nc1": nc1, "nc1_trace_ratio": nc1_trace_ratio, "nc2": nc2, "nc2_gram_mse": nc2_gram_mse}
# Stages of a layer that are no features: its weights against its AGOP, and the network as a whole.
WEIGHTS, NETWORK = "weights", "network"

Measured: TypeAlias = dict[tuple[int, str], dict[str, Array]]
"""Metrics by layer, counted from 1, and stage."""


@partial(jax.jit, static_argnames="num_classes")
def measure_collapse(layers: Sequence[Dense], x: Array, labels: Array, num_classes: int) -> Measured:
    """Returns NC1 and NC2 at the stages of every hidden layer, and NC1 to NC4 at the input of the head."""
    found: Measured = {}
    for number, layer in enumerate(layers[:-1], 1):
        by_stage = svd_stages(x, layer.weights, layer.activation)
        for stage, features in by_stage._asdict().items():
            found[number, stage] = {n: metric(features, labels, num_classes) for n, metric in METRICS.items()}
            found[number, stage]["within_class_rounding"] = within_class_rounding(
                features, labels, num_classes
            )
        x = layer(x)
    head = layers[-1]
    found[len(layers), "input"] = {n: metric(x, labels, num_classes) for n, metric in METRICS.items()} | {
        "nc3": nc3(x, labels, num_classes, head.weights),
        "nc3_self_duality": nc3_self_duality(x, labels, num_classes, head.weights),
        "nc4": nc4(x, labels, num_classes, head(x)),
    }
    return found


@partial(jax.jit, static_argnames="num_classes")
def measure_held_out(
    layers: Sequence[Dense], x: Array, labels: Array, train_x: Array, train_labels: Array, num_classes: int
) -> Measured:
    """Returns NC1 and NC2 of held-out points by stage, and NC4 against the class means of training."""
    found: Measured = {}
    for number, layer in enumerate(layers[:-1], 1):
        by_stage = svd_stages(x, layer.weights, layer.activation)
        for stage, features in by_stage._asdict().items():
            found[number, stage] = {
                f"test_{n}": metric(features, labels, num_classes) for n, metric in METRICS.items()
            }
        x, train_x = layer(x), layer(train_x)
    stats = class_stats(train_x, train_labels, num_classes)
    found[len(layers), "input"] = {"test_nc4": decision_mismatch(x, stats, layers[-1](x))}
    return found


@partial(jax.jit, static_argnames=("batch_size", "has_changed"))
def measure_ansatz(
    layers: Sequence[Dense], initial: Sequence[Array], x: Array, batch_size: int, has_changed: bool
) -> Measured:
    """Returns how the weights of every layer correlate with the AGOP at its input and with its square root.

    The AGOPs of all layers, and of all pre-activations, come from one backward pass per output. The centered
    ones are of the change of the weights since initialisation, and left out where there is none.
    """
    parts = [part for layer in layers for part in (layer.preactivations, layer.activation)]
    agops = layer_agops(parts, x, batch_size=batch_size)
    found: Measured = {}
    for number, (layer, start) in enumerate(zip(layers, initial, strict=True), 1):
        at_input, at_preactivations = agops[2 * number - 2], agops[2 * number - 1]
        values = {
            "nfa_correlation": nfa_correlation(layer.weights, at_input),
            "nfa_correlation_root": nfa_correlation(layer.weights, at_input, power=0.5),
            "cosine_nfa": cosine_nfa(layer.weights, at_input),
            "cosine_nfa_root": cosine_nfa(layer.weights, at_input, power=0.5),
        }
        if has_changed:
            change = layer.weights, start
            values["centered_nfa_correlation"] = centered_nfa_correlation(*change, at_input)
            values["centered_nfa_correlation_root"] = centered_nfa_correlation(*change, at_input, power=0.5)
            values["centered_nfc"] = centered_nfc(*change, at_preactivations)
        found[number, WEIGHTS] = values
    return found


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


def find(rows: Sequence[Row], **place: Any) -> float | None:  # noqa: ANN401
    """Returns the value of the one row at a place, None if there is none."""
    for row in rows:
        if all(row[name] == value for name, value in place.items()):
            return row["value"]
    return None
