"""Builds the embedded Fashion-MNIST subset: 500 training and 100 test images of each class.

    python -m experiments.support.data.build_fashion_mnist_mini --source=DIR

DIR holds the four idx files of Fashion-MNIST, as the Debian package dataset-fashion-mnist installs them.
The subset depends on nothing else, so the same files give the same bytes.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.support.data.images import DataError, Split
from experiments.support.data.originals import find_originals
from experiments.support.data.packaged import FASHION_MNIST_MINI
from experiments.support.data.stratify import stratified_subset

_SEED = 0


@dataclass(frozen=True)
class Config:
    """Where the subset is taken from and written to."""

    source: Path
    """folder of the four idx files of Fashion-MNIST"""
    output: Path = Path(__file__).parent / FASHION_MNIST_MINI
    """npz file to write"""
    num_train: int = 5000
    """training images, equally many of each class"""
    num_test: int = 1000
    """test images, equally many of each class"""


def main(config: Config) -> str:
    """Writes the subset and returns its sha256, to be entered in `packaged`."""
    found = find_originals("fashion_mnist", config.source)
    if found is None:
        raise DataError(
            f"source holds no Fashion-MNIST: got {config.source}, expected a folder with "
            "train-images-idx3-ubyte.gz and the other three idx files; correct the path"
        )
    train, test = found.read()
    rng = np.random.default_rng(_SEED)
    train = _subset(train, config.num_train, rng)
    test = _subset(test, config.num_test, rng)
    with config.output.open("wb") as file:
        np.savez_compressed(
            file,
            train_images=train.images[..., 0],
            train_labels=train.labels.astype(np.uint8),
            test_images=test.images[..., 0],
            test_labels=test.labels.astype(np.uint8),
        )
    return hashlib.sha256(config.output.read_bytes()).hexdigest()


def _subset(split: Split, size: int, rng: np.random.Generator) -> Split:
    chosen = stratified_subset(split.labels, size, num_classes=10, rng=rng)
    return Split(split.images[chosen], split.labels[chosen])


if __name__ == "__main__":
    import tyro
    from rich import print as show

    show("sha256", main(tyro.cli(Config)))
