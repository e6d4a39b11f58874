"""Builds workdirs that look like those of a finished convolutional RFM, for tests of its figures."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.support.checkpoint import save_arrays
from experiments.support.conv_looks import looks
from experiments.support.plotting import conv_figures
from experiments.support.plotting.conv_reading import read_records

NAMES = ["by_iteration", "samples", "eigenpatches", "filtered_images", "transformed_images"]
# Mean squared errors and accuracies by iteration: one update helps, a second one hurts.
ACCURACIES = (0.6, 0.9, 0.8)
CONFIG: dict[str, Any] = {
    "dataset": "stars",
    "title": "Stars in noise",
    "class_names": ["noise", "star"],
    "num_train": 50,
    "num_validation": 40,
    "num_test": 60,
    "patch_size": 3,
    "depth": 1,
    "padding": "valid",
    "stride": 1,
    "pooling": False,
    "ridge": 1e-3,
    "num_iters": 2,
    "agop_size": None,
    "seeds": [0, 1],
    "precision": "float64",
}


def make_run(workdir: Path, *, channels: int = 3, picks: Sequence[int] = (1, 2), **config: Any) -> Path:
    """Returns the workdir, holding the records of a run; no picks are a run without validation images."""
    settings = CONFIG | ({} if picks else {"num_validation": 0}) | config
    (workdir / "arrays").mkdir(parents=True, exist_ok=True)
    (workdir / "config.json").write_text(json.dumps(settings))
    sets = ("train", "validation", "test") if picks else ("train", "test")
    rows = [
        row
        for seed in settings["seeds"]
        for iteration in range(settings["num_iters"] + 1)
        for row in metric_rows(seed, iteration, sets)
    ]
    rows += [
        {"seed": seed, "iteration": pick, "stage": "machine", "metric": "selected_iteration", "value": pick}
        for seed, pick in zip(settings["seeds"], picks, strict=False)
    ]
    write_rows(workdir, rows)
    save_arrays(workdir / "arrays" / "patches.npz", arrays(settings, channels, picks[0] if picks else -1))
    return workdir


def write_rows(workdir: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Returns nothing; replaces the metrics of a run."""
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def read_rows(workdir: Path) -> list[dict[str, Any]]:
    """Returns the metrics of a run as they were written."""
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def metric_rows(seed: int, iteration: int, sets: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the rows of one fit; seeds differ by two points."""
    values = {}
    for name in sets:
        score = 1.0 if name == "train" else ACCURACIES[iteration % 3] + 0.02 * seed
        values |= {f"{name}_accuracy": score, f"{name}_mean_squared_error": 1 - score}
    return [
        {"seed": seed, "iteration": iteration, "stage": "machine", "metric": metric, "value": value}
        for metric, value in values.items()
    ]


def arrays(settings: dict[str, Any], channels: int, shown: int) -> dict[str, np.ndarray]:
    """Returns what is kept of images of 9 x 8 pixels and of random M."""
    rng = np.random.default_rng(0)
    num_classes, num_iters = len(settings["class_names"]), settings["num_iters"]
    dim = settings["patch_size"] ** 2 * channels
    factors = rng.normal(size=(num_iters, dim, dim))
    matrices = np.concatenate([np.eye(dim)[None], factors @ factors.swapaxes(1, 2)])
    images = looks(
        rng.normal(size=(3 * num_classes, 9, 8, channels)),
        np.arange(3 * num_classes) % num_classes,
        matrices,
        shown if shown >= 0 else num_iters,
        num_classes=num_classes,
        patch_size=settings["patch_size"],
        padding=settings["padding"],
        stride=settings["stride"],
    )
    points = rng.normal(size=(num_iters + 1, 20, 5)) + 2
    units = points / np.linalg.norm(points, axis=-1, keepdims=True)
    edges = np.linspace(0, 20, num_classes + 1)
    return images | {"gram": units @ units.swapaxes(1, 2), "gram_class_edges": edges}


def figure_of(workdir: Path, name: str) -> Figure:
    """Returns a figure of a run by its name."""
    return conv_figures.FIGURES[name](read_records(workdir))[0]


def table_of(path: Path) -> list[dict[str, str]]:
    """Returns the rows of a csv file."""
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def texts_of(figure: Figure) -> list[str]:
    """Returns everything that is written on a figure."""
    figure.draw_without_rendering()
    return [text.get_text().strip() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]
