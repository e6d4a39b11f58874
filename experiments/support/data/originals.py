"""Finds the original files of a dataset in a folder."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from experiments.support.data import cifar_binary, emnist, idx, svhn_mat
from experiments.support.data.cifar_binary import Layout
from experiments.support.data.images import DataError, Split
from experiments.support.data.source import Source

_IDX_STEMS = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
# MNIST and Fashion-MNIST have equal file names, shapes and label ranges: these tell them apart.
_FIRST_TEST_LABELS = {
    "mnist": (7, 2, 1, 0, 4, 1, 4, 9, 5, 9, 0, 6, 9, 0, 1, 5),
    "fashion_mnist": (9, 2, 1, 1, 6, 1, 4, 6, 5, 7, 4, 5, 7, 3, 4, 1),
}


def find_originals(name: str, folder: Path) -> Source | None:
    """Returns the original files of a dataset in a folder, None where there are none.

    Raises:
        DataError: Some of the files are there and others are missing.
    """
    return _FINDERS[name](folder)


def _find_idx(folder: Path, *, name: str) -> Source | None:
    files = present(folder, _IDX_STEMS)
    return Source(_words(files), files, partial(_read_idx, files, name)) if files else None


def _read_idx(files: tuple[Path, ...], name: str) -> tuple[Split, Split]:
    train_images, train_labels, test_images, test_labels = files
    train = Split(idx.read_images(train_images), idx.read_labels(train_labels))
    test = Split(idx.read_images(test_images), idx.read_labels(test_labels))
    for other, labels in _FIRST_TEST_LABELS.items():
        if other != name and np.array_equal(test.labels[: len(labels)], labels):
            raise DataError(
                f"{test_labels} belongs to another dataset: got the labels of {other}, expected those of "
                f"{name}; put the files of {name} into a folder named {name}"
            )
    return train, test


def _find_svhn(folder: Path) -> Source | None:
    files = present(folder, ("train_32x32.mat", "test_32x32.mat"))
    if not files:
        return None
    return Source(_words(files), files, partial(_read_svhn, *files))


def _read_svhn(train: Path, test: Path) -> tuple[Split, Split]:
    return svhn_mat.read_svhn(train), svhn_mat.read_svhn(test)


def _find_cifar(folder: Path, *, layout: Layout) -> Source | None:
    # The tarball first: its checksums show damage that a file cut between two images does not.
    tarball = folder / layout.tarball
    if tarball.is_file():
        return Source(_words((tarball,)), (tarball,), partial(cifar_binary.read_tarball, tarball, layout))
    for place in (folder / layout.folder, folder):
        if files := present(place, layout.files):
            return Source(_words(files), files, partial(cifar_binary.read_folder, place, layout))
    return None


def _find_emnist(folder: Path) -> Source | None:
    if files := present(folder, emnist.STEMS):
        return Source(_words(files), files, partial(emnist.read_files, files))
    archive = folder / emnist.ARCHIVE
    if archive.is_file():
        return Source(_words((archive,)), (archive,), partial(emnist.read_archive, archive))
    return None


_FINDERS: dict[str, Callable[[Path], Source | None]] = {
    "mnist": partial(_find_idx, name="mnist"),
    "fashion_mnist": partial(_find_idx, name="fashion_mnist"),
    "emnist": _find_emnist,
    "svhn": _find_svhn,
    "cifar10": partial(_find_cifar, layout=cifar_binary.CIFAR10),
    "cifar100": partial(_find_cifar, layout=cifar_binary.CIFAR100),
}


def present(folder: Path, names: tuple[str, ...]) -> tuple[Path, ...]:
    """Returns the named files, each as it is or with .gz added; an empty tuple where none is there.

    Raises:
        DataError: Some of the files are there and others are missing.
    """
    candidates = {name: (folder / name, folder / f"{name}.gz") for name in names}
    found = {name: next((p for p in paths if p.is_file()), None) for name, paths in candidates.items()}
    missing = [name for name, path in found.items() if path is None]
    if missing and len(missing) < len(names):
        raise DataError(
            f"original files in {folder} are incomplete: got {len(names) - len(missing)} of {len(names)}, "
            f"expected also {', '.join(missing)}; put the missing files beside the others"
        )
    return tuple(path for path in found.values() if path is not None)


def _words(files: tuple[Path, ...]) -> str:
    return f"original files {', '.join(path.name for path in files)} in {files[0].parent}"
