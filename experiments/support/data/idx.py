"""Reads idx files, the format of MNIST and its relatives, raw or gzipped."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from experiments.support.data.images import DataError

_GZIP_MAGIC = b"\x1f\x8b"
_AGAIN = "get the file again"


def read_images(path: Path) -> UInt8[np.ndarray, "n h w 1"]:
    """Returns the images of an idx3 file."""
    return parse_images(path.read_bytes(), str(path))


def read_labels(path: Path) -> Int[np.ndarray, "n"]:
    """Returns the labels of an idx1 file."""
    return parse_labels(path.read_bytes(), str(path))


def parse_images(raw: bytes, where: str) -> UInt8[np.ndarray, "n h w 1"]:
    """Returns the images in the bytes of an idx3 file; `where` names them in errors."""
    return _parse(raw, num_dims=3, where=where)[..., None]


def parse_labels(raw: bytes, where: str) -> Int[np.ndarray, "n"]:
    """Returns the labels in the bytes of an idx1 file; `where` names them in errors."""
    return _parse(raw, num_dims=1, where=where).astype(np.int64)


def _parse(raw: bytes, *, num_dims: int, where: str) -> UInt8[np.ndarray, "..."]:
    data = _decompress(raw, where)
    # Two zero bytes, the code of unsigned bytes, the number of dimensions.
    expected = bytes([0, 0, 8, num_dims])
    if data[:4] != expected:
        raise DataError(
            f"wrong magic number in {where}: got 0x{data[:4].hex()}, expected 0x{expected.hex()} "
            f"(unsigned bytes, {num_dims} dimensions); this is another kind of file: {_AGAIN}"
        )
    start = 4 + 4 * num_dims
    if len(data) < start:
        raise DataError(f"{where} is truncated: got {len(data)} bytes, expected at least {start}; {_AGAIN}")
    shape = np.frombuffer(data, ">u4", count=num_dims, offset=4).tolist()
    if len(data) - start != math.prod(shape):
        fault = "is truncated" if len(data) - start < math.prod(shape) else "has bytes left over"
        raise DataError(
            f"{where} {fault}: got {len(data) - start} bytes of data, expected {math.prod(shape)} "
            f"for shape {tuple(shape)}; {_AGAIN}"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _decompress(raw: bytes, where: str) -> bytes:
    # By content, not by name: browsers and archivers unpack .gz files without renaming them.
    if not raw.startswith(_GZIP_MAGIC):
        return raw
    try:
        return gzip.decompress(raw)
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(
            f"{where} is truncated or damaged: got {len(raw)} bytes that do not unpack ({error}), "
            f"expected a whole gzip file; {_AGAIN}"
        ) from error
