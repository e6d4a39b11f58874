"""The types of the data room, and the one check that every loaded split passes."""

import dataclasses
import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Num


class DataError(ValueError):
    """A dataset is missing, damaged or not of the expected form."""


class Unavailable(Exception):
    """One way of getting a dataset is closed, and the next one is tried; its text says why."""


@dataclass(frozen=True)
class Split:
    """Images of one split and their class numbers."""

    images: Num[np.ndarray, "n h w c"]
    labels: Int[np.ndarray, "n"]


@dataclass(frozen=True)
class Images:
    """One dataset as it was stored: pixels lie between 0 and `max_value`."""

    name: str
    title: str
    """for figures: the usual name, with the sizes of the splits where they are not the usual ones"""
    class_names: tuple[str, ...]
    train: Split
    test: Split
    source: str
    """where the images came from, in words"""
    max_value: float = 255.0

    @property
    def num_classes(self) -> int:
        """The number of classes that the dataset declares."""
        return len(self.class_names)


def pooled(images: Images) -> Images:
    """Returns the dataset with the images of its test split among those of training too, at the end."""
    parts = images.train, images.test
    everything = Split(
        np.concatenate([part.images for part in parts]), np.concatenate([part.labels for part in parts])
    )
    return dataclasses.replace(images, train=everything)


def sha256_of(*splits: Split) -> str:
    """Returns the sha256 of the images and labels of some splits, with their shapes and types."""
    digest = hashlib.sha256()
    for split in splits:
        digest.update(f"{split.images.dtype.str}{split.images.shape}".encode())
        digest.update(np.ascontiguousarray(split.images).data)
        digest.update(np.ascontiguousarray(split.labels, dtype="<i8").data)
    return digest.hexdigest()


def check_split(
    split: Split, *, image_shape: tuple[int, int, int], num_classes: int, max_value: float, where: str
) -> None:
    """Raises DataError unless shapes, counts, labels and pixel range are those of the dataset."""
    images, labels = split.images, split.labels
    if images.ndim != 4 or images.shape[1:] != image_shape:
        raise DataError(
            f"images in {where} have the wrong shape: got {images.shape}, expected (n, *{image_shape}); "
            "check that these are the files of this dataset"
        )
    if labels.shape != images.shape[:1]:
        raise DataError(
            f"label count differs from image count in {where}: got {labels.size} labels for {len(images)} "
            "images, expected one each; get both files of the same split again"
        )
    if not len(images):
        raise DataError(f"no images in {where}: got 0, expected at least 1; get the files again")
    check_labels(labels, num_classes=num_classes, where=where)
    if images.min() < 0 or images.max() > max_value:
        raise DataError(
            f"pixels out of range in {where}: got {images.min()} to {images.max()}, expected 0 to "
            f"{max_value}; check that these are the files of this dataset"
        )


def check_labels(labels: Int[np.ndarray, "n"], *, num_classes: int, where: str) -> None:
    """Raises DataError unless every label is a class number."""
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if wrong.size:
        raise DataError(
            f"labels out of range in {where}: got {labels[wrong[0]]} at index {wrong[0]}, {wrong.size} "
            f"such in all, expected 0 to {num_classes - 1}; check that these are the files of this dataset"
        )
