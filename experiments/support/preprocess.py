"""From stored images to training data: seeded subsets, standardized pixels, targets in {-1, +1}."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Num
from numpy.typing import DTypeLike

from experiments.support.data.images import DataError, Images, Split, check_labels, sha256_of
from experiments.support.data.stratify import stratified_subset

_DEFAULT_NUM_TEST = 1000
# Independent random streams of one seed.
_TRAIN, _TEST, _NOISE = range(3)


@dataclass(frozen=True)
class Dataset:
    """Rows of standardized pixels, their class numbers, and targets: +1 at the class, -1 elsewhere."""

    inputs: Float[np.ndarray, "n d"]
    labels: Int[np.ndarray, "n"]
    targets: Float[np.ndarray, "n k"]


@dataclass(frozen=True)
class Statistics:
    """Mean and deviation of every pixel of the training images, and which pixels are constant there."""

    mean: Float[np.ndarray, "d"]
    deviation: Float[np.ndarray, "d"]
    constant: Bool[np.ndarray, "d"]

    def standardize(self, rows: Float[np.ndarray, "n d"]) -> None:
        """Standardizes rows in place: those of a full run take a gigabyte."""
        rows -= self.mean.astype(rows.dtype)
        rows /= self.deviation.astype(rows.dtype)
        rows[:, self.constant] = 0


@dataclass(frozen=True)
class Prepared:
    """Training and test data of one run."""

    train: Dataset
    test: Dataset
    num_classes: int
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    source: str
    """where the images came from, in words"""
    sha256: str
    """of the chosen images and labels as they were stored"""
    statistics: Statistics
    """of the training images"""

    def standardized(self, images: Images, size: int) -> Float[np.ndarray, "n d"]:
        """Returns images of another dataset as rows, standardized like the training images.

        The first size of its training split; raises DataError if it has fewer, or none of this shape.
        """
        split = images.train
        if split.images.shape[1:] != self.image_shape or len(split.images) < size:
            raise DataError(
                f"{images.name} must have at least {size} images of shape {self.image_shape}: got "
                f"{len(split.images)} of shape {split.images.shape[1:]}; choose another dataset"
            )
        _check_finite(split.images, f"the training split of {images.name}")
        rows = _scaled(
            Split(split.images[:size], split.labels[:size]), images.max_value, self.train.inputs.dtype
        )
        self.statistics.standardize(rows)
        return rows


def prepare(
    images: Images,
    *,
    num_train: int | None,
    num_test: int | None,
    seed: int,
    label_noise: float = 0.0,
    own_statistics: bool = False,
    dtype: DTypeLike = np.float64,
) -> Prepared:
    """Returns seeded stratified subsets with standardized pixels, in a seeded random order.

    Pixels are scaled to [0, 1], then each is standardized by its mean and standard deviation over the
    training subset; a pixel that is constant there becomes 0, in the test subset too.

    Args:
        num_train: None takes the whole training split.
        num_test: None takes up to 1000 points of the test split.
        label_noise: fraction of the training labels that are permuted among themselves; inputs stay.
        own_statistics: standardize the test subset by its own mean and standard deviation, as the code
            released with Beaglehole et al. (2024) does.

    Raises:
        DataError: A size, the seed or the noise is out of range, or the data cannot be trained on.
    """
    check_trainable(images)
    available = len(images.train.labels), len(images.test.labels)
    sizes = subset_sizes(images.name, available, images.num_classes, num_train, num_test)
    if seed < 0:
        raise DataError(f"seed is negative: got {seed}, expected at least 0; choose another seed")
    train = _subset(images.train, sizes[0], images.num_classes, np.random.default_rng([seed, _TRAIN]))
    test = _subset(images.test, sizes[1], images.num_classes, np.random.default_rng([seed, _TEST]))
    _check_measurable(train, test, images)
    sha256 = sha256_of(train, test)
    x, z = _scaled(train, images.max_value, dtype), _scaled(test, images.max_value, dtype)
    statistics = _statistics(x)
    if statistics.constant.all():
        raise DataError(
            f"all pixels are constant in the training subset of {images.name}: got {x.shape[1]} constant "
            "pixels, expected some that vary; check the images or take more of them"
        )
    (_statistics(z) if own_statistics else statistics).standardize(z)
    statistics.standardize(x)
    labels = _permuted(train.labels, label_noise, np.random.default_rng([seed, _NOISE]))
    return Prepared(
        _dataset(x, labels, images.num_classes),
        _dataset(z, test.labels, images.num_classes),
        images.num_classes,
        images.train.images.shape[1:],
        images.class_names,
        images.source,
        sha256,
        statistics,
    )


def contradicting_duplicates(
    inputs: Num[np.ndarray, "n d"], labels: Int[np.ndarray, "n"]
) -> list[tuple[int, int]]:
    """Returns pairs of equal rows with different labels, each row against the first that equals it.

    No function can take both labels there, so a fit without ridge has no solution. One pass over the rows.
    """
    first: dict[bytes, int] = {}
    pairs = []
    # Adding 0 turns -0.0 into 0.0: equal numbers must have equal bytes.
    for index, row in enumerate(inputs + 0.0):
        earliest = first.setdefault(row.tobytes(), index)
        if labels[earliest] != labels[index]:
            pairs.append((earliest, index))
    return pairs


def check_solvable(train: Dataset, ridge: float) -> None:
    """Raises DataError where a fit without ridge would have to give one image two labels."""
    pairs = contradicting_duplicates(train.inputs, train.labels) if ridge == 0 else []
    if pairs:
        first, second = pairs[0]
        raise DataError(
            f"{len(pairs)} training images repeat another one with a different label, the first pair in rows "
            f"{first} and {second}: without a ridge no predictor fits both; use --ridge=1e-3 or remove them"
        )


def check_trainable(images: Images) -> None:
    """Raises DataError unless pixels are finite, and two classes or more have a training image each."""
    for part, split in (("training", images.train), ("test", images.test)):
        where = f"the {part} split of {images.name}"
        _check_finite(split.images, where)
        check_labels(split.labels, num_classes=images.num_classes, where=where)
    counts = np.bincount(images.train.labels, minlength=images.num_classes)
    if np.count_nonzero(counts) < 2:
        raise DataError(
            f"training data of {images.name} has only one class: got {np.count_nonzero(counts)} class with "
            f"points, expected at least 2; check the labels ({images.source})"
        )
    if not counts.all():
        empty = [images.class_names[k] for k in np.flatnonzero(counts == 0)]
        raise DataError(
            f"classes of {images.name} have no training point: got none of {', '.join(empty)}, expected at "
            f"least 1 of each of the {images.num_classes} classes; check the labels ({images.source})"
        )


def _check_finite(pixels: Num[np.ndarray, "n h w c"], where: str) -> None:
    if pixels.dtype.kind != "f":
        return
    broken = np.argwhere(~np.isfinite(pixels))
    if len(broken):
        raise DataError(
            f"pixels are NaN or infinite in {where}: got {len(broken)}, the first at index "
            f"{tuple(broken[0].tolist())}, expected finite numbers; repair or drop these images"
        )


def subset_sizes(
    name: str, available: tuple[int, int], num_classes: int, num_train: int | None, num_test: int | None
) -> tuple[int, int]:
    """Returns how many training and test images to take of the available ones.

    Raises:
        DataError: If more are asked for than there are, or too few.
    """
    wanted_train = available[0] if num_train is None else num_train
    wanted_test = min(_DEFAULT_NUM_TEST, available[1]) if num_test is None else num_test
    for argument, wanted, lowest, present in (
        ("num_train", wanted_train, num_classes, available[0]),
        ("num_test", wanted_test, 1, available[1]),
    ):
        if wanted > present:
            raise DataError(
                f"{argument} is larger than the split of {name}: got {wanted}, expected at most {present}; "
                "ask for fewer points"
            )
        if wanted < lowest:
            raise DataError(
                f"{argument} is too small for {name} with its {num_classes} classes: got {wanted}, expected "
                f"at least {lowest}; ask for more points"
            )
    return wanted_train, wanted_test


def _subset(split: Split, size: int, num_classes: int, rng: np.random.Generator) -> Split:
    chosen = stratified_subset(split.labels, size, num_classes=num_classes, rng=rng)
    return Split(split.images[chosen], split.labels[chosen])


def _check_measurable(train: Split, test: Split, images: Images) -> None:
    if np.bincount(train.labels).max() < 2:
        raise DataError(
            f"num_train is too small for {images.name}: {len(train.labels)} training points are one of each "
            "class, expected a class with at least 2, whose spread can be measured; ask for more points"
        )
    num_classes = len(np.unique(test.labels))
    if num_classes < 2:
        raise DataError(
            f"num_test is too small for {images.name}: got points of {num_classes} class in "
            f"{len(test.labels)}, expected at least 2 classes, whose distance is measured; ask for more"
        )


def _scaled(split: Split, max_value: float, dtype: DTypeLike) -> Float[np.ndarray, "n d"]:
    rows = split.images.reshape(len(split.images), -1).astype(dtype)
    rows /= max_value
    return rows


def _statistics(rows: Float[np.ndarray, "n d"]) -> Statistics:
    # Not by the standard deviation: rounding of the mean leaves it above 0.
    constant = rows.min(axis=0) == rows.max(axis=0)
    deviation = np.where(constant, 1.0, rows.std(axis=0, dtype=np.float64))
    return Statistics(rows.mean(axis=0, dtype=np.float64), deviation, constant)


def _permuted(
    labels: Int[np.ndarray, "n"], fraction: float, rng: np.random.Generator
) -> Int[np.ndarray, "n"]:
    if not 0 <= fraction <= 1:
        raise DataError(f"label_noise is out of range: got {fraction}, expected 0 to 1; it is a fraction")
    num_permuted = round(fraction * len(labels))
    if fraction > 0 and num_permuted < 2:
        raise DataError(
            f"label_noise is too small: got {fraction} of {len(labels)} labels, expected at least 2 labels "
            "to permute; ask for more noise or for 0"
        )
    chosen = rng.permutation(len(labels))[:num_permuted]
    noisy = labels.copy()
    noisy[chosen] = labels[rng.permutation(chosen)]
    return noisy


def _dataset(inputs: Float[np.ndarray, "n d"], labels: Int[np.ndarray, "n"], num_classes: int) -> Dataset:
    targets = np.where(labels[:, None] == np.arange(num_classes), 1, -1).astype(inputs.dtype)
    return Dataset(inputs, labels, targets)
