"""What all figures of a training run share: lines over seeds, the mark of the terminal phase, headings."""

from collections.abc import Sequence
from statistics import mean
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.support.plotting.reading import STAGES
from experiments.support.plotting.style import STAGE_STYLES, StageStyle, plain_name, set_headline
from experiments.support.records import Row
from experiments.support.training_story import terminal_epoch

LABELS = {"input": r"input  $x$", "linear": r"linear  $SV^\top x$", "nonlinear": r"nonlinear  $\sigma(Wx)$"}
_GREY = "#666666"
# What the longest entry of a legend takes.
INCHES_OF_LABEL = 2.9

Table = list[dict[str, object]]


class Records(NamedTuple):
    """What figures are drawn from: the configuration, the rows, and arrays of the first seed by epoch."""

    config: dict[str, Any]
    rows: list[Row]
    arrays: dict[int, dict[str, np.ndarray]]

    @property
    def layers(self) -> list[int]:
        """The layers before the head."""
        return sorted({row["layer"] for row in self.rows if row["stage"] == "nonlinear"})


def draw_lines(
    axes: Axes, rows: Sequence[Row], by: str, style: StageStyle, line: str = "-", **place: object
) -> Table:
    """Returns the mean and range over seeds, by epoch or by layer, of the rows at a place.

    Drawn are those of as many seeds as any: an epoch that one seed alone was measured at, its first with all
    training points correct, would bend the mean.
    """
    found: dict[int, list[float]] = {}
    for row in rows:
        if all(row[name] == value for name, value in place.items()):
            found.setdefault(row[by], []).append(row["value"])
    most = max(map(len, found.values()), default=0)
    where = [at for at in sorted(found) if len(found[at]) == most]
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
        for at in sorted(found)
    ]


def mark_terminal_phase(axes: Axes, records: Records, color: str = _GREY) -> None:
    """Returns nothing; draws a line at the mean of the epochs where the terminal phase begins, if any."""
    begun = [terminal_epoch(records.rows, seed) for seed in records.config["seeds"]]
    known = [epoch for epoch in begun if epoch is not None]
    if known:
        axes.axvline(float(np.mean(known)), color=color, linestyle=":", linewidth=1.2)


def stage_handles(records: Records) -> list[Line2D]:
    """Returns the legend of the three stages, and of the terminal phase."""
    return handles_of({LABELS[stage]: STAGE_STYLES[stage] for stage in STAGES}) + phase_handle(records)


def phase_handle(records: Records) -> list[Line2D]:
    """Returns the legend of the terminal phase; nothing where no seed reaches it."""
    seeds = records.config["seeds"]
    reached = [seed for seed in seeds if terminal_epoch(records.rows, seed) is not None]
    text = f"terminal phase begins (100% training accuracy; {len(reached)} of {len(seeds)} seeds)"
    return [Line2D([], [], color=_GREY, linestyle=":", label=text)] if reached else []


def handles_of(named: dict[str, StageStyle]) -> list[Line2D]:
    """Returns one entry of a legend for each style."""
    return [Line2D([], [], color=s.color, marker=s.marker, markersize=5, label=n) for n, s in named.items()]


def finish(figure: Figure, headline: str, config: dict[str, Any], handles: list[Line2D]) -> None:
    """Returns nothing; writes the legend below, and above it the headline and the setting."""
    if handles:
        columns = max(1, min(len(handles), 4, int(figure.get_figwidth() / INCHES_OF_LABEL)))
        figure.legend(handles=handles, loc="outside lower center", ncols=columns)
    seeds = f"{len(config['seeds'])} seeds, mean and range" if len(config["seeds"]) > 1 else "one seed"
    set_headline(figure, headline, f"{setting(config)}, {seeds}")


def setting(config: dict[str, Any]) -> str:
    """Returns what was trained on what, and how, in one line."""
    layers = f"{config['depth']} x {config['width']}"
    network = f"MLP of {layers}" if config["network"] == "mlp" else f"{config['network']}, head of {layers}"
    noise = f", {config['label_noise']:.0%} of labels permuted" if config["label_noise"] else ""
    return (
        f"{plain_name(config['dataset'])}, n = {config['num_train']:,}{noise}, {network}, gain "
        f"{config['init_gain']:g}, {config['optimizer']} {config['learning_rate']:g}, {config['precision']}"
    )
