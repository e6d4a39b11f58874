"""Trainings side by side: accuracy and NC1 to NC4 by epoch, one line for each training."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from experiments.support.plotting.style import STYLE, StageStyle, new_figure, set_headline
from experiments.support.plotting.training_drawing import (
    Records,
    Table,
    draw_lines,
    mark_terminal_phase,
    phase_handle,
    setting,
)
from experiments.support.plotting.writing import write_figure

# Okabe and Ito's palette, with markers that tell the lines apart without color.
PALETTE = (
    ("#0072B2", "o"),
    ("#D55E00", "s"),
    ("#009E73", "^"),
    ("#CC79A7", "D"),
    ("#56B4E9", "v"),
    ("#E69F00", "P"),
    ("#333333", "X"),
)
PANELS = (
    ("train_accuracy", "network", "training accuracy", False),
    ("test_accuracy", "network", "held-out accuracy", False),
    ("nc1", "input", r"NC1 = tr$(\Sigma_W\,\Sigma_B^{+})\;/\;K$", True),
    ("nc2", "input", "NC2, distance from a simplex", True),
    ("nc3", "input", "NC3, distance of\nclassifier and class means", True),
    ("nc4", "input", "NC4, share of other decisions\nthan the nearest class mean's", False),
)


def draw_variants(
    folder: Path, name: str, headline: str, runs: Mapping[str, Records], labels: Sequence[str]
) -> Path:
    """Returns the png of the panels by epoch, with a line per run; a pdf and a csv lie beside it."""
    with matplotlib.rc_context(STYLE):
        figure, table = new_figure(11.5, 6.8), []
        panels = list(figure.subplots(2, 3, sharex=True).flat)
        styles = [StageStyle(*PALETTE[i % len(PALETTE)], label, "") for i, label in enumerate(labels)]
        for axes, (metric, stage, title, is_log) in zip(panels, PANELS, strict=True):
            for style, records in zip(styles, runs.values(), strict=True):
                head = max(records.layers) + 1
                place = {"layer": head, "stage": stage, "metric": metric}
                drawn: Table = draw_lines(axes, records.rows, "epoch", style, **place)
                table += [{"run": style.label} | row for row in drawn]
                mark_terminal_phase(axes, records, style.color)
            axes.set(ylabel=title, xlabel="epoch")
            if is_log:
                axes.set_yscale("log")
            elif "accuracy" in metric:
                axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        handles = [
            Line2D([], [], color=style.color, marker=style.marker, markersize=5, label=style.label)
            for style in styles
        ]
        if any(phase_handle(records) for records in runs.values()):
            label = "terminal phase begins, by color"
            handles.append(Line2D([], [], color="#666666", linestyle=":", label=label))
        figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 4))
        config = next(iter(runs.values())).config
        seeds = f"{len(config['seeds'])} seeds, mean and range" if len(config["seeds"]) > 1 else "one seed"
        set_headline(figure, headline, f"{setting(config | {'label_noise': 0})}, {seeds}")
        return write_figure(folder, name, figure, table)
