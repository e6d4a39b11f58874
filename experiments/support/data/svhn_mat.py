"""Reads the MATLAB files of SVHN's cropped digits."""

from pathlib import Path
from typing import Any

import numpy as np

from experiments.support.data.images import DataError, Split

_EXPECTED = "expected arrays X (h, w, c, n) of uint8 and y (n, 1)"
_AGAIN = "get the file again"


def read_svhn(path: Path) -> Split:
    """Returns the images as (n, h, w, c) and the labels, with the file's label 10 read as digit 0."""
    fields = _load(path)
    missing = [key for key in ("X", "y") if key not in fields]
    if missing:
        raise DataError(f"{path} lacks {' and '.join(missing)}: got {sorted(fields)}, {_EXPECTED}; {_AGAIN}")
    images, labels = fields["X"], fields["y"]
    if images.ndim != 4 or images.dtype != np.uint8 or labels.dtype.kind not in "iu":
        raise DataError(
            f"{path} holds other arrays: got X {images.shape} of {images.dtype} and y {labels.shape} of "
            f"{labels.dtype}, {_EXPECTED}; {_AGAIN}"
        )
    labels = labels.ravel().astype(np.int64)
    if np.any((labels < 1) | (labels > 10)):
        raise DataError(
            f"labels out of range in {path}: got {labels.min()} to {labels.max()}, expected 1 to 10 "
            f"(10 stands for digit 0); {_AGAIN}"
        )
    return Split(np.ascontiguousarray(images.transpose(3, 0, 1, 2)), labels % 10)


def _load(path: Path) -> dict[str, Any]:
    from scipy.io import loadmat

    try:
        fields = loadmat(path, variable_names=["X", "y"])
    # scipy's reader takes the header's word for it: on damaged files it fails in a dozen ways.
    except Exception as error:
        raise DataError(
            f"{path} is truncated or damaged: got {path.stat().st_size} bytes that do not read as a MATLAB "
            f"file ({error}), {_EXPECTED}; {_AGAIN}"
        ) from error
    return {key: value for key, value in fields.items() if isinstance(value, np.ndarray)}
