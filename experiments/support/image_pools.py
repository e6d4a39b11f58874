"""Chooses training, validation and test images of one seed from stored images or from a user's folder."""

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Int, Num

from experiments.support.data.folder import ImageFolder, Listing
from experiments.support.data.images import DataError, Images, Split
from experiments.support.data.stratify import stratified_halves, stratified_subset
from experiments.support.lazy_data import check_counts
from experiments.support.preprocess import check_trainable, subset_sizes

PARTS = ("train", "validation", "test")
Purpose = Literal["choice", "drawing", "division"]
_MAX_NUM_TEST = 1000
_FOLDER_PARTS = 5


class Counts(NamedTuple):
    """How many images are wanted of each part; None leaves the number to the dataset."""

    train: int | None
    validation: int
    test: int | None


class Pool(NamedTuple):
    """Images to choose from, by their rows in the training or the test split, with pixels up to max_value."""

    name: str
    title: str
    class_names: tuple[str, ...]
    source: str
    max_value: float
    train_labels: Int[np.ndarray, "n"]
    test_labels: Int[np.ndarray, "m"]
    read: Callable[[str, Int[np.ndarray, "l"]], Split]
    """returns the images of some rows of the split train or test"""


def random_stream(seed: int, part: str, purpose: Purpose) -> np.random.Generator:
    """Returns the random numbers of one seed, part and purpose, independent of those of any other."""
    return np.random.default_rng([seed, PARTS.index(part), get_args(Purpose).index(purpose)])


def pool_of_images(images: Images) -> Pool:
    """Returns the images of a stored dataset; raises DataError where they cannot be trained on."""
    check_trainable(images)
    splits = {"train": images.train, "test": images.test}
    return Pool(
        images.name,
        images.title,
        images.class_names,
        images.source,
        images.max_value,
        images.train.labels,
        images.test.labels,
        lambda name, rows: Split(splits[name].images[rows], splits[name].labels[rows]),
    )


def pool_of_folder(folder: ImageFolder, counts: Counts, seed: int) -> Pool:
    """Returns the images of a user's folder, divided by the seed where it has no splits of its own.

    Raises:
        DataError: If it has to be divided and has too few images.
    """
    source, title = folder.words, folder.path.resolve().name
    train, test = folder.train, folder.test
    if test is None:
        source += ", divided by the seed into training and test images"
        train, test = _divided(folder, counts, seed)
    listings = {"train": train, "test": test}
    return Pool(
        title,
        title,
        folder.class_names,
        source,
        255.0,
        train.labels,
        test.labels,
        lambda name, rows: folder.read(listings[name].taken(rows)),
    )


def _divided(folder: ImageFolder, counts: Counts, seed: int) -> tuple[Listing, Listing]:
    everything, num_classes = folder.train, len(folder.class_names)
    available = len(everything.files)
    num_test = max(1, min(_MAX_NUM_TEST, available // _FOLDER_PARTS)) if counts.test is None else counts.test
    num_train = num_classes if counts.train is None else counts.train
    subset_sizes(str(folder.path), (available, available), num_classes, num_train, num_test)
    if num_train + counts.validation + num_test > available:
        raise DataError(
            f"--num-train, --num-validation and --num-test are together more than {folder.path} holds: got "
            f"{num_train} + {counts.validation} + {num_test}, expected at most {available}; ask for fewer"
        )
    rng = random_stream(seed, "test", "division")
    parts = stratified_halves(everything.labels, num_test, num_classes=num_classes, rng=rng)
    train, test = (everything.taken(rows) for rows in parts)
    missing = np.flatnonzero(np.bincount(train.labels, minlength=num_classes) == 0)
    if missing.size:
        name, size = folder.class_names[missing[0]], np.count_nonzero(everything.labels == missing[0])
        raise DataError(
            f"class {name} has too few images to be divided: got {size}, expected some for training beside "
            "those for testing; add images, ask for fewer test images, or give folders train and test"
        )
    return train, test


def choose(pool: Pool, counts: Counts, seed: int) -> dict[str, Split]:
    """Returns a stratified subset for each part, by name; validation only where such images are wanted.

    Raises:
        DataError: If there are too few images, or too few are asked for.
    """
    available, num_classes = (len(pool.train_labels), len(pool.test_labels)), len(pool.class_names)
    wanted = available[0] - counts.validation if counts.train is None else counts.train
    if counts.validation:
        check_counts(pool.name, available[0], num_classes, wanted, counts.validation)
    num_train, num_test = subset_sizes(pool.name, available, num_classes, wanted, counts.test)

    def subset(part: str, labels: Int[np.ndarray, "n"], size: int) -> Int[np.ndarray, "m"]:
        rng = random_stream(seed, part, "choice")
        return stratified_subset(labels, size, num_classes=num_classes, rng=rng)

    chosen = {"train": pool.read("train", rows := subset("train", pool.train_labels, num_train))}
    _check_varied(chosen["train"].images, pool)
    if counts.validation:
        rest = np.setdiff1d(np.arange(available[0]), rows)
        rows = rest[subset("validation", pool.train_labels[rest], counts.validation)]
        chosen["validation"] = pool.read("train", rows)
    chosen["test"] = pool.read("test", subset("test", pool.test_labels, num_test))
    return chosen


def _check_varied(images: Num[np.ndarray, "n h w c"], pool: Pool) -> None:
    if len(images) > 1 and not np.any(images != images[:1]):
        raise DataError(
            f"the {len(images)} training images of {pool.name} are all equal, so that nothing tells their "
            f"classes apart; check the files ({pool.source})"
        )
