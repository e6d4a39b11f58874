"""Keeps decoded splits as npz files, so that a dataset is decoded once."""

import hashlib
import logging
import os
import zipfile
import zlib
from pathlib import Path

import numpy as np

from experiments.support.data.images import Split
from experiments.support.data.source import Source

ENVIRONMENT_VARIABLE = "DNC_JAX_CACHE"
# Part of every identity: to be raised when a reader changes what it returns.
_VERSION = 1
_ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
_logger = logging.getLogger(__name__)


def cache_folder(data_dir: Path | None) -> Path:
    """Returns where to keep files: DNC_JAX_CACHE, else inside a writable data_dir, else the user's cache."""
    if os.environ.get(ENVIRONMENT_VARIABLE):
        return Path(os.environ[ENVIRONMENT_VARIABLE])
    if data_dir is not None and os.access(data_dir, os.W_OK):
        return data_dir / "dnc_jax_cache"
    import pooch

    return Path(pooch.os_cache("dnc_jax"))


def read_through(name: str, source: Source, folder: Path) -> tuple[Split, Split]:
    """Returns the splits from the cache while it is valid, else from the source, and keeps them."""
    identity = f"{_VERSION}\n{name}\n{source.identity()}"
    paths = "\n".join(str(path.resolve()) for path in source.files)
    path = folder / f"{name}-{hashlib.sha256(paths.encode()).hexdigest()[:12]}.npz"
    kept = _read(path, identity)
    if kept is None:
        kept = source.read()
        _write(path, identity, kept)
    return kept


def _read(path: Path, identity: str) -> tuple[Split, Split] | None:
    if not path.exists():
        return None
    try:
        # Opened here: np.load leaves a file open that turns out to be no archive.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            if str(archive["identity"]) != identity:
                _logger.info("%s was made from other files; it is built again", path)
                return None
            train_images, train_labels, test_images, test_labels = (archive[key] for key in _ARRAYS)
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        _logger.warning("%s is not a whole cache file (%s); it is built again", path, error)
        return None
    return Split(train_images, train_labels), Split(test_images, test_labels)


def _write(path: Path, identity: str, splits: tuple[Split, Split]) -> None:
    train, test = splits
    arrays = dict(zip(_ARRAYS, (train.images, train.labels, test.images, test.labels), strict=True))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.part")
        try:
            with temporary.open("wb") as file:
                np.savez(file, identity=np.array(identity), **arrays)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        _logger.warning(
            "decoded images could not be kept in %s (%s); they are decoded again next time", path, error
        )
