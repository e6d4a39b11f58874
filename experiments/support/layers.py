"""One layer of a Deep RFM run: its measurements as rows, and its file on disk."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dnc_jax import (
    RFM,
    DeepRFMLayer,
    KernelMachine,
    Stages,
    class_stats,
    decision_mismatch,
    nc1,
    nc1_trace_ratio,
    nc2,
    nc2_gram_mse,
    nc4,
    stages,
    within_class_rounding,
)
from dnc_jax.chunking import map_rows, rows_of_batch
from dnc_jax.deep_rfm import LayerDiagnostics
from dnc_jax.kernels import Kernel
from dnc_jax.linalg import share
from dnc_jax.rfm_steps import apply_root
from dnc_jax.types import FeatureMap
from experiments.support import hosts
from experiments.support.preprocess import Dataset
from experiments.support.records import Row

METRICS = {"nc1": nc1, "nc1_trace_ratio": nc1_trace_ratio, "nc2": nc2, "nc2_gram_mse": nc2_gram_mse}
MACHINE = "machine"
FEATURES = "features."
# Of the arrays of a layer, and of its twin where it has one.
PREFIXES = ("run.", "twin.")


Pair: TypeAlias = tuple[Array, Array]
"""What a layer receives: training rows and held-out rows."""

jitted_stages = jax.jit(stages)


@dataclasses.dataclass(frozen=True)
class Points:
    """Labeled rows on the devices: features (n, d), labels (n,) and, for training, targets (n, k)."""

    x: Array
    labels: Array
    targets: Array


def layer_key(seed: int, number: int) -> Array:
    """Returns the key of a layer counted from 1, the one that fit_deep_rfm uses."""
    return jax.random.fold_in(jax.random.key(seed), number - 1)


def place(dataset: Dataset, put: Callable[[np.ndarray, jnp.dtype | None], Array], dtype: jnp.dtype) -> Points:
    """Returns a dataset on the devices that put chooses; labels stay integers."""
    return Points(put(dataset.inputs, dtype), put(dataset.labels, None), put(dataset.targets, dtype))


@partial(jax.jit, static_argnames="num_classes")
def measure_train(by_stage: Stages, labels: Array, logits: Array, num_classes: int) -> dict[str, Any]:
    """Returns every metric of the training points by stage, and what their features' rounding is."""
    values = {}
    for stage, features in by_stage._asdict().items():
        values[stage] = {name: metric(features, labels, num_classes) for name, metric in METRICS.items()}
        values[stage]["nc4"] = nc4(features, labels, num_classes, logits)
    values[MACHINE] = {
        "train_accuracy": accuracy(logits, labels),
        "within_class_rounding": within_class_rounding(by_stage.input, labels, num_classes),
    }
    return values


@partial(jax.jit, static_argnames="num_classes")
def measure_test(
    by_stage: Stages,
    train_stages: Stages,
    labels: Array,
    train_labels: Array,
    logits: Array,
    num_classes: int,
) -> dict[str, Any]:
    """Returns every metric of held-out points by stage; NC4 is against the class means of training."""
    values = {}
    for stage, features in by_stage._asdict().items():
        values[stage] = {
            f"test_{name}": metric(features, labels, num_classes) for name, metric in METRICS.items()
        }
        stats = class_stats(getattr(train_stages, stage), train_labels, num_classes)
        values[stage]["test_nc4"] = decision_mismatch(features, stats, logits)
    values[MACHINE] = {"test_accuracy": accuracy(logits, labels)}
    return values


def measure(
    layer: DeepRFMLayer, diagnostics: LayerDiagnostics, train: Points, test: Points, ridge: float
) -> dict[str, dict[str, float]]:
    """Returns everything that is recorded of a layer, {stage: {metric: number}}, read from the device.

    train and test hold what the layer receives, with the labels and targets of the run.
    """
    num_classes = train.targets.shape[1]
    train_stages, test_stages = jitted_stages(layer, train.x), jitted_stages(layer, test.x)
    logits = fitted_values(layer, train.targets, ridge)
    values = measure_train(train_stages, train.labels, logits, num_classes)
    test_logits = predict(layer, test_stages.input)
    held_out = measure_test(test_stages, train_stages, test.labels, train.labels, test_logits, num_classes)
    return joined(values, held_out, {MACHINE: diagnostic_values(diagnostics)})


def accuracy(logits: Array, labels: Array) -> Array:
    """Returns the share of points whose largest logit is their label's, in the precision of the logits."""
    return share((jnp.argmax(logits, axis=1) == labels).astype(logits.dtype))


def diagnostic_values(diagnostics: LayerDiagnostics) -> dict[str, float]:
    """Returns what is recorded of a layer's diagnostics."""
    fit, agop = diagnostics.fit, diagnostics.agop
    values = {
        "condition_estimate": float(fit.condition_estimate),
        "residual": float(fit.residual),
        "agop_cancellation": float(agop.cancellation),
        "agop_is_direct": float(agop.is_direct),
    }
    if fit.num_steps:
        values |= {"num_steps": float(fit.num_steps), "largest_residual": float(max(fit.column_residuals))}
    if fit.is_float32 is not None:
        values |= {
            "solve_is_float32": float(fit.is_float32),
            "agop_is_float32": float(bool(agop.float32_rounding)),
        }
    return values | ({"agop_error": float(diagnostics.agop_error)} if diagnostics.agop_error else {})


def joined(*parts: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Returns nested values {stage: {metric: number}} merged and read from the device."""
    merged: dict[str, dict[str, float]] = {}
    for part in jax.device_get(parts):
        for stage, metrics in part.items():
            merged.setdefault(stage, {}).update({name: float(value) for name, value in metrics.items()})
    return merged


def fitted_values(layer: DeepRFMLayer, targets: Array, ridge: float) -> Array:
    """Returns the predictions of the layer's machine at its own centers: K a = targets - ridge a."""
    return targets - ridge * _machine_of(layer).weights


def _machine_of(layer: DeepRFMLayer) -> KernelMachine:
    """Returns the machine of a layer, or the one within its RFM."""
    return layer.machine.machine if isinstance(layer.machine, RFM) else layer.machine


@jax.jit
def predict(layer: DeepRFMLayer, inputs: Array) -> Array:
    """Returns the predictions of the layer's machine at rows of unit norm, taken by batches."""
    num_centers = _machine_of(layer).weights.shape[0]
    return map_rows(layer.machine, inputs, rows_of_batch(num_centers, inputs.dtype.itemsize))


def to_rows(seed: int, layer: int, values: dict[str, Any], is_below: dict[str, bool]) -> list[Row]:
    """Returns tidy rows of nested values {stage: {metric: number}}; is_below marks stages below the floor."""
    rows = []
    for stage, metrics in values.items():
        for metric, value in metrics.items():
            row: Row = {"seed": seed, "layer": layer, "stage": stage, "metric": metric, "value": float(value)}
            rows.append(row | {"below_floor": True} if is_below[stage] else row)
    return rows


def layers_to_arrays(fitted: Sequence[DeepRFMLayer], rows: list[Row]) -> dict[str, np.ndarray]:
    """Returns what a checkpoint holds: the rows, and each layer without its centers, which are its input.

    All processes of a run call this, for they may share the rows of an array.
    """
    arrays = {"rows": np.asarray(json.dumps(rows))}
    for prefix, layer in zip(PREFIXES, fitted, strict=False):
        arrays |= {prefix + name: hosts.whole(value) for name, value in _layer_arrays(layer).items()}
    return arrays


def layers_from_arrays(
    arrays: Mapping[str, np.ndarray],
    kernel: Kernel,
    inputs: Sequence[Array],
    features: FeatureMap,
    put: Callable[[np.ndarray, None], Array],
) -> tuple[list[DeepRFMLayer], list[Row]]:
    """Returns the layers and the rows of a checkpoint, given the input of each layer with unit rows.

    Args:
        features: Drawn anew, tells the kind of the feature map; its arrays come from the checkpoint.
        put: Places an array whole on every device.
    """
    fitted = []
    for prefix, x in zip(PREFIXES, inputs, strict=False):
        own = {n.removeprefix(prefix): put(a, None) for n, a in arrays.items() if n.startswith(prefix)}
        fitted.append(_layer_of(own, kernel, x, features))
    return fitted, json.loads(str(arrays["rows"]))


def _layer_arrays(layer: DeepRFMLayer) -> dict[str, Array]:
    arrays = {
        "weights": _machine_of(layer).weights,
        "feature_matrix": layer.feature_matrix,
        "feature_root": layer.feature_root,
    }
    if isinstance(layer.machine, RFM):
        arrays |= {
            "machine_matrix": layer.machine.feature_matrix,
            "machine_root": layer.machine.feature_root,
        }
    for field in dataclasses.fields(layer.features):  # pyright: ignore[reportArgumentType]
        arrays[FEATURES + field.name] = getattr(layer.features, field.name)
    return arrays


def _layer_of(arrays: dict[str, Array], kernel: Kernel, inputs: Array, features: FeatureMap) -> DeepRFMLayer:
    weights = arrays["weights"]
    fields = {name.removeprefix(FEATURES): a for name, a in arrays.items() if name.startswith(FEATURES)}
    stored = dataclasses.replace(features, **fields)  # pyright: ignore[reportArgumentType, reportCallIssue, reportGeneralTypeIssues]
    machine = KernelMachine(kernel, inputs, weights)
    if "machine_root" in arrays:
        matrix, root = arrays["machine_matrix"], arrays["machine_root"]
        machine = RFM(KernelMachine(kernel, apply_root(inputs, root), weights), matrix, root)
    return DeepRFMLayer(machine, arrays["feature_matrix"], arrays["feature_root"], stored)
