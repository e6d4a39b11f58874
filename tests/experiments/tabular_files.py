"""Writes small collections in the original layout of Fernandez-Delgado et al."""

from pathlib import Path

import numpy as np


def write_task(root: Path, name: str, *, num_rows: int = 24, num_classes: int = 3, num_test: int = 0, seed=0):
    """Writes a task of three columns and returns its folder; with num_test, it has a test file too."""
    folder = root / name
    folder.mkdir(parents=True)
    x, labels = points(num_rows, num_classes, seed)
    suffix = "_train_R.dat" if num_test else "_R.dat"
    write_table(folder / f"{name}{suffix}", x, labels)
    if num_test:
        write_table(folder / f"{name}_test_R.dat", *points(num_test, num_classes, seed + 100))
    order = np.random.default_rng(seed).permutation(num_rows)
    write_lines(folder / "conxuntos.dat", [order[::2], order[1::2]])
    tests = [order[fold::4] for fold in range(4)]
    halves = [half for test in tests for half in (np.setdiff1d(order, test), test)]
    write_lines(folder / "conxuntos_kfold.dat", halves)
    return folder


def points(num_rows: int, num_classes: int, seed: int):
    """Returns standardized columns, and labels that the first two of them tell with some noise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(num_rows, 3))
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    order = np.argsort(x[:, 0] * x[:, 1] + 0.3 * rng.normal(size=num_rows))
    labels = np.empty(num_rows, dtype=int)
    labels[order] = np.arange(num_rows) * num_classes // num_rows
    return np.round(x, 5), labels


def write_table(path: Path, x, labels) -> None:
    """Writes a heading and rows of number, features and class."""
    heading = "\t".join(["", *(f"f{i + 1}" for i in range(x.shape[1])), "clase"])
    rows = [
        "\t".join(map(str, [i + 1, *row, label]))
        for i, (row, label) in enumerate(zip(x, labels, strict=True))
    ]
    path.write_text("\n".join([heading, *rows]) + "\n")


def write_lines(path: Path, rows) -> None:
    """Writes lines of row numbers, each ended by a blank, as the original files have them."""
    path.write_text("".join(" ".join(map(str, row)) + " \n" for row in rows))
