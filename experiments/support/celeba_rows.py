"""Which images of CelebA a binary task is fitted on and measured with: balanced, seeded, split 80/20."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from experiments.support.data.celeba import ATTRIBUTES, Faces, FaceSplit
from experiments.support.data.images import DataError

# Four fifths of a class are trained on, one fifth validates: fewer images of a class cannot be split.
TRAIN_PARTS, PARTS = 4, 5
MIN_PER_CLASS = PARTS
# Independent random streams of one seed and attribute.
_TRAIN, _TEST = range(2)


@dataclass(frozen=True)
class Part:
    """Rows of a split, in the order of the disk, and whether each image has the attribute."""

    split: FaceSplit
    rows: Int[np.ndarray, "n"]
    labels: Bool[np.ndarray, "n"]

    def one_hot(self) -> Float[np.ndarray, "n 2"]:
        """Returns targets in {0, 1}: without the attribute in column 0, with it in column 1, as published."""
        return (self.labels[:, None] == np.asarray([False, True])).astype(np.float64)


@dataclass(frozen=True)
class Parts:
    """The images of one binary task, as many with as without the attribute in each part."""

    train: Part
    validation: Part
    test: Part


def num_train_per_class(num_per_class: int) -> int:
    """Returns how many of the chosen images of a class are trained on."""
    return num_per_class * TRAIN_PARTS // PARTS


def choose(faces: Faces, attribute: str, *, num_per_class: int, seed: int) -> Parts:
    """Returns a seeded draw of up to num_per_class images of each class, from either split.

    Those of the training split are divided, class by class, into 80% for training and the rest for
    validation. Where the rarer class has fewer images, all of it and as many of the other are taken.

    Raises:
        DataError: If a class has fewer than 5 images in the training split, or none in the test split.
    """
    train = _balanced(faces.train, attribute, num_per_class, seed, _TRAIN, MIN_PER_CLASS)
    test = _balanced(faces.test, attribute, num_per_class, seed, _TEST, 1)
    cut = num_train_per_class(len(train[0]))
    return Parts(
        _part(faces.train, attribute, [rows[:cut] for rows in train]),
        _part(faces.train, attribute, [rows[cut:] for rows in train]),
        _part(faces.test, attribute, test),
    )


def _balanced(
    split: FaceSplit, attribute: str, limit: int, seed: int, stream: int, fewest: int
) -> list[Int[np.ndarray, "m"]]:
    """Returns rows without the attribute and as many with it, each in random order."""
    has = split.attributes[attribute]
    rng = np.random.default_rng([seed, ATTRIBUTES.index(attribute), stream])
    members = [rng.permutation(np.flatnonzero(has == value)) for value in (False, True)]
    without, with_it = (len(rows) for rows in members)
    if min(without, with_it) < fewest:
        name = ("training", "test")[stream]
        raise DataError(
            f"too few images for {attribute}: the {name} split has {with_it} with it and {without} without, "
            f"expected at least {fewest} of each; leave it out of --attributes, or give the whole dataset"
        )
    return [rows[: min(limit, without, with_it)] for rows in members]


def _part(split: FaceSplit, attribute: str, members: list[Int[np.ndarray, "m"]]) -> Part:
    rows = np.sort(np.concatenate(members))
    return Part(split, rows, split.attributes[attribute][rows])
