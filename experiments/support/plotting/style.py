"""What all figures look like: colors, markers, titles and layer ticks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from experiments.support.plotting.reading import RunConfig

# Set explicitly where a reader's own matplotlib settings could break a figure (usetex) or change its meaning.
STYLE: dict[Any, Any] = {
    "text.usetex": False,
    "font.family": "DejaVu Sans",
    "mathtext.fontset": "dejavusans",
    "font.size": 10.0,
    "axes.titlesize": 11.0,
    "axes.titleweight": "normal",
    "axes.labelsize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#4d4d4d",
    "axes.grid": False,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "pdf.fonttype": 42,
}

_LONGEST_NAME = 40


@dataclass(frozen=True)
class StageStyle:
    """How one stage is drawn and what the legend calls it."""

    color: str
    marker: str
    label: str
    step: str


# Okabe and Ito's palette: told apart under the common color vision deficiencies.
STAGE_STYLES = {
    "input": StageStyle("#0072B2", "o", r"input  $x$", ""),
    "linear": StageStyle("#D55E00", "s", r"linear  $M^{1/2}x$", ", after the AGOP"),
    "nonlinear": StageStyle("#009E73", "^", r"nonlinear  $\varphi(M^{1/2}x)$", ", after random features"),
}
MACHINE_STYLE = StageStyle("#333333", "D", "machine", "")


def new_figure(width: float, height: float) -> Figure:
    """Returns an empty figure, in inches, whose parts are laid out without overlap."""
    return Figure(figsize=(width, height), layout="constrained")


def plain_name(name: str) -> str:
    """Returns a name fit for one line of a figure: no control characters, at most 40 characters."""
    printable = "".join(character if character.isprintable() else " " for character in name)
    return printable if len(printable) <= _LONGEST_NAME else printable[: _LONGEST_NAME - 1] + "…"


def set_title(figure: Figure, headline: str, config: RunConfig, seeds: Sequence[int]) -> None:
    """Returns nothing; writes a headline, and below it the run's dataset, size, kernel, ridge and seeds."""
    setting = (
        f"{plain_name(config.dataset)}, n = {config.num_train:,}, {plain_name(config.kernel)} kernel "
        f"(bandwidth {config.bandwidth:g}), ridge {config.ridge:g}, {config.precision}, {_seed_text(seeds)}"
    )
    set_headline(figure, headline, setting)


def set_headline(figure: Figure, headline: str, setting: str) -> None:
    """Returns nothing; writes a headline, and below it the setting of a run in one or more lines."""
    # The layout makes room for a suptitle only, so its blank lines hold the place of the setting.
    room = "\n " * len(setting.splitlines())
    title = figure.suptitle(f"{headline}{room}", fontsize=12.5, fontweight="bold", linespacing=1.4)
    # A dataset's name may hold dollar signs, which must not start a formula.
    figure.add_artist(
        Annotation(
            setting,
            xy=(0.5, 0),
            xycoords=title,
            xytext=(0, 4),
            textcoords="offset points",
            ha="center",
            va="bottom",
            color="#444444",
            parse_math=False,
        )
    )


def set_layer_axis(axes: Axes, layers: Sequence[int]) -> None:
    """Returns nothing; gives an axis of layers whole-numbered ticks that leave room for their labels."""
    last = max(layers)
    axes.set_xticks(layer_ticks(last))
    axes.set_xticks(range(min(layers), last + 1), minor=True)
    axes.set_xlim(min(layers) - 0.5, last + 0.5)
    axes.set_xlabel("layer")


def layer_ticks(last: int) -> list[int]:
    """Returns the layers from 1 to `last` that get a label: all, every other one, or 1 and round numbers."""
    if last <= 10:
        return list(range(1, last + 1))
    if last <= 16:
        return list(range(1, last + 1, 2))
    step = next(step for step in (5, 10, 20, 50, 100, last) if last / step <= 8)
    return [1, *range(step, last + 1, step)]


def _seed_text(seeds: Sequence[int]) -> str:
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"{len(seeds)} seeds"
