"""One npz per finished layer, with its owner and a checksum inside: whole and right, or refitted."""

import hashlib
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from experiments.support.atomic import make_folder, write_atomically

CHECKSUM = "sha256"
OWNER = "owner"
# What numpy and zipfile raise for bytes that are not the archive they were.
DAMAGED = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    AttributeError,
    NotImplementedError,
    RuntimeError,
    OverflowError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


class CheckpointError(ValueError):
    """A checkpoint is truncated, altered, of another run or layer, or not a checkpoint at all."""


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray], owner: str = "") -> None:
    """Writes named arrays, whose they are, and the checksum of it all as one npz, atomically."""
    make_folder(path.parent)
    owned = dict(arrays) | {OWNER: np.asarray(owner)}
    stored = owned | {CHECKSUM: np.asarray(digest(owned))}
    write_atomically(path, lambda file: np.savez(file, allow_pickle=False, **stored))


def load_arrays(path: Path, owner: str | None = None) -> dict[str, np.ndarray]:
    """Returns the arrays that `save_arrays` wrote; None takes those of any owner.

    Raises:
        CheckpointError: If the file cannot be read, its contents do not match their checksum, or they are
            not the owner's.
    """
    try:
        # Opened here: np.load leaves a file open that turns out to be no archive.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except DAMAGED as error:
        raise CheckpointError(f"{path} is damaged: {reason_of(error)}") from error
    expected = str(arrays.pop(CHECKSUM, "none"))
    if expected != digest(arrays):
        raise CheckpointError(
            f"{path} is damaged: its checksum is {digest(arrays)[:12]}, expected {expected[:12]}"
        )
    stored_owner = str(arrays.pop(OWNER, ""))
    if owner not in (None, stored_owner):
        raise CheckpointError(f"{path} is of {stored_owner or 'no run'}, expected {owner}")
    return arrays


def reason_of(error: Exception) -> str:
    """Returns why an archive cannot be read; numpy's own advice, to load it unsafely, is none."""
    return "it is no npz archive of numbers" if "pickle" in str(error) else str(error)


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """Returns the sha256 of the names, dtypes, shapes and bytes of named arrays, in order of name."""
    state = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        state.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        state.update(array.tobytes())
    return state.hexdigest()


def is_whole(path: Path, owner: str) -> bool:
    """Returns whether a file exists and holds what was written for its owner."""
    try:
        load_arrays(path, owner)
    except CheckpointError:
        return False
    return True
