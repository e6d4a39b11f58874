"""A user's own images: a folder with one folder of images for each class.

- Classes are the folders in DIR, named and numbered in the order of their sorted names. Where DIR holds the
  folders train and test and these hold folders, they are the splits, and hold folders of the same names;
  nothing else may be a folder beside them.
- A class folder holds image files (see `image_files.SUFFIXES`), at least one, and nothing else: a folder or
  a file of another kind in it is refused, since it could be a part of the class that is not read.
- Names that begin with a dot, Thumbs.db and desktop.ini are passed over everywhere; files outside of the
  class folders are passed over too, unless they are images.
- Images are gray, with one channel, where all images of the folder are; else all are read as RGB.
- All images have the same size, or all are squeezed to a square.

Files are listed and their headers read at once; pixels are decoded for chosen files only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from experiments.support.data.image_files import SUFFIXES, read_header, read_pixels
from experiments.support.data.images import DataError, Split

_PASSED_OVER = ("thumbs.db", "desktop.ini")
_SPLITS = ("train", "test")


@dataclass(frozen=True)
class Listing:
    """Image files and the class number of each."""

    files: tuple[Path, ...]
    labels: Int[np.ndarray, "n"]

    def taken(self, rows: Int[np.ndarray, "m"]) -> "Listing":
        """Returns some of the files, in the order of rows."""
        return Listing(tuple(self.files[row] for row in rows), self.labels[rows])


@dataclass(frozen=True)
class ImageFolder:
    """All images of a folder, listed and not yet decoded."""

    path: Path
    class_names: tuple[str, ...]
    train: Listing
    """all images, where the folder is not divided"""
    test: Listing | None
    image_shape: tuple[int, int, int]
    squeezed_to: int | None

    @property
    def words(self) -> str:
        """Where the images come from, for the record of a run."""
        if (size := self.squeezed_to) is None:
            return f"image files in {self.path}"
        return f"image files in {self.path}, squeezed to {size} x {size} by Pillow's bilinear filter"

    def read(self, listing: Listing) -> Split:
        """Returns the pixels and labels of some of its images.

        Raises:
            DataError: If a file is damaged.
        """
        images = np.empty((len(listing.files), *self.image_shape), np.uint8)
        for row, path in enumerate(listing.files):
            images[row] = read_pixels(path, gray=self.image_shape[-1] == 1, size=self.squeezed_to)
        return Split(images, listing.labels)


def open_folder(path: Path, image_size: int | None = None) -> ImageFolder:
    """Returns the images below a folder, listed by the rules above.

    Args:
        image_size: Squeeze all images to this height and width; None wants them to be of the same size.

    Raises:
        DataError: If the folder breaks a rule, or a file is no image.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise DataError(
            f"--data-dir is no folder: got {folder}, expected one with a folder of images for each class; "
            "correct the path"
        )
    roots = _roots(folder)
    classes = [_classes(root) for root in roots]
    class_names = tuple(classes[0])
    if len(classes) > 1 and tuple(classes[1]) != class_names:
        different = sorted(set(classes[0]) ^ set(classes[1]))
        raise DataError(
            f"{roots[0]} and {roots[1]} hold different classes: got {', '.join(different)} in one of them "
            "only, expected the same folders in both; add or remove folders"
        )
    train, *test = [_listing(list(found.values())) for found in classes]
    shape = _image_shape([path for part in (train, *test) for path in part.files], image_size)
    return ImageFolder(folder, class_names, train, test[0] if test else None, shape, image_size)


def _roots(folder: Path) -> tuple[Path, ...]:
    """Returns the folders that hold class folders: the folder itself, or its train and test folders."""
    roots = tuple(folder / name for name in _SPLITS)
    with_classes = [root for root in roots if root.is_dir() and any(path.is_dir() for path in _entries(root))]
    if not with_classes:
        return (folder,)
    if len(with_classes) == 1:
        raise DataError(
            f"{with_classes[0]} holds folders and its counterpart does not: got classes in one of train and "
            "test, expected both or neither; add the other, or give the one with the classes as --data-dir"
        )
    others = [path.name for path in _entries(folder) if path.is_dir() and path not in roots]
    if others:
        raise DataError(
            f"{folder} holds other folders beside train and test: got {', '.join(others)}, expected these "
            "two only; move the others elsewhere"
        )
    _refuse_strays(folder)
    return roots


def _refuse_strays(folder: Path) -> None:
    strays = [path for path in _entries(folder) if path.is_file() and _is_image(path)]
    if strays:
        raise DataError(
            f"{strays[0]} is an image outside of the class folders: got {len(strays)} such, expected images "
            "in the folder of their class; move them there or elsewhere"
        )


def _classes(root: Path) -> dict[str, Sequence[Path]]:
    _refuse_strays(root)
    classes = {path.name: _images(path) for path in _entries(root) if path.is_dir()}
    if len(classes) < 2:
        raise DataError(
            f"{root} holds too few classes: got {len(classes)} ({', '.join(classes) or 'no folder'}), "
            "expected at least 2 folders, one for each class; check --data-dir"
        )
    return classes


def _images(folder: Path) -> Sequence[Path]:
    entries = _entries(folder)
    strange = [path for path in entries if not (path.is_file() and _is_image(path))]
    if strange:
        raise DataError(
            f"{strange[0]} is no image file: got {len(strange)} such in a class folder, expected files that "
            f"end in {' '.join(SUFFIXES)} and nothing else; convert them or move them elsewhere"
        )
    if not entries:
        raise DataError(
            f"class {folder.name} is empty: got no image in {folder}, expected at least 1; add images or "
            "remove the folder"
        )
    return entries


def _entries(folder: Path) -> list[Path]:
    found = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(
        (path for path in found if path.name.lower() not in _PASSED_OVER), key=lambda path: path.name
    )


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _listing(classes: Sequence[Sequence[Path]]) -> Listing:
    files = tuple(path for members in classes for path in members)
    labels = np.repeat(np.arange(len(classes)), [len(members) for members in classes])
    return Listing(files, labels)


def _image_shape(files: Sequence[Path], image_size: int | None) -> tuple[int, int, int]:
    headers = [read_header(path) for path in files]
    num_channels = 1 if all(header.is_gray for header in headers) else 3
    if image_size is not None:
        return image_size, image_size, num_channels
    first = headers[0]
    for path, header in zip(files, headers, strict=True):
        if header[:2] != first[:2]:
            raise DataError(
                f"images differ in size: got {first.height} x {first.width} in {files[0]} and "
                f"{header.height} x {header.width} in {path}, expected the same height and width; give "
                "--image-size to squeeze all to a square"
            )
    return first.height, first.width, num_channels
