"""Figures of `experiments.conv_rfm`, drawn from its records alone: what the patch AGOP sees, and is worth."""

from collections.abc import Callable
from pathlib import Path
from statistics import mean

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from experiments.support.conv_published import PUBLISHED
from experiments.support.plotting.conv_pictures import eigenpatches, filtered_images, transformed_images
from experiments.support.plotting.conv_reading import (
    Records,
    Table,
    as_colors,
    class_name,
    draw_image,
    finish,
    pixel_range,
    read_records,
)
from experiments.support.plotting.style import new_figure
from experiments.support.plotting.writing import write_figures

# Sets of images: how they are drawn, and what the legend calls them.
SETS = {
    "test": ("#0072B2", "o", "test images"),
    "validation": ("#D55E00", "s", "validation images"),
    "train": ("#009E73", "^", "training images"),
}
DASHED = "train"
PANELS = {"accuracy": "accuracy", "mean_squared_error": "mean squared error"}
# Iterations of which each has room for the word above it.
ROOM_FOR_SEEDS = 4
# The longest part of the setting needs so many inches.
MIN_WIDTH = 6.9
NOTEBOOK = ("#777777", "D")


def draw_figures(workdir: Path) -> list[Path]:
    """Returns the paths of the png files drawn from the records of a run; a pdf and a csv lie beside each.

    Raises:
        RecordsError: If a record is missing or damaged.
    """
    return write_figures(workdir / "figures", read_records(workdir), FIGURES)


def samples(records: Records) -> tuple[Figure, Table]:
    """Returns the first held-out images of each class, a row for each class.

    The table lists the images with their smallest, mean and largest pixel; pixels are in the arrays.
    """
    config, arrays = records.config, records.arrays
    images, labels = arrays["sample_images"], arrays["sample_labels"]
    drawn, (low, high) = as_colors(images, arrays), pixel_range(arrays)
    classes = range(min(len(config["class_names"]), int(labels.max()) + 1))
    num_columns = max(int(np.bincount(labels).max()), 1)
    side = 1.15 if len(classes) <= 4 else 0.85
    figure = new_figure(max(1.8 + side * num_columns, MIN_WIDTH), 1.5 + side * len(classes))
    panels = figure.subplots(len(classes), num_columns, squeeze=False)
    table: Table = []
    for label, axes in zip(classes, panels, strict=True):
        of = np.flatnonzero(labels == label)
        for number, target in enumerate(axes):
            if number < len(of):
                draw_image(target, drawn[of[number]])
                table.append(_sample(config["class_names"][label], label, number, images[of[number]]))
            else:
                target.set_axis_off()
        name = class_name(config, label, 24)
        axes[0].text(-0.15, 0.5, name, ha="right", va="center", parse_math=False, transform=axes[0].transAxes)
    total = len(config["class_names"])
    of_all = "" if len(classes) == total else f", the first {len(classes)} of {total} classes"
    note = f"held-out images{of_all}; pixels from {low:.3g} (black) to {high:.3g} (white)"
    figure.supxlabel(note, fontsize=9, color="#444444")
    finish(figure, "Samples by class", config, config["seeds"][:1])
    return figure, table


def by_iteration(records: Records) -> tuple[Figure, Table]:
    """Returns accuracy and mean squared error by iteration: mean over seeds, for test images the range too.

    A dotted line stands at each iteration that validation picks, with the number of seeds where it does.
    Accuracies of a published notebook are marks of their own, with its setting in the legend.
    """
    config = records.config
    figure = new_figure(9.5, 4.9)
    table: Table = []
    for axes, (metric, label) in zip(figure.subplots(1, 2, sharex=True), PANELS.items(), strict=True):
        for prefix in SETS:
            table += _draw_set(axes, records, prefix, metric)
        axes.set(ylabel=label, xlabel="iteration (0: plain kernel)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y", color="#e3e3e3", linewidth=0.7)
        if metric == "accuracy":
            table += _draw_notebook(axes, config["dataset"])
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        else:
            axes.set_ylim(bottom=0)
        _mark_picks(axes, records)
    handles = _handles(records)
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 3))
    finish(figure, headline(records), config, config["seeds"])
    return figure, table


def headline(records: Records) -> str:
    """Returns the mean test accuracy before, and where validation picks, or last without validation."""
    config, picks = records.config, records.picks
    last = config["num_iters"]
    at = {(seed, 0) for seed in config["seeds"]}, {(s, picks.get(s, last)) for s in config["seeds"]}
    plain, learned = (
        mean(
            row["value"]
            for row in records.rows
            if row["metric"] == "test_accuracy" and (row["seed"], row["iteration"]) in where
        )
        for where in at
    )
    when = "at the iteration that validation picks" if picks else f"after {_updates(last)}"
    return f"Test accuracy: {plain:.1%} plain, {learned:.1%} {when}"


def _draw_set(axes: Axes, records: Records, prefix: str, metric: str) -> Table:
    name = f"{prefix}_{metric}"
    found: dict[int, list[float]] = {}
    for row in records.rows:
        if row["metric"] == name:
            found.setdefault(row["iteration"], []).append(row["value"])
    where = sorted(found)
    if not where:
        return []
    color, marker, _ = SETS[prefix]
    line = "--" if prefix == DASHED else "-"
    means = [mean(found[i]) for i in where]
    above = 3 if prefix == "test" else 2
    axes.plot(where, means, line, color=color, marker=marker, markersize=5, zorder=above)
    if prefix == "test":
        low, high = ([end(found[i]) for i in where] for end in (min, max))
        axes.fill_between(where, low, high, color=color, alpha=0.16, linewidth=0)
    return [
        {"metric": name, "iteration": i, "mean": mean(found[i])}
        | {"min": min(found[i]), "max": max(found[i]), "num_seeds": len(found[i])}
        for i in where
    ]


def _draw_notebook(axes: Axes, dataset: str) -> Table:
    values = PUBLISHED[dataset].notebook if dataset in PUBLISHED else ()
    color, marker = NOTEBOOK
    style = {"linestyle": "", "markersize": 10, "markerfacecolor": "none", "markeredgewidth": 1.5}
    if values:
        axes.plot(range(len(values)), values, marker=marker, color=color, **style)
    # One number each: no range.
    return [
        {"metric": "published_test_accuracy", "iteration": i, "mean": value} for i, value in enumerate(values)
    ]


def _mark_picks(axes: Axes, records: Records) -> None:
    picks = list(records.picks.values())
    for iteration in sorted(set(picks)):
        count = picks.count(iteration)
        width = 0.8 + 1.2 * count / len(picks)
        axes.axvline(iteration, color="#333333", linestyle=":", linewidth=width, zorder=0)
        unit = " seeds" if records.config["num_iters"] <= ROOM_FOR_SEEDS else ""
        text = "picked" if len(picks) == 1 else f"{count} of {len(picks)}{unit}"
        axes.annotate(
            text,
            xy=(iteration, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            fontsize=8.5,
        )


def _handles(records: Records) -> list[Line2D]:
    measured = {row["metric"] for row in records.rows}
    spread = {"test": ", mean and range" if len(records.config["seeds"]) > 1 else ""}
    handles = [
        Line2D(
            *([], []),
            color=color,
            marker=marker,
            linestyle="--" if prefix == DASHED else "-",
            label=label + spread.get(prefix, ""),
        )
        for prefix, (color, marker, label) in SETS.items()
        if f"{prefix}_accuracy" in measured
    ]
    if records.picks:
        handles.append(Line2D([], [], color="#333333", linestyle=":", label="picked by validation"))
    published = PUBLISHED.get(records.config["dataset"])
    if published is None:
        return handles
    color, marker = NOTEBOOK
    style = {"linestyle": "", "markersize": 8, "markerfacecolor": "none", "markeredgewidth": 1.5}
    if published.notebook:
        label = f"published notebook, {published.setting}"
        handles.append(Line2D([], [], color=color, marker=marker, label=label, **style))
    plain, learned = published.slides
    label = f"slides: {plain:.2%} to {learned:.2%} (setting not known)"
    return [*handles, Line2D([], [], linestyle="", label=label)]


def _sample(name: str, label: int, number: int, image: np.ndarray) -> dict[str, object]:
    # A folder's name may hold bytes that are no UTF-8, which Python reads as half characters.
    written = name.encode("utf-8", "backslashreplace").decode()
    entry: dict[str, object] = {"class_name": written, "label": label, "sample": number}
    pixels = image.astype(np.float64)
    return entry | {
        "smallest": float(pixels.min()),
        "mean": float(pixels.mean()),
        "largest": float(pixels.max()),
    }


def _updates(num_iters: int) -> str:
    return "one AGOP update" if num_iters == 1 else f"{num_iters} AGOP updates"


FIGURES: dict[str, Callable[[Records], tuple[Figure, Table]]] = {
    "by_iteration": by_iteration,
    "samples": samples,
    "eigenpatches": eigenpatches,
    "filtered_images": filtered_images,
    "transformed_images": transformed_images,
}
