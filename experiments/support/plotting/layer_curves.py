"""Curves by layer: collapse at the three stages, and what the layers' machines decide."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from experiments.support.plotting.reading import STAGES, RunConfig
from experiments.support.plotting.seed_summary import CurvePoint
from experiments.support.plotting.style import (
    MACHINE_STYLE,
    STAGE_STYLES,
    StageStyle,
    new_figure,
    set_layer_axis,
    set_title,
)

BELOW_FLOOR = "below-floor"
_GREY = "#666666"
# A logarithmic axis spans at least this factor.
_NARROWEST = 5.0


def collapse_by_layer(points: Sequence[CurvePoint], config: RunConfig) -> Figure:
    """Returns NC1 and NC2 by layer at the three stages, on training (solid) and held-out points (dashed)."""
    figure = new_figure(9.0, 5.0)
    panels = figure.subplots(1, 2)
    _stage_panel(panels[0], points, "nc1")
    panels[0].set_title("within-class variability")
    panels[0].set_ylabel(r"NC1 = tr$(\Sigma_W\,\Sigma_B^{+})\;/\;K$")
    _stage_panel(panels[1], points, "nc2")
    panels[1].set_title("class means: distance from a simplex")
    panels[1].set_ylabel(r"NC2 = $\Vert\, G/\Vert G\Vert_F - E/\Vert E\Vert_F\,\Vert_F$")
    for axes in panels:
        _set_log_axis(axes)
    set_title(figure, "Neural collapse by layer of Deep RFM", config, config.seeds)
    _set_legend(figure, points, config)
    return figure


def accuracy_by_layer(points: Sequence[CurvePoint], config: RunConfig) -> Figure:
    """Returns the accuracy of each layer's machine, and how often nearest class means decide otherwise."""
    figure = new_figure(9.0, 5.0)
    panels = figure.subplots(1, 2)
    _draw_metric(panels[0], points, "train_accuracy", "machine", MACHINE_STYLE, held_out=False)
    _draw_metric(panels[0], points, "test_accuracy", "machine", MACHINE_STYLE, held_out=True)
    _finish_panel(panels[0], points, ("train_accuracy", "test_accuracy"))
    panels[0].set_title("accuracy of the layer's kernel machine")
    panels[0].set_ylabel("fraction of points classified correctly")
    _stage_panel(panels[1], points, "nc4")
    panels[1].set_title("nearest class mean against the machine")
    panels[1].set_ylabel("NC4 = fraction decided differently")
    for axes in panels:
        _set_fraction_axis(axes)
    set_title(figure, "Decisions by layer of Deep RFM", config, config.seeds)
    _set_legend(figure, points, config)
    return figure


def _stage_panel(axes: Axes, points: Sequence[CurvePoint], metric: str) -> None:
    for stage in STAGES:
        _draw_metric(axes, points, f"test_{metric}", stage, STAGE_STYLES[stage], held_out=True)
    for stage in STAGES:
        _draw_metric(axes, points, metric, stage, STAGE_STYLES[stage], held_out=False)
    _finish_panel(axes, points, (metric, f"test_{metric}"))


def _draw_metric(
    axes: Axes, points: Sequence[CurvePoint], metric: str, stage: str, style: StageStyle, *, held_out: bool
) -> None:
    """Returns nothing; draws mean and band, pale and hollow where a point lies below the floor."""
    chosen = [point for point in points if point.metric == metric and point.stage == stage]
    layers = np.array([point.layer for point in chosen])
    mean = np.array([point.mean for point in chosen])
    below = np.array([point.below_floor for point in chosen], dtype=bool)
    line_style, width, size = ("--", 1.0, 3.0) if held_out else ("-", 1.8, 5.5)
    common: dict[str, Any] = {"color": style.color, "linewidth": width, "linestyle": line_style}
    axes.plot(layers, mean, alpha=0.35, **common)
    axes.plot(
        layers, np.where(below, np.nan, mean), marker=style.marker, markersize=size, label=metric, **common
    )
    axes.plot(
        layers[below],
        mean[below],
        linestyle="none",
        marker=style.marker,
        markersize=size,
        markerfacecolor="white",
        markeredgecolor=style.color,
        markeredgewidth=1.0,
        gid=BELOW_FLOOR,
    )
    if not held_out:
        low, high = ([getattr(point, end) for point in chosen] for end in ("min", "max"))
        axes.fill_between(layers, low, high, color=style.color, alpha=0.18, linewidth=0)


def _finish_panel(axes: Axes, points: Sequence[CurvePoint], metrics: Sequence[str]) -> None:
    """Returns nothing; sets the layer axis and says in words what could not be drawn."""
    shown = [point for point in points if point.metric in metrics]
    set_layer_axis(axes, [point.layer for point in shown])
    axes.grid(axis="y", which="major", color="#e3e3e3", linewidth=0.7)
    axes.set_axisbelow(True)
    dropped = sum(point.num_dropped for point in shown)
    if dropped:
        noun = "value" if dropped == 1 else "values"
        axes.set_xlabel(f"layer\n({dropped} {noun} not drawn: zero, negative or not finite)")
    if not any(point.num_seeds for point in shown):
        axes.text(0.5, 0.5, "no value to draw", transform=axes.transAxes, ha="center", color=_GREY)


def _set_log_axis(axes: Axes) -> None:
    """Returns nothing; widens a narrow range, so that it holds labeled ticks and small changes look small."""
    if not any(np.isfinite(line.get_ydata()).any() for line in axes.lines):
        axes.set_ylim(0.1, 1.0)
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if high < _NARROWEST * low:
        middle = math.sqrt(low * high)
        low, high = middle / math.sqrt(_NARROWEST), middle * math.sqrt(_NARROWEST)
        axes.set_ylim(low, high)
    if high < 100 * low:
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())


def _set_fraction_axis(axes: Axes) -> None:
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, -0.02), min(max(high, 0.02), 1.02))


def _set_legend(figure: Figure, points: Sequence[CurvePoint], config: RunConfig) -> None:
    """Returns nothing; puts stages, sets of points and the floor in a column each, below the panels."""
    columns = [
        _stage_entries(),
        _point_set_entries(points, len(config.seeds)),
        _floor_entries(points, config.precision),
    ]
    filled = [column for column in columns if column]
    height = max(len(column) for column in filled)
    # A legend fills its columns evenly, so short ones are filled up with entries that show nothing.
    padded = [
        column + [Line2D([], [], linestyle="none", label=" ")] * (height - len(column)) for column in filled
    ]
    entries = [entry for column in padded for entry in column]
    figure.legend(handles=entries, loc="outside lower center", ncols=len(filled), columnspacing=2.5)


def _stage_entries() -> list[Artist]:
    return [
        Line2D([], [], color=s.color, marker=s.marker, markersize=5.5, linewidth=1.8, label=s.label + s.step)
        for s in STAGE_STYLES.values()
    ]


def _point_set_entries(points: Sequence[CurvePoint], num_seeds: int) -> list[Artist]:
    among = f", mean of {num_seeds} seeds" if num_seeds > 1 else " points"
    entries: list[Artist] = [Line2D([], [], color=_GREY, linewidth=1.8, label=f"training{among}")]
    if any(point.metric.startswith("test_") for point in points):
        entries.append(Line2D([], [], color=_GREY, linewidth=1.0, linestyle="--", label=f"held-out{among}"))
    if num_seeds > 1:
        entries.append(Patch(color=_GREY, alpha=0.3, linewidth=0, label="training, min to max"))
    return entries


def _floor_entries(points: Sequence[CurvePoint], precision: str) -> list[Artist]:
    if not any(point.below_floor for point in points):
        return []
    hollow: dict[str, Any] = {"markerfacecolor": "white", "markeredgecolor": _GREY, "linestyle": "none"}
    return [Line2D([], [], marker="o", markersize=5.5, label=f"below {precision} floor", **hollow)]
