"""Loads a dataset by name, trying one way of getting it after the other and never another dataset."""

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from experiments.support.data import download, prepared
from experiments.support.data.cache import cache_folder, read_through
from experiments.support.data.catalog import Description, Name, describe, title_with_sizes
from experiments.support.data.images import DataError, Images, Split, Unavailable, check_split
from experiments.support.data.originals import find_originals
from experiments.support.data.packaged import PACKAGED, load_packaged
from experiments.support.data.pickles import refuse_pickles
from experiments.support.data.source import Source

_logger = logging.getLogger(__name__)


def load(name: Name | str, *, data_dir: Path | None = None) -> Images:
    """Returns a dataset as it was stored, neither scaled nor shuffled.

    `fashion_mnist_mini`, `digits` and `mnist_5k` come with the repository or with a package, whatever
    `data_dir` is, as long as it exists. The others are looked for in this order: original files in `data_dir`
    or `data_dir/<name>`; a dataset prepared by TensorFlow Datasets; a download of the original files; a
    preparation by TensorFlow Datasets, where TensorFlow is installed. Decoded images are cached (see
    `cache`). `gtsrb` is read as TensorFlow Datasets prepares it, and in no other way.

    Raises:
        DataError: The name is unknown, a file is damaged, or every way of getting the data is closed.
    """
    description, folder = describe(name), _existing(data_dir)
    if name in PACKAGED:
        train, test, words = load_packaged(name)
        _check(description, words, (train, test))
    else:
        source = _find(description, folder)
        words = source.words
        checked = replace(source, read=partial(_read_checked, description, source))
        train, test = read_through(name, checked, cache_folder(folder))
    title = title_with_sizes(description, len(train.labels), len(test.labels))
    return Images(name, title, description.class_names, train, test, words, description.max_value)


def _read_checked(description: Description, source: Source) -> tuple[Split, Split]:
    splits = source.read()
    _check(description, source.words, splits)
    return splits


def _check(description: Description, words: str, splits: tuple[Split, Split]) -> None:
    for part, split in zip(("training", "test"), splits, strict=True):
        check_split(
            split,
            image_shape=description.image_shape,
            num_classes=len(description.class_names),
            max_value=description.max_value,
            where=f"the {part} split of {description.name} ({words})",
        )


def _existing(data_dir: Path | None) -> Path | None:
    if data_dir is None:
        return None
    folder = Path(data_dir).expanduser()
    if not folder.is_dir():
        raise DataError(
            f"data_dir is no folder: got {folder}, expected a folder with data, or an empty one to download "
            "into; create it or correct the path"
        )
    return folder


def _find(description: Description, data_dir: Path | None) -> Source:
    closed = []
    for way, find in _ways(description).items():
        try:
            return find(description, data_dir)
        except Unavailable as reason:
            _logger.info("%s: %s: %s", description.name, way, reason)
            closed.append(f"{way}: {reason}")
    raise DataError(_every_way_out(description, closed))


def _ways(description: Description) -> dict[str, Callable[[Description, Path | None], Source]]:
    if not description.originals:
        return {"prepared dataset": prepared.find_prepared, "preparation": prepared.prepare}
    return {
        "original files": _original,
        "prepared dataset": prepared.find_prepared,
        "download": _downloaded,
        "preparation": prepared.prepare,
    }


def _folders(description: Description, data_dir: Path | None) -> tuple[Path, ...]:
    return (data_dir / description.name, data_dir) if data_dir else ()


def _original(description: Description, data_dir: Path | None) -> Source:
    for folder in _folders(description, data_dir):
        if source := find_originals(description.name, folder):
            return source
    raise Unavailable(
        f"none in {data_dir} or its folder {description.name}" if data_dir else "no data_dir given"
    )


def _downloaded(description: Description, data_dir: Path | None) -> Source:
    refuse_pickles(description, _folders(description, data_dir))
    folder = cache_folder(data_dir) / "downloads" / description.name
    remotes = download.remotes(description)
    download.fetch(remotes, folder)
    source = find_originals(description.name, folder)
    if source is None:
        raise Unavailable(f"what was downloaded into {folder} is not what is read")
    addresses = ", ".join(remote.url for remote in remotes)
    return replace(source, words=f"{source.words}, downloaded from {addresses}")


def _every_way_out(description: Description, closed: list[str]) -> str:
    command = prepared.preparing_command(description.tfds_name)
    by_tfds = (
        f"where TensorFlow and a network are at hand, run {command} and name its folder "
        "(by default ~/tensorflow_datasets) as data_dir"
    )
    todo = [by_tfds, "choose a dataset that needs no files: fashion_mnist_mini or digits"]
    if description.originals:
        files = " and ".join(description.originals)
        todo.insert(0, f"put {files} into a folder and name it as data_dir")
        todo.insert(2, "run again with a network: the original files are then downloaded")
    return "\n  ".join(
        [
            f"no data for dataset {description.name!r}: got nothing from any of",
            *(f"- {reason}" for reason in closed),
            "expected one of these to work; what to do, any one of",
            *(f"- {step}" for step in todo),
        ]
    )
