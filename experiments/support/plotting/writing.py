"""Writes a figure and the numbers behind it, each file whole or not at all."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import matplotlib
from matplotlib.figure import Figure

from experiments.support.atomic import make_folder, write_atomically
from experiments.support.plotting.style import STYLE

Source = TypeVar("Source")

_DPI = 150


def write_figures(
    folder: Path,
    source: Source,
    figures: Mapping[str, Callable[[Source], tuple[Figure, Sequence[Mapping[str, object]]]]],
) -> list[Path]:
    """Returns the paths of the png files drawn from a source, each by its name, as `write_figure` does.

    All are drawn before the first is written, so that a damaged record leaves the old figures together.
    """
    with matplotlib.rc_context(STYLE):
        drawn = {name: draw(source) for name, draw in figures.items()}
        return [write_figure(folder, name, *parts) for name, parts in drawn.items()]


def write_figure(folder: Path, name: str, figure: Figure, table: Sequence[Mapping[str, object]]) -> Path:
    """Returns the path of `<name>.png`, written into the folder beside `<name>.pdf` and `<name>.csv`.

    Dates and versions are left out of the files, so that equal records give equal bytes.
    """
    make_folder(folder)
    undated = {"CreationDate": None, "Creator": None, "Producer": None}
    write_atomically(folder / f"{name}.csv", lambda file: file.write(_csv_text(table).encode()))
    write_atomically(
        folder / f"{name}.pdf", lambda file: figure.savefig(file, format="pdf", metadata=undated)
    )
    write_atomically(
        folder / f"{name}.png",
        lambda file: figure.savefig(file, format="png", dpi=_DPI, metadata={"Software": None}),
    )
    return folder / f"{name}.png"


def _csv_text(table: Sequence[Mapping[str, object]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()
