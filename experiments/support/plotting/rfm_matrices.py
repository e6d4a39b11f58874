"""M as a picture: by iteration beside the true directions, or the last one for every rank and degree."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.support.modular import Operation, ordered_blocks
from experiments.support.plotting.style import new_figure
from experiments.support.rfm_options import Cell, operation_of

# Pictures of one target: so many iterations at most.
MAX_SHOWN = 3
TRUTH = r"true directions $UU^\top$"

Picture = tuple[Cell, str, Float[np.ndarray, "d d"]]
"""The target, the title, and what is drawn."""


def feature_matrices(
    config: dict[str, Any], arrays: Sequence[tuple[Cell, dict[str, np.ndarray]]]
) -> tuple[Figure, list[dict[str, object]]]:
    """Returns M of the first seed as pictures, each divided by its largest entry, and their entries.

    In modular arithmetic that is the largest off the diagonal, which would outshine all others, and elements
    are in cyclic order.
    """
    operation = operation_of(config["task"])
    if len(arrays) == 1:
        pictures, num_columns = pictures_of_one(*arrays[0], operation), 0
    else:
        pictures = [picture for cell, kept in arrays for picture in pictures_of_cell(cell, kept)]
        num_columns = 2 * len(config["degrees"]) if "ranks" in config and "degrees" in config else 0
        num_columns = num_columns or 2 * min(len(arrays), 2)
    num_columns = num_columns or len(pictures)
    num_rows = -(-len(pictures) // num_columns)
    figure = new_figure(1.0 + 2.6 * num_columns, 1.4 + 2.8 * num_rows)
    panels = figure.subplots(num_rows, num_columns, squeeze=False)
    for axes in panels.flat[len(pictures) :]:
        axes.set_visible(False)
    table: list[dict[str, object]] = []
    for axes, (cell, title, matrix) in zip(panels.flat, pictures, strict=False):
        drawn = scaled(matrix, off_diagonal=operation is not None)
        _draw(axes, drawn, title, operation)
        table.extend(
            {**cell, "picture": title, "row": i, "column": j, "value": float(drawn[i, j])}
            for i, j in np.ndindex(*drawn.shape)
        )
    label = "entry / largest entry" + (" off the diagonal" if operation else "")
    figure.colorbar(panels[0, 0].images[0], ax=panels, shrink=0.8, aspect=30, label=label)
    return figure, table


def pictures_of_one(cell: Cell, kept: dict[str, np.ndarray], operation: Operation | None) -> list[Picture]:
    """Returns M of the first, a middle and the last iteration, and the projector on the true directions."""
    matrices = kept["feature_matrices"]
    last = len(matrices) - 1
    shown = sorted({1, (last + 1) // 2, last})[-MAX_SHOWN:]
    titles = {i: f"M, iteration {i}" for i in shown}
    found = [(cell, titles[i], in_cyclic_order(matrices[i], operation)) for i in shown]
    return [*found, (cell, TRUTH, projector(kept))] if "directions" in kept else found


def pictures_of_cell(cell: Cell, kept: dict[str, np.ndarray]) -> list[Picture]:
    """Returns the last M, and the projector on the true directions."""
    name = ", ".join(f"{key} {value}" for key, value in cell.items())
    matrices = kept["feature_matrices"]
    learned = f"{name}: M, iteration {len(matrices) - 1}"
    return [(cell, learned, matrices[-1]), (cell, TRUTH, projector(kept))]


def projector(kept: dict[str, np.ndarray]) -> Float[np.ndarray, "d d"]:
    """Returns U U^T of the true directions."""
    return kept["directions"] @ kept["directions"].T


def in_cyclic_order(matrix: Float[np.ndarray, "d d"], operation: Operation | None) -> np.ndarray:
    """Returns M with its elements in the order in which all of its blocks may be circulant."""
    if operation is None:
        return matrix
    blocks = ordered_blocks(matrix, operation)
    return np.block([[blocks["first"], blocks["cross"]], [blocks["cross"].T, blocks["second"]]])


def scaled(matrix: Float[np.ndarray, "d d"], *, off_diagonal: bool) -> Float[np.ndarray, "d d"]:
    """Returns a matrix divided by its largest absolute entry, or by the largest off the diagonal."""
    compared = matrix - np.diag(np.diag(matrix)) if off_diagonal else matrix
    return matrix / (np.abs(compared).max() or 1.0)


def _draw(axes: Axes, matrix: np.ndarray, title: str, operation: Operation | None) -> None:
    axes.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
    axes.set_title(title, fontsize=9.5)
    axes.spines[:].set_visible(True)
    axes.spines[:].set_linewidth(0.5)
    axes.tick_params(labelsize=8)
    if operation is None:
        axes.set_xlabel("coordinate", fontsize=8)
    if operation is not None:
        half = len(matrix) // 2
        axes.axhline(half - 0.5, color="#4d4d4d", linewidth=0.6)
        axes.axvline(half - 0.5, color="#4d4d4d", linewidth=0.6)
        axes.set_xticks([half / 2, 1.5 * half], labels=["a", "b"])
        axes.set_yticks([half / 2, 1.5 * half], labels=["a", "b"])
