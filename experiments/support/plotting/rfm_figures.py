"""Figures of `experiments.rfm`, drawn from its records alone: curves by iteration, and M as a picture."""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from experiments.support.checkpoint import load_arrays
from experiments.support.plotting.rfm_matrices import feature_matrices
from experiments.support.plotting.style import new_figure, set_headline
from experiments.support.plotting.variant_figures import PALETTE
from experiments.support.plotting.writing import write_figures
from experiments.support.records import RecordsError, Row, read_run
from experiments.support.rfm_options import Cell, cell_name, cells, operation_of
from experiments.support.rfm_table import has_classes

# Below it an error is rounding, and would stretch the axis over what can be seen.
SMALLEST_ERROR = 1e-9
BLOCKS = {"first": "block A, of a", "second": "block B, of b", "cross": "block C, across"}

Table = list[dict[str, object]]


class Records(NamedTuple):
    """What figures are drawn from: options, rows, and per target every M of the first seed."""

    config: dict[str, Any]
    rows: list[Row]
    arrays: list[tuple[Cell, dict[str, np.ndarray]]]


class Line(NamedTuple):
    """One line of a panel: the metric, how it is drawn, what the legend calls it, None for no entry."""

    metric: str
    dashed: bool = False
    color: str | None = None
    marker: str = "o"


class Panel(NamedTuple):
    """One measure by iteration."""

    label: str
    lines: tuple[Line, ...]
    kind: str = "linear"


def draw_figures(workdir: Path) -> list[Path]:
    """Returns the paths of the png files drawn from the records of a run; a pdf and a csv lie beside each.

    Raises:
        RecordsError: If a record is missing or damaged.
    """
    return write_figures(workdir / "figures", read_records(workdir), FIGURES)


def read_records(workdir: Path) -> Records:
    """Returns the records of a run; raises RecordsError if they cannot be read."""
    try:
        config, rows = read_run(workdir)
        folder = workdir / "arrays"
        arrays = [(cell, load_arrays(folder / f"{cell_name(cell)}.npz")) for cell in cells(config)]
    except (OSError, ValueError) as error:
        raise RecordsError(f"the records in {workdir} cannot be read: {error}; resume the run") from error
    return Records(config, rows, arrays)


def panels_of(task: str) -> list[Panel]:
    """Returns the measures that a figure of the task shows."""
    score = Panel("$R^2$", (Line("test_r2"), Line("train_r2", dashed=True)))
    if has_classes(task):  # pyright: ignore[reportArgumentType]
        score = Panel("accuracy", (Line("test_accuracy"), Line("train_accuracy", dashed=True)), "percent")
    error_lines = (Line("test_mean_squared_error"), Line("train_mean_squared_error", dashed=True))
    error = Panel("mean squared error", error_lines, "log")
    if operation_of(task) is None:
        alignment = Panel(
            "alignment of the\ntop eigenvectors of M", (Line("eigenvector_alignment"),), "share"
        )
        return [score, error, alignment]
    deviation = tuple(
        Line(f"circulant_deviation_{name}", color=color, marker=marker)
        for name, (color, marker) in zip(BLOCKS, PALETTE[1:], strict=False)
    )
    return [
        score,
        error,
        Panel("circulant deviation of M", deviation, "deviation"),
        Panel("cosine of M and the last M", (Line("alignment_with_last"),), "share"),
    ]


def by_iteration(records: Records) -> tuple[Figure, Table]:
    """Returns every measure by iteration, a color per rank, a column per degree."""
    config, panels = records.config, panels_of(records.config["task"])
    first, second = _variables(config)
    columns: list[Cell] = [{second: value} for value in config[f"{second}s"]] if second else [{}]
    shape = (len(panels), len(columns)) if second else (len(panels) // 3 or 1, min(len(panels), 3))
    shape = (2, 2) if len(panels) == 4 else shape
    figure = new_figure(max(7.5, 1.2 + 3.5 * shape[1]), 1.5 + 2.8 * shape[0])
    axes = figure.subplots(*shape, squeeze=False, sharey="row" if second else False)
    table: Table = []
    for number, (panel, column) in enumerate((p, c) for p in panels for c in columns):
        target = axes.flat[number]
        table += _draw_panel(target, records, panel, column, first)
        title = ", ".join(f"{name} {value}" for name, value in column.items())
        if number < len(columns) and title:
            target.set_title(title)
        if number % len(columns) == 0:
            target.set_ylabel(panel.label)
        if number >= (shape[0] - 1) * shape[1]:
            target.set_xlabel("iteration (0: plain kernel)")
    handles = _handles(config, first, panels)
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 5))
    set_headline(figure, f"Plain kernel and RFM, {_title(config)}", setting(config))
    return figure, table


def setting(config: dict[str, Any]) -> str:
    """Returns what was learned from what, and how, in one line."""
    bandwidth = f" (bandwidth {config['bandwidth']:g})" if "bandwidth" in config else ""
    where = f"p = {config['prime']}" if "prime" in config else f"d = {config['dim']}"
    seeds = (
        f"{len(config['seeds'])} seeds, mean and range"
        if len(config["seeds"]) > 1
        else f"seed {config['seeds'][0]}"
    )
    return (
        f"n = {config['num_train']:,}, {where}, {config['kernel']} kernel{bandwidth}, ridge "
        f"{config['ridge']:g}, {config['precision']}, {seeds}"
    )


def _matrices(records: Records) -> tuple[Figure, Table]:
    figure, table = feature_matrices(records.config, records.arrays)
    one = records.config | {"seeds": records.config["seeds"][:1]}
    set_headline(figure, f"The learned M, {_title(one)}", setting(one))
    return figure, table


def _draw_panel(axes: Axes, records: Records, panel: Panel, column: Cell, first: str | None) -> Table:
    table: Table = []
    values = records.config[f"{first}s"] if first else [None]
    for line in panel.lines:
        for (color, marker), value in zip(PALETTE, values, strict=False):
            cell = column | ({first: value} if first and value is not None else {})
            style = (line.color or color, line.marker if line.color else marker)
            table += _draw_line(axes, records.rows, line, cell, style)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    # Of all panels alike: M = I of iteration 0 has no top eigenvectors, and no point in theirs.
    last = records.config.get("num_iters", 1)
    axes.set_xlim(-0.05 * last, 1.05 * last)
    axes.grid(axis="y", color="#e3e3e3", linewidth=0.7)
    drawn = [float(str(row["mean"])) for row in table]
    if panel.kind == "percent":
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_ylim(-0.03, 1.03)
    elif panel.kind == "share":
        axes.set_ylim(0, 1.03)
    elif panel.kind in ("log", "deviation"):
        axes.set_yscale("log")
    if panel.kind == "log" and min(drawn) < SMALLEST_ERROR:
        axes.set_ylim(bottom=min(value for value in drawn if value >= SMALLEST_ERROR) / 3)
        note = f"training errors below {SMALLEST_ERROR:g} are rounding, and not shown"
        axes.annotate(note, xy=(0.5, 0.03), xycoords="axes fraction", ha="center", fontsize=8)
    return table


def _draw_line(axes: Axes, rows: Sequence[Row], line: Line, cell: Cell, style: tuple[str, str]) -> Table:
    found: dict[int, list[float]] = {}
    for row in rows:
        if row["metric"] == line.metric and cell.items() <= row.items():
            found.setdefault(row["iteration"], []).append(row["value"])
    where = sorted(found)
    color, marker = style
    few = len(where) <= 10
    axes.plot(
        where,
        [mean(found[at]) for at in where],
        color=color,
        marker=marker if few else None,
        markersize=4,
        linestyle="--" if line.dashed else "-",
    )
    low, high = ([end(found[at]) for at in where] for end in (min, max))
    axes.fill_between(where, low, high, color=color, alpha=0.18, linewidth=0)
    return [
        {"metric": line.metric, **cell, "iteration": at, "mean": mean(found[at])}
        | {"min": min(found[at]), "max": max(found[at]), "num_seeds": len(found[at])}
        for at in where
    ]


def _handles(config: dict[str, Any], first: str | None, panels: Sequence[Panel]) -> list[Line2D]:
    handles = []
    if first:
        handles += [
            Line2D([], [], color=color, marker=marker, markersize=5, label=f"{first} {value}")
            for (color, marker), value in zip(PALETTE, config[f"{first}s"], strict=False)
        ]
    grey = "#333333" if first else PALETTE[0][0]
    handles += [
        Line2D([], [], color=grey, linestyle="-", label="held-out"),
        Line2D([], [], color=grey, linestyle="--", label="training"),
    ]
    named = dict(zip(BLOCKS, BLOCKS.values(), strict=True))
    colored = [line for panel in panels for line in panel.lines if line.color]
    return handles + [
        Line2D([], [], color=line.color, label=named[line.metric.rpartition("_")[2]]) for line in colored
    ]


def _variables(config: dict[str, Any]) -> tuple[str | None, str | None]:
    """Returns what colors and what columns stand for, of rank and degree."""
    has = [name for name in ("rank", "degree") if f"{name}s" in config]
    return (has[0] if has else None, has[1] if len(has) > 1 else None)


def _title(config: dict[str, Any]) -> str:
    titles = {
        "tutorial": "$y = x_1 x_2$",
        "low_rank": "$y = x_0 x_1 1[x_5 > 0]$",
        "polynomial": "random polynomials in random directions",
        "multi_index": "$y = |U^T x|$, random directions U",
        "parity": "sparse parity",
    }
    task = config["task"]
    return titles[task] if task in titles else str(task).replace("_", " ")


FIGURES: dict[str, Callable[[Records], tuple[Figure, Table]]] = {
    "by_iteration": by_iteration,
    "feature_matrices": _matrices,
}
