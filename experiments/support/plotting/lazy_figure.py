"""Test accuracy by method, every seed a point."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import matplotlib
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from experiments.support.lazy_grids import LEARNS_FEATURES, TITLES
from experiments.support.plotting.style import STYLE, new_figure, plain_name, set_headline
from experiments.support.plotting.writing import write_figure
from experiments.support.records import Row

# Okabe and Ito's blue and vermilion, with a marker each.
LAZY, LEARNING, MEAN = ("#0072B2", "o"), ("#D55E00", "s"), "#333333"
# Points of seeds lie beside each other, up to so far above and below the line of their method.
HALF_HEIGHT = 0.16


def draw_accuracies(folder: Path, settings: Mapping[str, Any], rows: Sequence[Row]) -> Path:
    """Returns the png of the test accuracies, methods from top to bottom; a pdf and a csv lie beside it."""
    methods, table = settings["methods"], []
    with matplotlib.rc_context(STYLE):
        figure = new_figure(8.0, 1.7 + 0.42 * len(methods))
        axes = figure.subplots()
        for line, method in enumerate(methods):
            found = {
                metric: [r["value"] for r in rows if r["method"] == method and r["metric"] == metric]
                for metric in ("test_accuracy", "validation_accuracy")
            }
            values = found["test_accuracy"]
            color, marker = LEARNING if method in LEARNS_FEATURES else LAZY
            heights = [line + offset for offset in _offsets(len(values))]
            axes.plot(values, heights, linestyle="", color=color, marker=marker, markersize=6, alpha=0.85)
            center = mean(values)
            axes.plot([center, center], [line - 0.3, line + 0.3], color=MEAN, linewidth=1.8, zorder=1)
            spread = stdev(values) if len(values) > 1 else ""
            table += [
                {"method": method, "seed": seed, "test_accuracy": test, "validation_accuracy": validation}
                | {"mean_test_accuracy": center, "std_test_accuracy": spread}
                for seed, test, validation in zip(
                    settings["seeds"], values, found["validation_accuracy"], strict=True
                )
            ]
        axes.set_yticks(range(len(methods)), [TITLES[method] for method in methods])
        axes.set_ylim(len(methods) - 0.5, -0.5)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.grid(axis="x", color="#e3e3e3", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.set_xlabel("test accuracy")
        axes.set_ylabel("method")
        axes.margins(x=0.08)
        figure.legend(handles=_handles(methods), loc="outside lower center", ncols=3)
        set_headline(figure, "Lazy methods beside RFM and Deep RFM", _setting(settings))
        return write_figure(folder, "lazy_baselines", figure, table)


def _offsets(count: int) -> list[float]:
    if count == 1:
        return [0.0]
    return [HALF_HEIGHT * (2 * index / (count - 1) - 1) for index in range(count)]


def _handles(methods: Sequence[str]) -> list[Line2D]:
    kinds = {"learns no features": LAZY, "learns features": LEARNING}
    has_both = {
        "learns no features": any(method not in LEARNS_FEATURES for method in methods),
        "learns features": any(method in LEARNS_FEATURES for method in methods),
    }
    points = [
        Line2D([], [], linestyle="", color=color, marker=marker, label=f"{label}, one seed")
        for label, (color, marker) in kinds.items()
        if has_both[label]
    ]
    tick = {"linestyle": "", "marker": "|", "markersize": 13, "markeredgewidth": 1.8}
    return [*points, Line2D([], [], color=MEAN, label="mean of the seeds", **tick)]


def _setting(settings: Mapping[str, Any]) -> str:
    fitted = settings["num_train"] + settings["num_validation"]
    return (
        f"{plain_name(settings['dataset'])}: tuned on {settings['num_validation']:,} validation images, "
        f"refitted on {fitted:,}, tested on {settings['num_test']:,}, {settings['precision']}"
    )
