"""The images of one seed: training and validation points, both together for the refit, and test points."""

import dataclasses
import hashlib
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from experiments.support.data.images import DataError, Images, Split
from experiments.support.data.stratify import stratified_halves, stratified_subset
from experiments.support.preprocess import Prepared, prepare

# The random stream of the draw, beside those of `prepare`.
_DRAW = 3


class Trial(NamedTuple):
    """Two problems of one seed, each standardized by the statistics of the points that it fits.

    tuning fits the training points and predicts the validation points; final fits both together and predicts
    the test points.
    """

    seed: int
    tuning: Prepared
    final: Prepared

    @property
    def sha256(self) -> str:
        """The digest of all images and labels, as they were stored, in the order of both problems."""
        return hashlib.sha256(f"{self.tuning.sha256} {self.final.sha256}".encode()).hexdigest()


def draw(
    images: Images,
    *,
    num_train: int,
    num_validation: int,
    num_test: int | None,
    seed: int,
    dtype: DTypeLike = np.float64,
) -> Trial:
    """Returns training and validation points from the training split, test points from the test split.

    All three are stratified by class and drawn by the seed; num_test None takes up to 1000.

    Raises:
        DataError: If more images are asked for than there are, or too few, or they cannot be trained on.
    """
    check_counts(images.name, len(images.train.labels), images.num_classes, num_train, num_validation)
    rng = np.random.default_rng([seed, _DRAW])
    total, num_classes = num_train + num_validation, images.num_classes
    both = _taken(
        images.train, stratified_subset(images.train.labels, total, num_classes=num_classes, rng=rng)
    )
    halves = stratified_halves(both.labels, num_validation, num_classes=num_classes, rng=rng)
    fitted, validation = (_taken(both, rows) for rows in halves)
    tuned = dataclasses.replace(images, train=fitted, test=validation)
    whole = dataclasses.replace(images, train=both)
    return Trial(
        seed,
        prepare(tuned, num_train=None, num_test=num_validation, seed=seed, dtype=dtype),
        prepare(whole, num_train=None, num_test=num_test, seed=seed, dtype=dtype),
    )


def check_counts(name: str, available: int, num_classes: int, num_train: int, num_validation: int) -> None:
    """Raises DataError for counts of training and validation images that the training split cannot give."""
    for flag, wanted in (("num-train", num_train), ("num-validation", num_validation)):
        if wanted < num_classes:
            raise DataError(
                f"--{flag} is too small for {name} with its {num_classes} classes: got {wanted}, expected "
                f"at least {num_classes}; ask for more images"
            )
    if num_train + num_validation > available:
        raise DataError(
            f"--num-train and --num-validation are together larger than the training split of {name}: got "
            f"{num_train} + {num_validation}, expected at most {available}; ask for fewer images"
        )


def _taken(split: Split, rows: np.ndarray) -> Split:
    return Split(split.images[rows], split.labels[rows])
