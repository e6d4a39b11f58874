"""Files that are whole or absent: written under a temporary name, flushed to the disk, then renamed."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


class WriteError(OSError):
    """A file could not be written; nothing was left half done."""


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Lets write fill a temporary file beside path, flushes it to the disk and renames it to path.

    Raises:
        WriteError: If the disk is full or the folder cannot be written; path is then as it was before.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _flush_folder(path.parent)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def append_durably(path: Path, text: str) -> None:
    """Appends text to path and flushes it to the disk.

    Raises:
        WriteError: If the disk is full or path cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise write_error(path, error) from error


def make_folder(path: Path) -> None:
    """Creates a folder and its parents, or raises WriteError saying why it cannot."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(path, error) from error


def write_error(path: Path, error: OSError) -> WriteError:
    """Returns the error that tells a user why path was not written and what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = "free some space and run the same command again: finished layers are kept"
    else:
        remedy = "choose a folder that can be written with --workdir"
    return WriteError(f"could not write {path}: {error.strerror or error}; {remedy}")


def _flush_folder(folder: Path) -> None:
    # A rename is on the disk only when its folder is.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
