"""How measured seconds grow with one size: exponents fitted in logarithms, and a figure of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

# Okabe and Ito's palette, told apart under the common color vision deficiencies, and markers besides.
LOOKS = (("#0072B2", "o", "-"), ("#D55E00", "s", "-"), ("#333333", "", "--"))


def exponent(sizes: Sequence[float], measured: Sequence[float]) -> float:
    """Returns b of measured = a sizes^b, by least squares of logarithms.

    Raises:
        ValueError: If there are fewer than two different sizes.
    """
    if len(set(sizes)) < 2:
        raise ValueError(f"an exponent needs at least two different sizes: got {list(sizes)}")
    return float(np.polyfit(np.log(sizes), np.log(measured), 1)[0])


def draw_sweep(
    path: Path, rows: Sequence[Mapping[str, Any]], curves: Mapping[str, str], *, letter: str, title: str
) -> None:
    """Writes a figure, log-log, of columns of rows against their first column, which is the size.

    curves: The name in the legend of each column of seconds; the last, drawn without markers, is a reference.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    # Needed for nothing else here, and not among what the benchmarks install.
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator, StrMethodFormatter

    by = next(iter(rows[0]))
    sizes = [row[by] for row in rows]
    figure = Figure(figsize=(6.4, 5.0), layout="constrained")
    axes = figure.subplots()
    looks = (*LOOKS[: len(curves) - 1], LOOKS[-1])
    for (column, label), (color, marker, line) in zip(curves.items(), looks, strict=True):
        seconds = [row[column] for row in rows]
        name = f"{label}, as ${letter}^{{{exponent(sizes, seconds):.2f}}}$"
        axes.plot(sizes, seconds, color=color, marker=marker, linestyle=line, linewidth=2, label=name)
    axes.set(xscale="log", yscale="log", xlabel=f"{by}, ${letter}$", ylabel="seconds")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.grid(axis="y", color="#dddddd")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, fontsize=11)
    figure.legend(loc="outside lower center", frameon=False)
    figure.savefig(path, dpi=150)
