"""Reads datasets prepared by TensorFlow Datasets in the array_record format, without TensorFlow."""

import contextlib
import importlib.util
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.support.data.catalog import Description
from experiments.support.data.decoding import decoded, squeezed
from experiments.support.data.emnist import upright
from experiments.support.data.images import DataError, Split, Unavailable
from experiments.support.data.source import Source

_FORMAT = "array_record"
_BATCH_SIZE = 4096
# TFDS waits ever longer between its ten tries, minutes in all.
_MAX_RETRIES = 1


class Opened(NamedTuple):
    """The splits of a prepared dataset, not yet read, with its files and where they are."""

    parts: Sequence[Any]
    files: tuple[Path, ...]
    folder: Path
    words: str


def find_prepared(description: Description, data_dir: Path | None) -> Source:
    """Returns the prepared dataset under `data_dir`, or under TFDS's own folder where that is None.

    Raises:
        Unavailable: There is none, or it is stored in a format without random access.
        DataError: It is there and cannot be opened.
    """
    splits = ("train", description.held_out)
    opened = open_prepared(description.tfds_name, splits, data_dir, raw=description.varies)
    read = partial(_read_splits, opened.parts, description, opened.folder)
    words = f"{opened.words}, {description.note}" if description.note else opened.words
    return Source(words, opened.files, read)


def open_prepared(
    tfds_name: str, splits: Sequence[str], data_dir: Path | None, *, raw: bool = False
) -> Opened:
    """Returns the named splits of a prepared dataset, as `find_prepared` finds it.

    Args:
        raw: Give examples as the bytes that are stored, for readers that need only a part of each.

    Raises:
        Unavailable: There is none, or it is stored in a format without random access.
        DataError: It is there and cannot be opened.
    """
    tfds = _import_tfds()
    root = Path(data_dir or tfds.core.constants.DATA_DIR)
    folder = root / tfds_name
    files = _finished_files(folder)
    if not files:
        raise Unavailable(f"no prepared dataset in {folder}")
    if not any(f".{_FORMAT}" in path.name for path in files):
        raise Unavailable(f"the dataset in {folder} is not in the {_FORMAT} format")
    method = tfds.decode.DeserializeMethod
    try:
        parts = tfds.data_source(
            tfds_name,
            split=list(splits),
            data_dir=root,
            download=False,
            builder_kwargs={"file_format": _FORMAT},
            deserialize_method=method.RAW_BYTES if raw else method.DESERIALIZE_AND_DECODE,
        )
    except Exception as error:
        raise unreadable(folder, error) from error
    return Opened(parts, files, folder, f"TensorFlow Datasets {tfds_name} ({_FORMAT}) in {root}")


def preparing_command(tfds_name: str) -> str:
    """Returns the command that prepares a dataset for `find_prepared`, with TensorFlow and a network."""
    code = f"tfds.builder('{tfds_name}', file_format='{_FORMAT}').download_and_prepare()"
    return f'python -c "import tensorflow_datasets as tfds; {code}"'


def prepare(description: Description, data_dir: Path | None) -> Source:
    """Returns the dataset after TFDS has downloaded and prepared it, which takes TensorFlow.

    Raises:
        Unavailable: TensorFlow is not installed, or the preparation failed.
    """
    tfds = _import_tfds()
    if importlib.util.find_spec("tensorflow") is None:
        raise Unavailable("TensorFlow is not installed")
    root = Path(data_dir or tfds.core.constants.DATA_DIR)
    try:
        with _few_retries():
            tfds.builder(description.tfds_name, data_dir=root, file_format=_FORMAT).download_and_prepare()
    except Exception as error:
        raise Unavailable(f"preparation failed: {one_line(error)}") from error
    return find_prepared(description, root)


def one_line(error: BaseException) -> str:
    """Returns the kind and the first line of an error's text."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def unreadable(folder: Path, error: BaseException) -> DataError:
    """Returns the error for a prepared dataset that is there and cannot be read."""
    return DataError(
        f"the prepared dataset in {folder} cannot be read: got {one_line(error)}, expected a whole one of "
        "the installed version; prepare it again or move the folder elsewhere"
    )


def _import_tfds() -> Any:  # noqa: ANN401 (a module without type information)
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise Unavailable(f"tensorflow-datasets is not usable ({one_line(error)})") from error
    return tensorflow_datasets


@contextlib.contextmanager
def _few_retries() -> Iterator[None]:
    from tensorflow_datasets.core.download import downloader

    usual = downloader.MAX_RETRIES
    downloader.MAX_RETRIES = _MAX_RETRIES
    try:
        yield
    finally:
        downloader.MAX_RETRIES = usual


def _finished_files(folder: Path) -> tuple[Path, ...]:
    files = (path for path in folder.glob("*/*") if not path.parent.name.startswith("incomplete."))
    return tuple(sorted(files))


def _read_splits(parts: Sequence[Any], description: Description, folder: Path) -> tuple[Split, Split]:
    try:
        train, test = (_read_split(part, description) for part in parts)
    except Exception as error:
        raise unreadable(folder, error) from error
    return (upright(train), upright(test)) if description.name == "emnist" else (train, test)


def _read_split(part: Any, description: Description) -> Split:  # noqa: ANN401
    images = np.empty((len(part), *description.image_shape), np.uint8)
    labels = np.empty(len(part), np.int64)
    for start in range(0, len(part), _BATCH_SIZE):
        rows = range(start, min(start + _BATCH_SIZE, len(part)))
        examples = part.__getitems__(list(rows))
        if description.varies:
            examples = [_squeezed(part, record, description.image_shape) for record in examples]
        images[rows.start : rows.stop] = [example["image"] for example in examples]
        labels[rows.start : rows.stop] = [example["label"] for example in examples]
    return Split(images, labels)


def _squeezed(part: Any, record: bytes, image_shape: tuple[int, int, int]) -> dict[str, Any]:  # noqa: ANN401
    from tensorflow_datasets.core.decode import SkipDecoding

    stored = part.dataset_info.features
    example = stored.deserialize_example_np(record, decoders={"image": SkipDecoding()})
    return example | {"image": squeezed(decoded(example["image"]), image_shape[0])}
