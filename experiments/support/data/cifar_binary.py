"""Reads the binary layout of CIFAR-10 and CIFAR-100, from the tarball or from its extracted folder."""

import gzip
import io
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.support.data.images import DataError, Split

_IMAGE_BYTES = 3 * 32 * 32
_AGAIN = "get the file again"


@dataclass(frozen=True)
class Layout:
    """Names of the binary files and the number of label bytes before each image; the last one counts."""

    folder: str
    tarball: str
    train_files: tuple[str, ...]
    test_file: str
    num_label_bytes: int

    @property
    def files(self) -> tuple[str, ...]:
        """All binary files."""
        return (*self.train_files, self.test_file)


CIFAR10 = Layout(
    "cifar-10-batches-bin",
    "cifar-10-binary.tar.gz",
    tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
    "test_batch.bin",
    num_label_bytes=1,
)
# A coarse label comes first, then the fine one.
CIFAR100 = Layout(
    "cifar-100-binary", "cifar-100-binary.tar.gz", ("train.bin",), "test.bin", num_label_bytes=2
)


def read_folder(folder: Path, layout: Layout) -> tuple[Split, Split]:
    """Returns the training and test splits of an extracted folder."""
    return _splits(lambda name: (folder / name).read_bytes(), layout, where=str(folder))


def read_tarball(path: Path, layout: Layout) -> tuple[Split, Split]:
    """Returns the training and test splits straight from the tarball; nothing is extracted to disk."""
    with _opened(path) as tar:

        def read(name: str) -> bytes:
            member = tar.extractfile(f"{layout.folder}/{name}")
            return member.read() if member else b""

        return _splits(read, layout, where=str(path))


@contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    try:
        # Unpacked as a whole: tarfile alone would not check the sum at the end.
        unpacked = io.BytesIO(gzip.decompress(path.read_bytes()))
        with tarfile.open(fileobj=unpacked) as tar:
            yield tar
    except KeyError as error:
        raise DataError(
            f"{path} lacks a file: got {error.args[0]}, expected the binary version's layout; {_AGAIN}"
        ) from error
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{path} is truncated or damaged: got {path.stat().st_size} bytes that do not unpack ({error}), "
            f"expected a whole tar.gz file; {_AGAIN}"
        ) from error


def _splits(read: Callable[[str], bytes], layout: Layout, *, where: str) -> tuple[Split, Split]:
    parts = [_parse(read(name), layout, f"{where}/{name}") for name in layout.files]
    train = Split(
        np.concatenate([part.images for part in parts[:-1]]),
        np.concatenate([part.labels for part in parts[:-1]]),
    )
    return train, parts[-1]


def _parse(raw: bytes, layout: Layout, where: str) -> Split:
    record = layout.num_label_bytes + _IMAGE_BYTES
    if not raw or len(raw) % record:
        raise DataError(
            f"{where} is truncated: got {len(raw)} bytes, expected a multiple of {record} "
            f"({layout.num_label_bytes} of labels and {_IMAGE_BYTES} of pixels an image); {_AGAIN}"
        )
    rows = np.frombuffer(raw, np.uint8).reshape(-1, record)
    images = rows[:, layout.num_label_bytes :].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return Split(images, rows[:, layout.num_label_bytes - 1].astype(np.int64))
