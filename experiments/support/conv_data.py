"""The images of one seed for the convolutional kernel: generated, of a stored dataset, or a user's own.

Pixels of stored images are scaled to [0, 1] and not standardized.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from experiments.support import noisy_digits, stars
from experiments.support.data import load
from experiments.support.data.catalog import describe
from experiments.support.data.folder import open_folder
from experiments.support.data.images import DataError, Images, Split, sha256_of
from experiments.support.image_pools import (
    PARTS,
    Counts,
    Pool,
    choose,
    pool_of_folder,
    pool_of_images,
    random_stream,
)
from experiments.support.options import check_sizes

DatasetName = Literal[
    "stars",
    "noisy_mnist",
    "svhn",
    "cifar10",
    "cifar100",
    "gtsrb",
    "emnist",
    "fashion_mnist",
    "mnist",
    "fashion_mnist_mini",
    "mnist_5k",
    "digits",
    "folder",
]
DigitsName = Literal["mnist_5k", "mnist"]


@dataclass(frozen=True)
class ImageSet:
    """Images as the kernel takes them, channels last, and their class numbers."""

    images: Float[np.ndarray, "n h w c"]
    labels: Int[np.ndarray, "n"]

    def targets(self, num_classes: int) -> Float[np.ndarray, "n k"]:
        """Returns 1 at the class and 0 elsewhere."""
        return (self.labels[:, None] == np.arange(num_classes)).astype(np.float64)


@dataclass(frozen=True)
class ImageSets:
    """The images of one seed; no image of one set is in another."""

    train: ImageSet
    validation: ImageSet | None
    """None where none were asked for"""
    test: ImageSet
    class_names: tuple[str, ...]
    title: str
    """for figures"""
    source: str
    """where the images came from, in words"""
    sha256: str
    """of all images and labels, in their order"""

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)


def load_sets(
    dataset: DatasetName,
    *,
    num_train: int | None,
    num_validation: int,
    num_test: int | None,
    seed: int,
    data_dir: Path | None = None,
    digits: DigitsName | None = None,
    image_size: int | None = None,
) -> ImageSets:
    """Returns training, validation and test images of one seed, with their classes.

    `stars` are drawn. `noisy_mnist` chooses digits and draws the noise around them. Others are stratified
    subsets: test images of the test split, training and validation images of the training split. A `folder`
    without splits of its own is first divided into these two. Every part has its own random stream: training
    images do not depend on how many validate, nor test images on how many there are of the others.

    Args:
        num_train: None takes all training images that do not validate.
        num_validation: 0 takes none.
        num_test: None takes up to 1000 test images, and at most a fifth of a folder without splits.
        digits: Where `noisy_mnist` takes its digits from; None takes mnist_5k, which needs no files.
        image_size: Squeezes the images of a `folder` to this height and width; None wants them to be equal.

    Raises:
        DataError: If there are too few images, an option does not belong to the dataset, or images are
            missing, damaged or not fit to be trained on.
    """
    counts = Counts(num_train, num_validation, num_test)
    _check_options(dataset, seed, digits, image_size)
    _check_data_dir(dataset, data_dir, digits)
    if dataset == "stars":
        return _stars(counts, seed)
    if dataset == "noisy_mnist":
        return _noisy_mnist(load(digits or "mnist_5k", data_dir=data_dir), counts, seed)
    if dataset == "folder":
        folder = open_folder(data_dir or Path(), image_size)
        return _chosen(pool_of_folder(folder, counts, seed), counts, seed)
    return _chosen(pool_of_images(load(dataset, data_dir=data_dir)), counts, seed)


def known_shape(dataset: DatasetName) -> tuple[tuple[int, int, int], int]:
    """Returns height, width and channels of the images of a dataset, and its number of classes.

    Raises:
        DataError: If the dataset is unknown, or a folder, whose images may have any shape.
    """
    if dataset == "stars":
        return stars.IMAGE_SHAPE, len(stars.CLASS_NAMES)
    if dataset == "noisy_mnist":
        size = noisy_digits.FRAME_SIZE
        return (size, size, 1), len(describe("mnist").class_names)
    description = describe(dataset)
    return description.image_shape, len(description.class_names)


def _check_options(dataset: str, seed: int, digits: str | None, image_size: int | None) -> None:
    if dataset not in get_args(DatasetName):
        raise DataError(
            f"dataset is unknown: got {dataset!r}, expected one of {', '.join(get_args(DatasetName))}"
        )
    if seed < 0:
        raise DataError(f"seed is negative: got {seed}, expected at least 0; choose another seed")
    for flag, value, owner in (("digits", digits, "noisy_mnist"), ("image-size", image_size, "folder")):
        if value is not None and dataset != owner:
            raise DataError(
                f"--{flag} is an option of --dataset={owner} alone: got --{flag}={value} with "
                f"--dataset={dataset}; leave it out"
            )
    if digits not in (None, *get_args(DigitsName)):
        raise DataError(f"--digits must be one of {', '.join(get_args(DigitsName))}: got {digits}")
    if image_size is not None:
        check_sizes(image_size=image_size)


def _check_data_dir(dataset: str, data_dir: Path | None, digits: str | None) -> None:
    if dataset == "folder" and data_dir is None:
        raise DataError(
            "--dataset=folder needs --data-dir: a folder with one folder of images for each class"
        )
    if data_dir is not None and dataset == "stars":
        raise DataError(f"--dataset=stars reads no files: got --data-dir={data_dir}; leave it out")
    if data_dir is not None and dataset == "noisy_mnist" and digits != "mnist":
        raise DataError(
            f"--digits=mnist_5k reads no files: got --data-dir={data_dir}; leave it out, or give "
            "--digits=mnist for the MNIST in there"
        )


def _stars(counts: Counts, seed: int) -> ImageSets:
    sets, num_classes = {}, len(stars.CLASS_NAMES)
    for part, size, fewest in zip(PARTS, counts, (num_classes, num_classes, 1), strict=True):
        if part == "validation" and size == 0:
            continue
        if size is None or size < fewest:
            raise DataError(
                f"--num-{part} must be at least {fewest} for stars: got {size}; ask for more images"
            )
        drawn = stars.draw_stars(size, random_stream(seed, part, "drawing"))
        sets[part] = ImageSet(drawn.images, drawn.labels)
    source = (
        f"generated: half of the images with a star of ones in two channels, noise N(0, {stars.NOISE:g}^2) "
        "everywhere else"
    )
    return _together(sets, stars.CLASS_NAMES, "Stars in noise", source)


def _noisy_mnist(images: Images, counts: Counts, seed: int) -> ImageSets:
    sets = {}
    for part, split in choose(pool_of_images(images), counts, seed).items():
        digits = split.images / images.max_value
        placed = noisy_digits.place_in_noise(digits, random_stream(seed, part, "drawing"))
        sets[part] = ImageSet(placed, split.labels)
    frame = noisy_digits.FRAME_SIZE
    source = f"{images.source}; pasted into {frame} x {frame} of noise N(0, {noisy_digits.NOISE:g}^2)"
    return _together(sets, images.class_names, "MNIST in noise", source)


def _chosen(pool: Pool, counts: Counts, seed: int) -> ImageSets:
    splits = choose(pool, counts, seed)
    sets = {part: ImageSet(split.images / pool.max_value, split.labels) for part, split in splits.items()}
    return _together(sets, pool.class_names, pool.title, pool.source)


def _together(sets: dict[str, ImageSet], class_names: tuple[str, ...], title: str, source: str) -> ImageSets:
    digest = sha256_of(*(Split(part.images, part.labels) for part in sets.values()))
    validation = sets.get("validation")
    return ImageSets(sets["train"], validation, sets["test"], class_names, title, source, digest)
