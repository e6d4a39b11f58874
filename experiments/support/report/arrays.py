"""The arrays of a run, checked as they are read, and packed as the page takes them: few bytes, as text."""

import base64
from pathlib import Path

import numpy as np
from jaxtyping import Float, Num

from experiments.support.checkpoint import CheckpointError, load_arrays
from experiments.support.records import RecordsError

# Heat maps are averaged down to so many rows: a page has one or two hundred pixels for each.
MAX_ROWS = 200
# Of the 256 values of a byte 254 halves of the scale each way, so that 0 is a value of its own.
HALF = 127


class Arrays:
    """The arrays of one file; raises RecordsError for one that is missing or has another form."""

    def __init__(self, path: Path) -> None:
        """Reads a file whole; raises RecordsError if it is damaged."""
        self.path = path
        try:
            self._stored = load_arrays(path)
        except CheckpointError as error:
            raise RecordsError(f"{error}; delete it and resume the run") from error

    def __getitem__(self, name_and_ndim: tuple[str, int]) -> Num[np.ndarray, "..."]:
        """Returns an array by its name and its number of axes."""
        name, ndim = name_and_ndim
        advice = f"delete {self.path} and resume the run"
        if name not in self._stored:
            raise RecordsError(f"{self.path} lacks the array {name!r}; {advice}")
        array = self._stored[name]
        if array.dtype.kind not in "fiu" or array.ndim != ndim or not array.size:
            raise RecordsError(
                f"{name!r} in {self.path} has the wrong form: got {array.dtype} of shape {array.shape}, "
                f"expected numbers with {ndim} axes; {advice}"
            )
        if not np.isfinite(array).all():
            raise RecordsError(
                f"{name!r} in {self.path} is unusable: got NaN or infinity, expected numbers; {advice}"
            )
        return array

    def __contains__(self, name: str) -> bool:
        """Returns whether there is an array of that name."""
        return name in self._stored


def as_text(values: Num[np.ndarray, "..."]) -> str:
    """Returns bytes in base64."""
    return base64.b64encode(np.ascontiguousarray(values, np.uint8).tobytes()).decode("ascii")


def quantised(values: Float[np.ndarray, "..."]) -> np.ndarray:
    """Returns numbers from -1 to 1 as bytes from 0 to 254, to the nearest 1/127; others are clipped."""
    return np.rint((np.clip(values, -1, 1) + 1) * HALF).astype(np.uint8)


def packed_heat(matrix: Float[np.ndarray, "d d"]) -> dict[str, object]:
    """Returns a symmetric matrix of entries from -1 to 1: its size, and its upper triangle by rows."""
    small = averaged(matrix)
    return {"size": len(small), "data": as_text(quantised(small[np.triu_indices(len(small))]))}


def averaged(matrix: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "e e"]:
    """Returns a square matrix averaged over blocks down to at most `MAX_ROWS` rows."""
    size = len(matrix)
    if size <= MAX_ROWS:
        return matrix
    starts = np.arange(MAX_ROWS) * size // MAX_ROWS
    counts = np.diff(np.append(starts, size))
    sums = np.add.reduceat(np.add.reduceat(matrix, starts, axis=0), starts, axis=1)
    return sums / np.outer(counts, counts)


def relative(values: Num[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Returns an array over its largest absolute entry; zeros stay."""
    largest = np.abs(values).max()
    return values / largest if largest > 0 else np.zeros(values.shape)
