"""Figures of the last hidden layer: Papyan's set, cosines of class means, points around their simplex."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.support.plotting.style import StageStyle, new_figure
from experiments.support.plotting.training_drawing import (
    Records,
    Table,
    draw_lines,
    finish,
    handles_of,
    mark_terminal_phase,
    phase_handle,
)
from experiments.support.training_story import terminal_epoch

MEANS = StageStyle("#0072B2", "o", "class means, training", "")
CLASSIFIER = StageStyle("#D55E00", "s", "classifier, weights of the classes", "")
HELD_OUT = StageStyle("#009E73", "^", "held-out points", "")
# Four classes, told apart under the common color vision deficiencies.
CLASS_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")

# Title, label of the axis, and what is drawn: stage, metric, style.
PANELS = (
    ("NC1, within-class variability", r"tr$(\Sigma_W\,\Sigma_B^{+})\;/\;K$", (("input", "nc1", MEANS),)),
    (
        "NC2, equal norms",
        "std / mean of norms",
        (("input", "nc2_equinorm", MEANS), ("weights", "nc2_equinorm", CLASSIFIER)),
    ),
    (
        "NC2, equal angles",
        "std of cosines",
        (("input", "nc2_cosine_std", MEANS), ("weights", "nc2_cosine_std", CLASSIFIER)),
    ),
    (
        "NC2, maximal angles",
        "mean |cos + 1/(K-1)|",
        (("input", "nc2_equiangularity", MEANS), ("weights", "nc2_equiangularity", CLASSIFIER)),
    ),
    ("NC3, self-duality", r"$\|\,W/\|W\| - M/\|M\|\,\|$", (("input", "nc3_self_duality", MEANS),)),
    (
        "NC4, against the nearest class mean",
        "share of other decisions",
        (("input", "nc4", MEANS), ("input", "test_nc4", HELD_OUT)),
    ),
)


def papyan_set(records: Records) -> tuple[Figure, Table]:
    """Returns the measurements of Papyan, Han and Donoho (2020) by epoch, at the input of the classifier."""
    head, table = max(records.layers) + 1, []
    figure = new_figure(11.0, 6.6)
    for axes, (title, label, lines) in zip(figure.subplots(2, 3, sharex=True).flat, PANELS, strict=True):
        drawn = []
        for stage, metric, style in lines:
            place = {"layer": head, "stage": stage, "metric": metric}
            drawn += draw_lines(axes, records.rows, "epoch", style, **place)
        table += drawn
        mark_terminal_phase(axes, records)
        axes.set(title=title, ylabel=label, xlabel="epoch")
        _set_scale(axes, drawn)
    has_test = any(row["metric"] == "test_nc4" for row in records.rows)
    styles = [MEANS, CLASSIFIER, HELD_OUT][: 2 + has_test]
    handles = handles_of({style.label: style for style in styles}) + phase_handle(records)
    finish(figure, "Neural collapse at the classifier through training", records.config, handles)
    return figure, table


def class_mean_cosines(records: Records) -> tuple[Figure, Table]:
    """Returns the cosines of the centered class means of the first seed, at three epochs."""
    epochs, table = shown_epochs(records), []
    figure = new_figure(1.2 + 3.2 * len(epochs), 4.6)
    panels = figure.subplots(1, len(epochs), squeeze=False)[0]
    for axes, epoch in zip(panels, epochs, strict=True):
        cosines = records.arrays[epoch]["cosines"]
        axes.imshow(cosines, cmap="RdBu_r", vmin=-1, vmax=1)
        axes.set(title=_title(records, epoch), xlabel="class")
        ticks = range(0, len(cosines), -(-len(cosines) // 10))
        axes.set_xticks(ticks)
        axes.set_yticks(ticks)
        table += [
            {"epoch": epoch, "class": a, "other_class": b, "cosine": float(cosines[a, b])}
            for a, b in np.ndindex(*cosines.shape)
        ]
    panels[0].set_ylabel("class")
    num_classes = len(records.arrays[epochs[0]]["cosines"])
    label = "cosine of class means around their mean"
    bar = figure.colorbar(panels[0].images[0], ax=list(panels), shrink=0.75, label=label)
    bar.ax.axhline(-1 / (num_classes - 1), color="black", linewidth=1.5)
    note = Line2D([], [], color="black", label=f"of a simplex: -1/(K-1) = {-1 / (num_classes - 1):.3f}")
    _finish_first_seed(
        figure, "Angles between class means at the classifier, through training", records, [note]
    )
    return figure, table


def simplex_projection(records: Records) -> tuple[Figure, Table]:
    """Returns features of four classes in the space of their means, of the first seed, at three epochs."""
    epochs, table = shown_epochs(records), []
    figure = new_figure(1.0 + 3.6 * len(epochs), 4.8)
    for index, epoch in enumerate(epochs, 1):
        arrays = records.arrays[epoch]
        axes: Any = figure.add_subplot(1, len(epochs), index, projection="3d")
        scale = np.linalg.norm(arrays["means"], axis=1).max() or 1.0
        _draw_simplex(axes, _three(arrays["means"]) / scale)
        for color, shown in zip(CLASS_COLORS, arrays["shown_classes"], strict=False):
            points = _three(arrays["points"][arrays["point_classes"] == shown]) / scale
            axes.scatter(*points.T, color=color, s=9, alpha=0.55, linewidths=0)
            table += [
                {"epoch": epoch, "class": int(shown), "x": p[0], "y": p[1], "z": p[2]}
                for p in points.tolist()
            ]
        axes.set(xticklabels=[], yticklabels=[], zticklabels=[], title=_title(records, epoch))
        axes.set_box_aspect((1, 1, 1))
    names = [f"class {k}" for k in records.arrays[epochs[0]]["shown_classes"]]
    handles = [
        Line2D([], [], linestyle="", marker="o", color=color, label=name)
        for color, name in zip(CLASS_COLORS, names, strict=False)
    ]
    edges = Line2D([], [], color="#333333", marker="D", markersize=4, label="class means and their simplex")
    headline = "Four classes in the space of their means, at the classifier"
    _finish_first_seed(figure, headline, records, [*handles, edges])
    return figure, table


def _set_scale(axes: Axes, drawn: Table) -> None:
    """Returns nothing; a logarithmic axis where values span more than a factor of ten and none is 0."""
    values = np.array([row["mean"] for row in drawn], float)
    if len(values) and values.min() > 0 and values.max() > 10 * values.min():
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)


def shown_epochs(records: Records) -> list[int]:
    """Returns the first measured epoch, the last, and between them the beginning of the terminal phase.

    The one in the middle where the phase is not reached.
    """
    epochs = sorted(records.arrays)
    begun = terminal_epoch(records.rows, records.config["seeds"][0])
    between = begun if begun in epochs else epochs[len(epochs) // 2]
    return sorted({epochs[0], between, epochs[-1]})


def _draw_simplex(axes: Axes, means: np.ndarray) -> None:
    for a in range(len(means)):
        for b in range(a):
            axes.plot(*means[[a, b]].T, color="#333333", linewidth=1.0)
    axes.plot(*means.T, linestyle="", marker="D", markersize=5, color="#333333")


def _three(points: np.ndarray) -> np.ndarray:
    return np.pad(points, ((0, 0), (0, 3 - points.shape[1])))


def _title(records: Records, epoch: int) -> str:
    begun = terminal_epoch(records.rows, records.config["seeds"][0])
    return f"epoch {epoch}" + (", terminal phase begins" if epoch == begun else "")


def _finish_first_seed(figure: Figure, headline: str, records: Records, handles: list[Line2D]) -> None:
    finish(figure, headline, records.config | {"seeds": records.config["seeds"][:1]}, handles)
