"""Reads image files of a user: what their headers say, and their pixels."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageOps

from experiments.support.data.decoding import squeezed
from experiments.support.data.images import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
"""endings of the names of image files, in lower or upper case"""
_GRAY = ("1", "L", "LA")
_COLOR = ("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
# Cameras and telephones tell in these how they were held; other formats are left as they are stored.
_PHOTOS = ("JPEG", "MPO")
# From this orientation on, rows and columns change places.
_FIRST_TURNED = 5


class Header(NamedTuple):
    """What is known of an image before its pixels are decoded."""

    height: int
    width: int
    is_gray: bool


def read_header(path: Path) -> Header:
    """Returns the size of an image as `read_pixels` gives it, and whether it is gray.

    Raises:
        DataError: If the file is no image, has several frames, or pixels of other than 8 bits a channel.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            mode, num_frames = image.mode, getattr(image, "n_frames", 1)
            if _is_turned(image):
                width, height = height, width
    # Pillow's readers fail in a dozen ways on damaged files.
    except Exception as error:
        raise _unreadable(path, error) from error
    if mode not in _GRAY + _COLOR:
        raise DataError(
            f"{path} has pixels of mode {mode}: expected 8 bits a channel, gray or in color; convert the file"
        )
    # The further frames of an MPO file are previews.
    if num_frames > 1 and image.format != "MPO":
        raise DataError(
            f"{path} has {num_frames} frames: expected a single image; save them as files of their own"
        )
    return Header(height, width, mode in _GRAY)


def read_pixels(path: Path, *, gray: bool, size: int | None) -> UInt8[np.ndarray, "h w c"]:
    """Returns the pixels of an image in one channel or three, squeezed to size x size unless that is None.

    JPEG files are turned upright as their EXIF orientation says.

    Raises:
        DataError: If the file is damaged, or some of its pixels are transparent.
    """
    try:
        with Image.open(path) as stored:
            image = ImageOps.exif_transpose(stored) if stored.format in _PHOTOS else stored
            transparent = _is_transparent(image)
            image = image.convert("L" if gray else "RGB")
    except Exception as error:
        raise _unreadable(path, error) from error
    if transparent:
        raise DataError(f"{path} has transparent pixels: expected none; save it over a background")
    pixels = np.asarray(image) if size is None else squeezed(image, size)
    return pixels.reshape(*pixels.shape[:2], -1)


def _is_turned(image: Image.Image) -> bool:
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1) if image.format in _PHOTOS else 1
    return orientation >= _FIRST_TURNED


def _is_transparent(image: Image.Image) -> bool:
    if not image.has_transparency_data:
        return False
    return bool(np.asarray(image.convert("RGBA"))[..., -1].min() < 255)


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path} cannot be read as an image: got {type(error).__name__} ({error}), expected a whole image; "
        "repair it or take it out of the folder"
    )
