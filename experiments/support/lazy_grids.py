"""The grids of the "lazy" methods, which learn no features, of RFM and of Deep RFM.

unit_rows gives every row the norm sqrt(d), that of an average standardized row, so that the same ridges suit
both. Bandwidths are multiples of the median distance of the points x @ root that a kernel is fitted on.
"""

from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any, Literal, NamedTuple, TypeAlias

from experiments.support.tabular_kernels import Score

MethodName = Literal["linear_svm", "polynomial", "gaussian", "laplace", "ntk", "rfm", "deep_rfm"]
Values: TypeAlias = dict[str, Any]

UNIT_ROWS = (False, True)
RIDGES = (100.0, 10.0, 1.0, 0.1, 1e-2, 1e-3)
PLAIN_KERNELS: tuple[MethodName, ...] = ("polynomial", "gaussian", "laplace", "ntk")
GRIDS: dict[MethodName, dict[str, tuple[Any, ...]]] = {
    "linear_svm": {"C": (0.1, 1e-2, 1e-3, 1e-4, 1e-5)},
    "polynomial": {"unit_rows": UNIT_ROWS, "degree": (2, 3, 4), "ridge": RIDGES},
    "gaussian": {"unit_rows": UNIT_ROWS, "bandwidth": (0.25, 0.5, 1.0, 2.0), "ridge": RIDGES},
    "laplace": {"unit_rows": UNIT_ROWS, "bandwidth": (0.25, 0.5, 1.0, 2.0, 4.0), "ridge": RIDGES},
    "ntk": {"unit_rows": UNIT_ROWS, "depth": (1, 2, 4), "ridge": RIDGES},
    "rfm": {
        "unit_rows": UNIT_ROWS,
        "bandwidth": (0.5, 1.0, 2.0),
        "ridge": (0.1, 1e-2, 1e-3),
        "iteration": (0, 1, 2, 3, 4),
    },
    "deep_rfm": {"ridge": (0.1, 1e-2, 1e-3), "depth": (1, 2, 3, 4, 5)},
}
# Of Deep RFM as published: bandwidth of the Laplace kernel on unit rows, and ReLU features per layer.
DEEP_RFM = {"bandwidth": 2.0, "width": 1024}
TITLES: dict[MethodName, str] = {
    "linear_svm": "linear SVM",
    "polynomial": "polynomial kernel",
    "gaussian": "Gaussian (RBF) kernel",
    "laplace": "Laplace kernel",
    "ntk": "NTK kernel",
    "rfm": "RFM (Laplace)",
    "deep_rfm": "Deep RFM",
}
LEARNS_FEATURES: tuple[MethodName, ...] = ("rfm", "deep_rfm")


class Choice(NamedTuple):
    """A point of a grid, and how well it did on the validation points."""

    values: Values
    score: Score


def best(choices: Iterable[Choice]) -> Choice:
    """Returns the choice of the highest score, the first of those that are equal."""
    return max(choices, key=lambda choice: choice.score)


def points_of(grid: dict[str, tuple[Any, ...]], *without: str) -> Iterator[Values]:
    """Yields the points of a grid in its order, the last name varying fastest."""
    names = [name for name in grid if name not in without]
    for values in product(*(grid[name] for name in names)):
        yield dict(zip(names, values, strict=True))


def num_fits(name: MethodName) -> int:
    """Returns how many machines are fitted to tune a method; all ridges of a plain kernel count as one."""
    shared = ("ridge",) if name in PLAIN_KERNELS else ()
    return sum(1 for _ in points_of(GRIDS[name], *shared))
