"""A trained network and a Deep RFM side by side: collapse by layer at the three stages."""

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import geometric_mean, mean
from typing import Any, NamedTuple

import matplotlib

from experiments.support.plotting.reading import STAGES
from experiments.support.plotting.style import (
    STAGE_STYLES,
    STYLE,
    new_figure,
    plain_name,
    set_headline,
    set_layer_axis,
)
from experiments.support.plotting.training_drawing import draw_lines, handles_of
from experiments.support.plotting.writing import write_figure
from experiments.support.records import RecordsError, Row

METRICS = {"nc1": r"NC1 = tr$(\Sigma_W\,\Sigma_B^{+})\;/\;K$", "nc2": "NC2, distance from a simplex"}


class Collapse(NamedTuple):
    """The end of a run: its configuration, and its rows, of the last epoch if it has epochs."""

    config: dict[str, Any]
    rows: list[Row]

    @property
    def layers(self) -> list[int]:
        """The layers that have three stages."""
        return sorted({row["layer"] for row in self.rows if row["stage"] == "nonlinear"})

    def mean(self, metric: str, layer: int, stage: str) -> float:
        """Returns the geometric mean over seeds."""
        place = {"metric": metric, "layer": layer, "stage": stage}
        return geometric_mean([row["value"] for row in self.rows if place.items() <= row.items()])

    def nc1_after_last_layer(self) -> float:
        """Returns NC1 of what the last layer passes on."""
        return self.mean("nc1", self.layers[-1], "nonlinear")

    def accuracy(self, metric: str) -> float:
        """Returns the mean over seeds of an accuracy, of the last layer that has one."""
        last = max(row["layer"] for row in self.rows if row["metric"] == metric)
        return mean(r["value"] for r in self.rows if r["metric"] == metric and r["layer"] == last)


def read_collapse(workdir: Path) -> Collapse:
    """Returns the end of a run from its records; raises RecordsError if they cannot be read."""
    try:
        config = json.loads((workdir / "config.json").read_text(encoding="utf-8"))
        rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text("utf-8").splitlines()]
        last = max(row.get("epoch", 0) for row in rows)
    except (OSError, ValueError) as error:
        raise RecordsError(f"the records in {workdir} cannot be read: {error}; resume the run") from error
    return Collapse(config, [row for row in rows if row.get("epoch", last) == last])


def draw_both(folder: Path, runs: Mapping[str, Collapse]) -> Path:
    """Returns the png of NC1 and NC2 by layer, a column for each run; a pdf and a csv lie beside it."""
    with matplotlib.rc_context(STYLE):
        figure, table = new_figure(10.0, 7.2), []
        panels = figure.subplots(2, len(runs), sharey="row", sharex="col")
        for column, (title, collapse) in enumerate(runs.items()):
            # The classifier's input is what the last layer passes on.
            rows = [row for row in collapse.rows if row["layer"] in collapse.layers]
            for axes, (metric, label) in zip(panels[:, column], METRICS.items(), strict=True):
                for stage in STAGES:
                    drawn = draw_lines(axes, rows, "layer", STAGE_STYLES[stage], stage=stage, metric=metric)
                    table += [{"run": title} | row for row in drawn]
                axes.set_yscale("log")
                axes.grid(axis="y", color="#e3e3e3", linewidth=0.7)
                set_layer_axis(axes, collapse.layers)
                if column == 0:
                    axes.set_ylabel(label)
            train, test = collapse.accuracy("train_accuracy"), collapse.accuracy("test_accuracy")
            panels[0, column].set_title(f"{title}: accuracy {train:.1%}, held-out {test:.1%}")
        names = {
            "input": "what the layer receives",
            "linear": r"linear: $SV^\top x$ of the weights, $M^{1/2}x$ of the AGOP",
            "nonlinear": "what it passes on",
        }
        styles = {names[stage]: STAGE_STYLES[stage] for stage in STAGES}
        figure.legend(handles=handles_of(styles), loc="outside lower center", ncols=3)
        config = next(iter(runs.values())).config
        seeds = f"{len(config['seeds'])} seeds, mean and range" if len(config["seeds"]) > 1 else "one seed"
        setting = f"{plain_name(config['dataset'])}, n = {config['num_train']:,}, training points, {seeds}"
        set_headline(figure, "Collapse with and without backpropagation", setting)
        return write_figure(folder, "mlp_and_deep_rfm", figure, table)
