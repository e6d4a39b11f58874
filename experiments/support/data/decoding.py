"""Decodes and squeezes images by Pillow."""

import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image


def decoded(encoded: bytes) -> Image.Image:
    """Returns the RGB image in the bytes of an image file.

    TFDS decodes by OpenCV where that is installed, whose pixels differ from Pillow's.
    """
    with Image.open(io.BytesIO(encoded)) as image:
        return image.convert("RGB")


def squeezed(image: Image.Image, size: int) -> UInt8[np.ndarray, "size size *c"]:
    """Returns the pixels of an image squeezed to size x size by Pillow's bilinear filter.

    Where an image shrinks, the filter averages over all pixels that a new one covers.
    """
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
