"""Stars in noise: images of noise, half of them with a small star in two of their three channels.

References:
    Beaglehole, Radhakrishnan, Pandit and Belkin (2023), Mechanism of feature learning in convolutional neural
    networks, arXiv:2309.00570; sizes and values are those of the notebook released with Radhakrishnan,
    Beaglehole, Pandit and Belkin (2024), Science 383.
"""

import numpy as np
from jaxtyping import Int

from experiments.support.data.images import DataError, Split

CLASS_NAMES = ("noise", "star")
IMAGE_SHAPE = (32, 32, 3)
NOISE = 0.3
"""standard deviation of the noise in every pixel and channel"""
MAX_OFFSET = 17
"""largest shift of the star, down and to the right"""

_CORNER = (3, 7)
_STAR = (
    "...#...",
    "..###..",
    "#######",
    ".#####.",
    "..###..",
    ".#####.",
    ".##.##.",
)
_NUM_STAR_CHANNELS = 2


def draw_stars(num_images: int, rng: np.random.Generator) -> Split:
    """Returns images (n, 32, 32, 3) and labels: 1 for the n // 2 images with a star, 0 for the others.

    All pixels are N(0, 0.3^2). A star replaces them by 1 in the first two channels; its upper left corner,
    row 3 and column 7 at offset 0, moves down and right by offsets uniform on 0..17, each on its own.
    The order is random. Pixels are what they are: negative ones too, and not scaled to [0, 1].

    The published code shuffles as many images with a star as without and cuts training images off that
    pool, which so are nearly, not exactly, balanced as they are here.

    Raises:
        DataError: If there would be no image.
    """
    if num_images < 1:
        raise DataError(
            f"a set of stars is empty: got {num_images} images, expected at least 1; ask for more"
        )
    labels = rng.permutation((np.arange(num_images) < num_images // 2).astype(np.int64))
    images = NOISE * rng.standard_normal((num_images, *IMAGE_SHAPE))
    starred = np.flatnonzero(labels)
    down, right = rng.integers(0, MAX_OFFSET, size=(2, len(starred), 1), endpoint=True)
    rows, columns = star_pixels()
    images[starred[:, None], rows + down, columns + right, :_NUM_STAR_CHANNELS] = 1.0
    return Split(images, labels)


def star_pixels() -> tuple[Int[np.ndarray, "p"], Int[np.ndarray, "p"]]:
    """Returns the rows and the columns of the star's pixels at offset 0."""
    picture = np.asarray([list(line) for line in _STAR]) == "#"
    rows, columns = np.nonzero(picture)
    return rows + _CORNER[0], columns + _CORNER[1]
