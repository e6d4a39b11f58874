"""The finished layers of a run on disk: the first of its processes reads and writes, and tells the others."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Array

from dnc_jax import DeepRFMLayer
from experiments.support import checkpoint, hosts, layers, plotting, snapshots
from experiments.support.console import say
from experiments.support.records import Row, Run, open_run

NOTHING: dict[str, np.ndarray] = {}


def open_files(
    workdir: Path, config: Mapping[str, Any], environment: Mapping[str, Any], *, resume: bool
) -> "LayerFiles":
    """Returns the files of a run, opened as `open_run` does."""
    run = open_run(workdir, config, environment, resume) if hosts.is_first() else Run(workdir)
    return LayerFiles(run, config["depth"], config["num_classes"])


@dataclasses.dataclass(frozen=True)
class LayerFiles:
    """The folder of a run. All its processes call each method; the first alone reads and writes."""

    run: Run
    depth: int
    num_classes: int

    @contextmanager
    def figures(self) -> Iterator[None]:
        """Draws the figures of the run when it ends."""
        if not hosts.is_first():
            yield
            return
        with plotting.figures_of(self.run):
            yield

    def load(self, seed: int, number: int) -> Mapping[str, np.ndarray] | None:
        """Returns the arrays of a finished layer, or None if it has to be fitted, having said why."""

        def stored() -> Mapping[str, np.ndarray] | None:
            path = self.run.checkpoint(seed, number)
            if not path.exists():
                return None
            try:
                return checkpoint.load_arrays(path, self.run.owner(seed, number))
            except checkpoint.CheckpointError as error:
                say(f"{error}; fitting layers {number} to {self.depth} of seed {seed} again")
                return None

        return hosts.from_first(stored)

    def save(self, seed: int, number: int, fitted: Sequence[DeepRFMLayer], rows: list[Row]) -> None:
        """Writes a finished layer, its twin if it has one, and its rows."""
        arrays = layers.layers_to_arrays(fitted, rows)
        if hosts.is_first():
            checkpoint.save_arrays(self.run.checkpoint(seed, number), arrays, self.run.owner(seed, number))

    def save_shown(self, seed: int, number: int, layer: DeepRFMLayer, x: Array, labels: np.ndarray) -> None:
        """Writes what figures show of a layer that received x, unless it is there already."""

        def missing() -> Mapping[str, np.ndarray] | None:
            is_there = checkpoint.is_whole(self.run.arrays(number), self.run.owner(seed, number))
            return None if is_there else NOTHING

        if hosts.from_first(missing) is None:
            return
        by_stage = layers.jitted_stages(layer, x)._asdict()
        whole = {name: hosts.whole(features) for name, features in by_stage.items()}
        matrix = hosts.whole(layer.feature_matrix)
        if hosts.is_first():
            shown = snapshots.layer_arrays(matrix, whole, labels, self.num_classes)
            checkpoint.save_arrays(self.run.arrays(number), shown, self.run.owner(seed, number))

    def log(self, rows: list[Row], timing: Row) -> None:
        """Appends the rows of a layer, and how long it took."""
        if hosts.is_first():
            self.run.log(rows)
            self.run.log_timing(timing)
