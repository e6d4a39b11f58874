"""Reads EMNIST's balanced split from its idx files or from the published archive of all splits."""

import zipfile
import zlib
from pathlib import Path

from experiments.support.data import idx
from experiments.support.data.images import DataError, Split

ARCHIVE = "gzip.zip"
STEMS = (
    "emnist-balanced-train-images-idx3-ubyte",
    "emnist-balanced-train-labels-idx1-ubyte",
    "emnist-balanced-test-images-idx3-ubyte",
    "emnist-balanced-test-labels-idx1-ubyte",
)


def upright(split: Split) -> Split:
    """Returns the split with rows and columns of each image exchanged: EMNIST stores them transposed."""
    return Split(split.images.transpose(0, 2, 1, 3), split.labels)


def read_files(files: tuple[Path, ...]) -> tuple[Split, Split]:
    """Returns upright training and test splits from the four idx files, in the order of `STEMS`."""
    return _splits([path.read_bytes() for path in files], [str(path) for path in files])


def read_archive(path: Path) -> tuple[Split, Split]:
    """Returns upright training and test splits from the archive; only the balanced members are read."""
    members = [f"gzip/{stem}.gz" for stem in STEMS]
    try:
        with zipfile.ZipFile(path) as archive:
            contents = [archive.read(member) for member in members]
    except KeyError as error:
        raise DataError(
            f"{path} lacks a member: got {error.args[0]}, expected {', '.join(members)}; get the file again"
        ) from error
    except (zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError) as error:
        raise DataError(
            f"{path} is truncated or damaged: got {path.stat().st_size} bytes that do not unpack ({error}), "
            "expected a whole zip file; get the file again"
        ) from error
    return _splits(contents, [f"{path}/{member}" for member in members])


def _splits(contents: list[bytes], names: list[str]) -> tuple[Split, Split]:
    images = [idx.parse_images(contents[i], names[i]) for i in (0, 2)]
    labels = [idx.parse_labels(contents[i], names[i]) for i in (1, 3)]
    return upright(Split(images[0], labels[0])), upright(Split(images[1], labels[1]))
