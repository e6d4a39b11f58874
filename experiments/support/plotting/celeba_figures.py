"""Figures of `experiments.celeba`, drawn from its records alone: what M looks at, and what it is worth."""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from experiments.support.checkpoint import load_arrays
from experiments.support.plotting.first_layer import signed_image
from experiments.support.plotting.style import new_figure, set_headline
from experiments.support.plotting.variant_figures import PALETTE
from experiments.support.plotting.writing import write_figures
from experiments.support.records import RecordsError, Row, read_run

# Rows of pictures: the array, and what the label says.
PICTURES = (
    ("mean_image", "training images\nthat have it, mean"),
    ("diagonal", "diagonal of M,\nas colors"),
    ("channel_sum", "diagonal of M,\nsum over channels"),
    ("top_eigenvector", "top eigenvector of M\n(gray is zero)"),
)
SUM_ROW = 2
# The line on the setting needs so many inches.
MIN_WIDTH = 8.5
SCORE = "test_accuracy"

Table = list[dict[str, object]]


class Records(NamedTuple):
    """What figures are drawn from: options, rows, and the images of each attribute, of the first seed."""

    config: dict[str, Any]
    rows: list[Row]
    images: dict[str, dict[str, Float[np.ndarray, "h w 3"]]]


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
        images = {name: load_arrays(folder / f"{name}.npz") for name in config["attributes"]}
    except (OSError, ValueError) as error:
        raise RecordsError(f"the records in {workdir} cannot be read: {error}; resume the run") from error
    return Records(config, rows, images)


def feature_images(records: Records) -> tuple[Figure, Table]:
    """Returns, for each attribute, its mean image, M's diagonal and M's top eigenvector as images.

    The diagonal is divided by its largest entry, as colors and, summed over channels and divided by the
    largest sum, as a heat map. The eigenvector has the entry of largest size at +1.
    """
    config, names = records.config, records.config["attributes"]
    figure = new_figure(max(1.8 + 1.9 * len(names), MIN_WIDTH), 1.3 + 1.9 * len(PICTURES))
    panels = figure.subplots(len(PICTURES), len(names), squeeze=False)
    table: Table = []
    for column, name in enumerate(names):
        images = drawn_images(records.images[name])
        for axes, (picture, label) in zip(panels[:, column], PICTURES, strict=True):
            _draw(axes, picture, images[picture])
            if column == 0:
                axes.set_ylabel(label, fontsize=9.5)
        panels[0, column].set_title(name.replace("_", " "))
        table += _entries(name, images)
    heat = panels[SUM_ROW, -1].images[0]
    figure.colorbar(
        heat, ax=panels, shrink=0.5, aspect=30, label="diagonal summed over channels / largest sum"
    )
    set_headline(figure, f"What M looks at{_after(config)}", setting(config, config["seeds"][:1]))
    return figure, table


def drawn_images(images: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the numbers of every picture of an attribute, before they become colors."""
    diagonal, summed = images["diagonal"], images["diagonal"].sum(axis=-1)
    return images | {"diagonal": diagonal / diagonal.max(), "channel_sum": summed / summed.max()}


def accuracies(records: Records) -> tuple[Figure, Table]:
    """Returns the accuracy on held-out images of each attribute, plain kernel and last iteration."""
    config, table = records.config, accuracy_table(records)
    names, last = config["attributes"], config["num_iters"]
    figure = new_figure(7.5, 1.9 + 0.42 * len(names))
    axes = figure.subplots()
    shown = {0: "plain Laplace kernel", last: f"after {_updates(last)}"}
    for position, name in enumerate(names):
        of = {row["iteration"]: row for row in table if row["attribute"] == name}
        ends = [float(str(of[iteration]["mean"])) for iteration in shown]
        axes.plot(ends, [position, position], color="#b5b5b5", linewidth=1.4, zorder=1)
        for (iteration, end), (color, marker) in zip(zip(shown, ends, strict=True), PALETTE, strict=False):
            spread = [float(str(of[iteration][bound])) for bound in ("min", "max")]
            axes.plot(spread, [position, position], color=color, linewidth=4, alpha=0.3, zorder=2)
            axes.plot([end], [position], color=color, marker=marker, markersize=7, linestyle="", zorder=3)
        gain = f"{100 * (ends[1] - ends[0]):+.1f}"
        axes.annotate(gain, (max(ends), position), (9, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.margins(x=0.12)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("accuracy on held-out images, balanced; gain in points")
    axes.grid(axis="x", color="#e3e3e3", linewidth=0.7)
    handles = [
        Line2D([], [], color=color, marker=marker, linestyle="", label=label)
        for label, (color, marker) in zip(shown.values(), PALETTE, strict=False)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    set_headline(figure, "CelebA attributes, before and after the AGOP", setting(config, config["seeds"]))
    return figure, table


def accuracy_table(records: Records) -> Table:
    """Returns the accuracies on held-out images by attribute and iteration, over seeds."""
    found: dict[tuple[str, int], list[float]] = {}
    for row in records.rows:
        if row["metric"] == SCORE:
            found.setdefault((row["attribute"], row["iteration"]), []).append(row["value"])
    return [
        {"attribute": name, "iteration": iteration, "mean": mean(values)}
        | {"min": min(values), "max": max(values), "num_seeds": len(values)}
        for (name, iteration), values in found.items()
    ]


def setting(config: dict[str, Any], seeds: Sequence[int]) -> str:
    """Returns what was learned from what, and how, in one line."""
    side = config["image_size"]
    of = f"seed {seeds[0]}" if len(seeds) == 1 else f"{len(seeds)} seeds, mean and range"
    return (
        f"CelebA {side} x {side}, up to {config['num_per_class']:,} per class, Laplace kernel (bandwidth "
        f"{config['bandwidth']:g}), ridge {config['ridge']:g}, {config['precision']}, {of}"
    )


def _draw(axes: Axes, picture: str, image: np.ndarray) -> None:
    if picture == "channel_sum":
        axes.imshow(image, cmap="cividis", vmin=0, vmax=1, interpolation="nearest")
    else:
        shown = signed_image(image) if picture == "top_eigenvector" else np.clip(image, 0, 1)
        axes.imshow(shown, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(True)
    axes.spines[:].set_linewidth(0.5)


def _entries(name: str, images: dict[str, np.ndarray]) -> Table:
    """Returns every drawn number of an attribute, one row per pixel and channel."""
    table: Table = []
    for row, column, channel in np.ndindex(*images["diagonal"].shape):
        entry: dict[str, object] = {"attribute": name, "row": row, "column": column, "channel": channel}
        for picture, _ in PICTURES:
            pixel = images[picture][row, column]
            entry[picture] = float(pixel if picture == "channel_sum" else pixel[channel])
        table.append(entry)
    return table


def _after(config: dict[str, Any]) -> str:
    return f" after {_updates(config['num_iters'])}"


def _updates(num_iters: int) -> str:
    return "one AGOP update" if num_iters == 1 else f"{num_iters} AGOP updates"


FIGURES: dict[str, Callable[[Records], tuple[Figure, Table]]] = {
    "feature_images": feature_images,
    "accuracies": accuracies,
}
