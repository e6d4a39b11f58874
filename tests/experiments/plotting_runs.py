"""Builds workdirs that look like those of a finished Deep RFM run, for tests of its figures."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.support.checkpoint import save_arrays

STAGE_FACTORS = {"input": 1.0, "linear": 0.2, "nonlinear": 0.3}
CONFIG: dict[str, Any] = {
    "command": "deep_rfm",
    "dataset": "svhn",
    "num_train": 50_000,
    "depth": 12,
    "width": 1024,
    "kernel": "laplace",
    "bandwidth": 2.0,
    "ridge": 1e-3,
    "feature_map": "relu",
    "precision": "float32",
    "seeds": [0, 1, 2],
    "image_shape": [12, 12, 1],
}


def make_run(
    workdir: Path,
    *,
    depth: int = 12,
    seeds: Sequence[int] = (0, 1, 2),
    num_classes: int = 10,
    image_shape: Sequence[int] | None = (12, 12, 1),
    input_size: int = 144,
    num_blocks: int = 60,
    floor_from: int | None = None,
    **config: Any,
) -> Path:
    """Returns the workdir, holding the records of a run whose NC1 falls by four orders over 12 layers."""
    workdir.mkdir(parents=True, exist_ok=True)
    shape = None if image_shape is None else list(image_shape)
    settings = CONFIG | {"depth": depth, "seeds": list(seeds), "image_shape": shape} | config
    (workdir / "config.json").write_text(json.dumps(settings))
    rows = [
        row for seed in seeds for layer in range(1, depth + 1) for row in metric_rows(seed, layer, floor_from)
    ]
    write_rows(workdir, rows)
    (workdir / "arrays").mkdir(exist_ok=True)
    for layer in range(1, depth + 1):
        arrays = layer_arrays(layer, num_classes, image_shape, input_size, num_blocks)
        save_arrays(workdir / "arrays" / f"layer_{layer:02d}.npz", arrays)
    return workdir


def write_rows(workdir: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Returns nothing; replaces the metrics of a run."""
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def read_rows(workdir: Path) -> list[dict[str, Any]]:
    """Returns the metrics of a run as they were written."""
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def metric_rows(seed: int, layer: int, floor_from: int | None) -> list[dict[str, Any]]:
    """Returns the rows of one layer: collapse at three stages, and accuracies of the machine."""
    rng = np.random.default_rng([seed, layer])
    rows = []
    for stage, factor in STAGE_FACTORS.items():
        depth_fall = np.exp(-0.85 * (layer - 1))
        noise = float(np.exp(0.12 * rng.standard_normal()))
        values = {
            "nc1": 4.2 * factor * depth_fall * noise,
            "nc2": 0.9 * factor**0.4 * np.exp(-0.25 * (layer - 1)) * noise + 0.02,
            "nc4": 0.25 * factor * np.exp(-0.6 * (layer - 1)),
            "test_nc1": 6.0 * factor**0.7 * np.exp(-0.4 * (layer - 1)) * noise + 0.25,
            "test_nc2": 0.95 * factor**0.3 * np.exp(-0.15 * (layer - 1)) * noise + 0.1,
        }
        for metric, value in values.items():
            row = {"seed": seed, "layer": layer, "stage": stage, "metric": metric, "value": float(value)}
            if floor_from is not None and layer >= floor_from and metric == "nc1":
                row["below_floor"] = True
            rows.append(row)
    train = 1.0 - 0.02 * np.exp(-0.7 * layer)
    test = 0.78 + 0.005 * layer - 0.0004 * layer**2 + 0.004 * rng.standard_normal()
    for metric, value in (("train_accuracy", train), ("test_accuracy", test), ("condition_estimate", 1e4)):
        rows.append(
            {"seed": seed, "layer": layer, "stage": "machine", "metric": metric, "value": float(value)}
        )
    return rows


def layer_arrays(
    layer: int, num_classes: int, image_shape: Sequence[int] | None, input_size: int, num_blocks: int
) -> dict[str, np.ndarray]:
    """Returns the arrays of one layer; only the first layer's input has an image shape."""
    rng = np.random.default_rng(layer)
    edges = np.linspace(0, num_blocks, num_classes + 1)
    owner = np.minimum(np.searchsorted(edges, np.arange(num_blocks) + 0.5) - 1, num_classes - 1)
    same = owner[:, None] == owner[None, :]
    target = np.where(same, 1.0, -1.0 / max(num_classes - 1, 1))
    arrays: dict[str, np.ndarray] = {"gram_class_edges": edges}
    for stage, factor in STAGE_FACTORS.items():
        spread = factor * np.exp(-0.4 * (layer - 1))
        noise = rng.uniform(-1, 1, (num_blocks, num_blocks))
        arrays[f"gram_{stage}"] = (target + spread * (noise + noise.T) / 2) / (1 + spread)
        arrays[f"class_means_{stage}"] = rng.standard_normal((num_classes, num_classes - 1))
    size = int(np.prod(image_shape)) if layer == 1 and image_shape is not None else input_size
    spectrum = np.where(np.arange(size) < num_classes, np.exp(-0.1 * np.arange(size)), 0)
    spectrum = spectrum + np.exp(-layer) * 0.05 * np.arange(1, size + 1) ** -1.5
    vectors = np.linalg.qr(rng.standard_normal((size, size)))[0].T
    arrays["agop_spectrum"] = spectrum
    arrays["agop_eigenvectors"] = vectors[: min(8, size)]
    arrays["agop_diagonal"] = np.einsum("e,ed,ed->d", spectrum, vectors, vectors)
    return arrays
