"""Sizes and grids of the lazy baselines that end in seconds: few points, few values, narrow layers."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from experiments.support import lazy_grids

SIZES = {"num_train": 40, "num_validation": 24, "num_test": 30}
UNIT_ROWS = (False, True)
RIDGES = (1.0, 0.1, 1e-2, 1e-3)
GRIDS = {
    "linear_svm": {"C": (1.0, 1e-3)},
    "polynomial": {"unit_rows": UNIT_ROWS, "degree": (2,), "ridge": RIDGES},
    "gaussian": {"unit_rows": UNIT_ROWS, "bandwidth": (0.5, 1.0), "ridge": RIDGES},
    "laplace": {"unit_rows": UNIT_ROWS, "bandwidth": (0.5, 1.0, 2.0), "ridge": RIDGES},
    "ntk": {"unit_rows": UNIT_ROWS, "depth": (1,), "ridge": RIDGES},
    "rfm": {"unit_rows": UNIT_ROWS, "bandwidth": (1.0,), "ridge": (0.1, 1e-3), "iteration": (0, 1, 2)},
    "deep_rfm": {"ridge": (0.1, 1e-3), "depth": (1, 2)},
}


@contextmanager
def small_grids() -> Iterator[None]:
    """Has the library of methods search these grids."""
    with pytest.MonkeyPatch.context() as patch:
        for name, grid in GRIDS.items():
            patch.setitem(lazy_grids.GRIDS, name, grid)
        patch.setitem(lazy_grids.DEEP_RFM, "width", 32)
        yield
