"""MNIST in noise: every digit at a random place in a larger frame of noise.

References:
    Beaglehole, Radhakrishnan, Pandit and Belkin (2023), Mechanism of feature learning in convolutional neural
    networks, arXiv:2309.00570; sizes and values are those of the code released with it.
"""

import numpy as np
from jaxtyping import Float, Num

from experiments.support.data.images import DataError

DIGIT_SHAPE = (28, 28, 1)
FRAME_SIZE = 42
NOISE = 0.5
"""standard deviation of the noise around a digit"""
MAX_OFFSET = 13
"""largest row and column of a digit's upper left corner: 14 would fit too, and is not used as published"""


def place_in_noise(
    digits: Num[np.ndarray, "n 28 28 1"], rng: np.random.Generator
) -> Float[np.ndarray, "n 42 42 1"]:
    """Returns digits with values in [0, 1], each pasted into its own frame of noise.

    A frame is 42 x 42 pixels of N(0, 0.5^2). The whole 28 x 28 square of the digit, its black background too,
    replaces the noise where it lies; row and column of its corner are uniform on 0..13, each on its own.
    Pixels are what they are: negative ones too, and not scaled to [0, 1].

    Raises:
        DataError: If the digits have another shape, or values outside of [0, 1].
    """
    if digits.shape[1:] != DIGIT_SHAPE:
        expected = ", ".join(map(str, DIGIT_SHAPE))
        raise DataError(
            f"digits have the wrong shape: got {digits.shape}, expected (n, {expected}); give digits of MNIST"
        )
    # Written so that NaN is refused too.
    if not np.all((digits >= 0) & (digits <= 1)):
        raise DataError(
            f"digits have values outside of [0, 1]: got {digits.min():g} to {digits.max():g}; divide them by "
            "their largest possible value"
        )
    frames = NOISE * rng.standard_normal((len(digits), FRAME_SIZE, FRAME_SIZE, 1))
    corners = rng.integers(0, MAX_OFFSET, size=(len(digits), 2), endpoint=True)
    height, width, _ = DIGIT_SHAPE
    for frame, digit, (row, column) in zip(frames, digits, corners, strict=True):
        frame[row : row + height, column : column + width] = digit
    return frames
