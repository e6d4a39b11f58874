"""Builds workdirs that look like those of the kinds of run that a report shows, and reads a page back."""

import base64
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments.support.checkpoint import save_arrays
from experiments.support.report.page import page
from experiments.support.report.reading import read_runs
from experiments.support.snapshots import agop_arrays, epoch_arrays, iterate_arrays
from tests.experiments.plotting_runs import write_rows

HOSTILE = "</script><img src=x onerror=alert(1)>@data@"
STAGES = ("input", "linear", "nonlinear")


class Elements(HTMLParser):
    """The elements of a page as a browser finds them: tags with attributes, and the texts after each."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        # What stands within a script or a style comes right after its tag, in one piece or more.
        tag = self.tags[-1][0] if self.tags else ""
        self.texts.setdefault(tag, []).append(data)


def page_of(*folders: Path) -> str:
    return page(read_runs(folders))


def data_in(text: str) -> dict[str, Any]:
    """Returns what the script of a page reads."""
    return json.loads(text.split('<script type="application/json" id="report">')[1].split("</script>")[0])


def heat_of(packed: dict[str, Any]) -> np.ndarray:
    """Returns the matrix that a packed heat map holds, as the script unpacks it."""
    size = packed["size"]
    values = (np.frombuffer(base64.b64decode(packed["data"]), np.uint8).astype(float) - 127) / 127
    full = np.zeros((size, size))
    full[np.triu_indices(size)] = values
    return np.maximum(full, full.T) if values.min() >= 0 else full + full.T - np.diag(np.diag(full))


def make_network(workdir: Path, *, seeds: tuple[int, ...] = (0, 1), **config: Any) -> Path:
    """Returns the workdir of a network of two hidden layers, measured at epochs 0, 5 and 10; NC1 falls."""
    workdir.mkdir(parents=True)
    settings = {"command": "train_network", "dataset": "digits", "network": "mlp", "epochs": 10, "depth": 2}
    (workdir / "config.json").write_text(json.dumps(settings | {"seeds": list(seeds)} | config))
    rows = [row for seed in seeds for epoch in range(11) for row in _epoch_rows(seed, epoch)]
    write_rows(workdir, rows)
    (workdir / "timings.jsonl").write_text(
        '{"seed": 0, "epoch": 1, "train_seconds": 1, "measure_seconds": 2}\n'
    )
    rng, labels = np.random.default_rng(0), np.arange(40) % 5
    for epoch in (0, 5, 10):
        features = np.eye(5)[labels] * (1 + epoch) + rng.normal(size=(40, 5))
        points = jnp.asarray(features), jnp.asarray(labels)
        weights = [jnp.asarray(rng.normal(size=shape)) for shape in ((27, 6), (6, 6), (6, 5))]
        agops = [matrix.T @ matrix for matrix in weights]
        shown = epoch_arrays(*points, 5) | agop_arrays(weights, agops)
        save_arrays(workdir / "arrays" / f"epoch_{epoch:05d}.npz", shown)
    return workdir


def make_rfm(workdir: Path, **config: Any) -> Path:
    """Returns the workdir of an RFM on targets of rank 1 and 2, after two updates of M."""
    workdir.mkdir(parents=True)
    settings = {"command": "rfm", "task": "polynomial", "kernel": "laplace", "ranks": [1, 2], "degrees": [2]}
    settings |= {"num_iters": 2, "seeds": [0]} | config
    (workdir / "config.json").write_text(json.dumps(settings))
    write_rows(
        workdir,
        [
            {
                "seed": 0,
                "rank": rank,
                "degree": 2,
                "iteration": i,
                "stage": stage,
                "metric": metric,
                "value": v,
            }
            for rank in (1, 2)
            for i in range(3)
            for stage, metric, v in (
                ("machine", "test_r2", 0.25 * (i + 1)),
                ("machine", "train_r2", 1.0),
                ("feature_matrix", "subspace_alignment", 0.3 * (i + 1)),
            )
        ],
    )
    for rank in (1, 2):
        matrices = np.stack([np.diag([1.0] * rank + [0.5**i] * (6 - rank)) for i in range(3)])
        arrays = iterate_arrays(matrices) | {"directions": np.eye(6)[:, :rank]}
        save_arrays(workdir / "arrays" / f"rank_{rank}_degree_2.npz", arrays)
    return workdir


def _epoch_rows(seed: int, epoch: int) -> list[dict[str, Any]]:
    place = {"seed": seed, "epoch": epoch}
    accuracy = {"layer": 3, "stage": "network", "metric": "train_accuracy", "value": min(1.0, epoch / 8)}
    rows = [place | accuracy]
    if epoch % 5 == 0:
        rows += [
            place
            | {"layer": layer, "stage": stage, "metric": metric, "value": (2 + seed) / (layer + epoch + i)}
            for layer in (1, 2)
            for i, stage in enumerate(STAGES)
            for metric in ("nc1", "nc1_trace_ratio", "nc2")
        ]
        rows += [place | {"layer": 3, "stage": "input", "metric": n, "value": 0.5} for n in ("nc3", "nc4")]
        rows += [place | {"layer": 1, "stage": "weights", "metric": "nfa_correlation", "value": 0.5}]
    return rows


def contrast(first: str, second: str) -> float:
    """Returns the contrast of two colors as the accessibility guidelines (WCAG 2) define it, 1 to 21."""
    low, high = sorted((_luminance(first), _luminance(second)))
    return (high + 0.05) / (low + 0.05)


def _luminance(color: str) -> float:
    digits = color[1:] if len(color) == 7 else "".join(digit * 2 for digit in color[1:])
    shares = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
