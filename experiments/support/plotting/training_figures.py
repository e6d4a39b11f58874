"""Figures of a network's training, drawn from its records alone."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import mean
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dnc_jax.training import TrainingError
from experiments.support.plotting.reading import STAGES
from experiments.support.plotting.style import (
    STAGE_STYLES,
    STYLE,
    StageStyle,
    new_figure,
    plain_name,
    set_headline,
)
from experiments.support.plotting.writing import write_figure
from experiments.support.records import RecordsError, Row, Run
from experiments.support.training_story import terminal_epoch

LABELS = {"input": r"input  $x$", "linear": r"linear  $SV^\top x$", "nonlinear": r"nonlinear  $\sigma(Wx)$"}
ANSATZ = {
    "nfa_correlation": StageStyle("#0072B2", "o", "AGOP", ""),
    "nfa_correlation_root": StageStyle("#D55E00", "s", r"AGOP$^{1/2}$", ""),
    "centered_nfa_correlation_root": StageStyle("#009E73", "^", r"$W-W_0$ with AGOP$^{1/2}$", ""),
}
TITLES = {"nc1": r"NC1 = tr$(\Sigma_W\,\Sigma_B^{+})\;/\;K$", "nc2": "NC2, distance from a simplex"}
_GREY = "#666666"

Table = list[dict[str, object]]
Records = tuple[dict[str, Any], list[Row]]


@contextmanager
def figures_of(run: Run) -> Iterator[None]:
    """Draws the figures of a run when it ends, and those of its epochs until a loss that is not finite."""
    try:
        yield
    except TrainingError as error:
        if _has_measured(run):
            draw_figures(run.workdir)
        raise TrainingError(f"{error}. Records, and the checkpoint before, are in {run.workdir}") from error
    draw_figures(run.workdir)


def draw_figures(workdir: Path) -> list[Path]:
    """Returns the paths of the png files drawn from the records of a run; each has a pdf and a csv beside it.

    Raises:
        RecordsError: If a record is missing or damaged.
    """
    records = read_records(workdir)
    with matplotlib.rc_context(STYLE):
        drawn = {name: draw(*records) for name, draw in FIGURES.items()}
        return [write_figure(workdir / "figures", name, *parts) for name, parts in drawn.items()]


def read_records(workdir: Path) -> Records:
    """Returns the configuration and the rows of a run.

    Raises:
        RecordsError: If a file is missing or no JSON.
    """
    try:
        config = json.loads((workdir / "config.json").read_text(encoding="utf-8"))
        rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text("utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise RecordsError(f"the records in {workdir} cannot be read: {error}; resume the run") from error
    if not any(row["metric"] == "nc1" for row in rows):
        raise RecordsError(f"{workdir} has no measured epoch yet: got {len(rows)} rows; resume the run")
    return config, rows


def collapse_by_epoch(config: dict[str, Any], rows: list[Row]) -> tuple[Figure, Table]:
    """Returns NC1 and NC2 by epoch at the three stages, one column of panels for each hidden layer."""
    depth, table = config["depth"], []
    figure = new_figure(1.2 + 2.2 * depth, 5.4)
    panels = figure.subplots(2, depth, sharex=True, sharey="row", squeeze=False)
    for row, metric in enumerate(("nc1", "nc2")):
        for layer in range(1, depth + 1):
            axes = panels[row, layer - 1]
            for stage in STAGES:
                place = {"layer": layer, "stage": stage, "metric": metric}
                table += _draw(axes, rows, "epoch", STAGE_STYLES[stage], **place)
            _mark_terminal_phase(axes, config, rows)
            axes.set_yscale("log")
            axes.grid(axis="y", color="#e3e3e3", linewidth=0.7)
        panels[row, 0].set_ylabel(TITLES[metric])
    for layer in range(1, depth + 1):
        panels[0, layer - 1].set_title(f"layer {layer}")
        panels[1, layer - 1].set_xlabel("epoch")
    _finish(figure, "Neural collapse through training, by layer", config, _stage_handles(config, rows))
    return figure, table


def ansatz_row(config: dict[str, Any], rows: list[Row]) -> tuple[Figure, Table]:
    """Returns trace ratios by layer, correlations of weights with AGOPs by layer, and loss by epoch."""
    figure = new_figure(12.0, 4.6)
    left, middle, right = figure.subplots(1, 3)
    last = [row for row in rows if row["epoch"] == max(row["epoch"] for row in rows)]
    table = []
    for stage in STAGES:
        table += _draw(left, last, "layer", STAGE_STYLES[stage], stage=stage, metric="nc1_trace_ratio")
    for metric, style in ANSATZ.items():
        table += _draw(middle, last, "layer", style, stage="weights", metric=metric)
    for metric, style in (("train_loss", "-"), ("test_loss", "--")):
        drawn = StageStyle("#333333", "", metric, "")
        table += _draw(right, rows, "epoch", drawn, line=style, stage="network", metric=metric)
    _mark_terminal_phase(right, config, rows)
    for axes in (left, right):
        axes.set_yscale("log")
    left.set(title=f"epoch {last[0]['epoch']}", xlabel="layer", ylabel=r"tr $\Sigma_W$ / tr $\Sigma_B$")
    middle.set(title="weights against AGOP", xlabel="layer", ylabel="Pearson correlation of the entries")
    right.set(title="loss", xlabel="epoch", ylabel=f"{config['loss'].replace('_', '-')} loss")
    for axes in (left, middle):
        axes.set_xticks(range(1, config["depth"] + 2))
    left.legend(handles=_handles({LABELS[s]: STAGE_STYLES[s] for s in STAGES}))
    middle.legend(handles=_handles({style.label: style for style in ANSATZ.values()}))
    solid, dashed = (Line2D([], [], color="#333333", linestyle=line) for line in ("-", "--"))
    right.legend([solid, dashed], ["training", "held-out"])
    _finish(figure, "Collapse and the neural feature ansatz after training", config, [])
    return figure, table


FIGURES: dict[str, Callable[[dict[str, Any], list[Row]], tuple[Figure, Table]]] = {
    "collapse_by_epoch": collapse_by_epoch,
    "ansatz_by_layer": ansatz_row,
}


def _draw(
    axes: Axes, rows: Sequence[Row], by: str, style: StageStyle, line: str = "-", **place: object
) -> Table:
    """Returns the mean and range over seeds that it draws."""
    found: dict[int, list[float]] = {}
    for row in rows:
        if all(row[name] == value for name, value in place.items()):
            found.setdefault(row[by], []).append(row["value"])
    where = sorted(found)
    axes.plot(
        where,
        [mean(found[at]) for at in where],
        color=style.color,
        marker=style.marker or None,
        markersize=4,
        linestyle=line,
    )
    low, high = ([end(found[at]) for at in where] for end in (min, max))
    axes.fill_between(where, low, high, color=style.color, alpha=0.18, linewidth=0)
    fixed = {"layer": "", "epoch": "last"} | place
    return [
        fixed
        | {by: at, "mean": mean(found[at]), "min": min(found[at]), "max": max(found[at])}
        | {"num_seeds": len(found[at])}
        for at in where
    ]


def _mark_terminal_phase(axes: Axes, config: dict[str, Any], rows: Sequence[Row]) -> None:
    begun = [terminal_epoch(rows, seed) for seed in config["seeds"]]
    known = [epoch for epoch in begun if epoch is not None]
    if known:
        axes.axvline(float(np.mean(known)), color=_GREY, linestyle=":", linewidth=1.2)


def _stage_handles(config: dict[str, Any], rows: Sequence[Row]) -> list[Line2D]:
    handles = _handles({LABELS[stage]: STAGE_STYLES[stage] for stage in STAGES})
    reached = [seed for seed in config["seeds"] if terminal_epoch(rows, seed) is not None]
    text = f"terminal phase begins (100% training accuracy; {len(reached)} of {len(config['seeds'])} seeds)"
    return [*handles, Line2D([], [], color=_GREY, linestyle=":", label=text)] if reached else handles


def _handles(named: dict[str, StageStyle]) -> list[Line2D]:
    return [Line2D([], [], color=s.color, marker=s.marker, markersize=5, label=n) for n, s in named.items()]


def _finish(figure: Figure, headline: str, config: dict[str, Any], handles: list[Line2D]) -> None:
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    seeds = f"{len(config['seeds'])} seeds, mean and range" if len(config["seeds"]) > 1 else "one seed"
    set_headline(
        figure,
        headline,
        f"{plain_name(config['dataset'])}, n = {config['num_train']:,}, {config['network']} of "
        f"{config['depth']} x {config['width']}, gain {config['init_gain']:g}, {config['optimizer']} "
        f"{config['learning_rate']:g}, {config['precision']}, {seeds}",
    )


def _has_measured(run: Run) -> bool:
    return '"nc1"' in run.metrics.read_text(encoding="utf-8")
