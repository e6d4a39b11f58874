"""Stars and digits in noise: against loops written from the published description, and their statistics."""

import numpy as np
import pytest

from experiments.support import noisy_digits, stars
from experiments.support.data import DataError

# Row: columns, of a star that was not moved.
PUBLISHED_STAR = {
    3: (10,),
    4: (9, 10, 11),
    5: (7, 8, 9, 10, 11, 12, 13),
    6: (8, 9, 10, 11, 12),
    7: (9, 10, 11),
    8: (8, 9, 10, 11, 12),
    9: (8, 9, 11, 12),
}


def drawn(num_images, seed=0):
    return stars.draw_stars(num_images, np.random.default_rng(seed))


@pytest.fixture(scope="module")
def many():
    return drawn(3000)


def has_star(image, down, right):
    """Whether the published star lies at an offset, in the first two channels and nowhere else."""
    expected = np.zeros((32, 32), bool)
    for row, columns in PUBLISHED_STAR.items():
        for column in columns:
            expected[row + down, column + right] = True
    return all(np.array_equal(image[..., c] == 1, expected & (c < 2)) for c in range(3))


def test_every_star_is_the_published_one_at_one_offset(many):
    found = []
    for image, label in zip(many.images[:300], many.labels[:300], strict=True):
        places = [(q, r) for q in range(-3, 23) for r in range(-7, 19) if has_star(image, q, r)]
        assert len(places) == label
        found += places
    assert len(found) > 100
    assert np.min(found) >= 0
    assert np.max(found) <= 17


def offsets(images):
    """Rows and columns of the first star pixel of images that have one, as offsets."""
    is_star = images[..., 0] == 1
    return np.stack([is_star.any(axis=2).argmax(axis=1) - 3, is_star.any(axis=1).argmax(axis=1) - 7])


def test_offsets_are_uniform_on_0_to_17_and_independent(many):
    down, right = offsets(many.images[many.labels == 1])
    for found in (down, right):
        counts = np.bincount(found, minlength=18)
        assert len(counts) == 18
        # 1500 draws: 83 of each on average, 9 is one standard deviation.
        assert counts.min() > 40
        assert counts.max() < 130
    assert abs(np.corrcoef(down, right)[0, 1]) < 0.1


def test_everything_else_is_noise(many):
    noise = many.images[~((many.images == 1) & (np.arange(3) < 2))]
    assert abs(noise.mean()) < 5 * 0.3 / np.sqrt(noise.size)
    assert noise.std() == pytest.approx(0.3, rel=2e-3)
    # Normal, not of another law with the same deviation.
    assert np.mean(np.abs(noise) < 0.3) == pytest.approx(0.6827, abs=2e-3)
    channels = many.images[many.labels == 0].reshape(-1, 3)
    assert np.abs(np.corrcoef(channels.T) - np.eye(3)).max() < 5e-3


def test_classes_are_balanced_and_shuffled():
    for num_images, num_stars in ((1, 0), (2, 1), (51, 25)):
        found = drawn(num_images)
        assert found.labels.sum() == num_stars
        assert found.images.shape == (num_images, 32, 32, 3)
        assert found.images.dtype == np.float64
    labels = drawn(51).labels
    assert not np.array_equal(labels, np.sort(labels))
    assert not np.array_equal(labels, np.sort(labels)[::-1])


def test_stars_depend_on_the_generator_alone():
    one, same, other = drawn(6), drawn(6), drawn(6, seed=1)
    np.testing.assert_array_equal(one.images, same.images)
    np.testing.assert_array_equal(one.labels, same.labels)
    assert np.all(one.images != other.images)


@pytest.mark.parametrize("num_images", [0, -1])
def test_an_empty_set_of_stars_is_refused(num_images):
    with pytest.raises(DataError, match=rf"set of stars is empty: got {num_images} images"):
        drawn(num_images)


# No digit here has a value that noise could have by chance, so that every pixel tells where it is from.
DIGITS = np.random.default_rng(0).integers(0, 256, size=(2000, 28, 28, 1)) / 255


@pytest.fixture(scope="module")
def placed():
    return noisy_digits.place_in_noise(DIGITS, np.random.default_rng(0))


def corner(frame, digit):
    """All places where the whole square of a digit lies, its background included."""
    windows = np.lib.stride_tricks.sliding_window_view(frame[..., 0], (28, 28))
    return np.argwhere((windows == digit[..., 0]).all(axis=(2, 3)))


def test_digits_replace_the_noise_at_offsets_on_0_to_13(placed):
    assert placed.shape == (2000, 42, 42, 1)
    assert placed.dtype == np.float64
    corners = []
    for frame, digit in zip(placed, DIGITS, strict=True):
        (found,) = corner(frame, digit)
        corners.append(found)
    corners = np.asarray(corners)
    for found in corners.T:
        counts = np.bincount(found)
        # 2000 draws: 143 of each on average, 12 is one standard deviation.
        assert len(counts) == 14
        assert counts.min() > 90
        assert counts.max() < 200
    assert abs(np.corrcoef(corners.T)[0, 1]) < 0.1


def test_frames_are_noise_around_the_digits(placed):
    outside = np.ones(placed.shape, bool)
    for row, (frame, digit) in enumerate(zip(placed, DIGITS, strict=True)):
        ((down, right),) = corner(frame, digit)
        outside[row, down : down + 28, right : right + 28] = False
    noise = placed[outside]
    assert noise.size == 2000 * (42**2 - 28**2)
    assert abs(noise.mean()) < 5 * 0.5 / np.sqrt(noise.size)
    assert noise.std() == pytest.approx(0.5, rel=2e-3)
    assert np.mean(np.abs(noise) < 0.5) == pytest.approx(0.6827, abs=2e-3)


def test_places_depend_on_the_generator_alone(placed):
    same = noisy_digits.place_in_noise(DIGITS, np.random.default_rng(0))
    np.testing.assert_array_equal(placed, same)
    other = noisy_digits.place_in_noise(DIGITS, np.random.default_rng(1))
    assert np.all(placed[:, -1] != other[:, -1])


@pytest.mark.parametrize(
    ("digits", "message"),
    [
        (np.zeros((2, 28, 28)), r"digits have the wrong shape: got \(2, 28, 28\), expected \(n, 28, 28, 1\)"),
        (np.zeros((2, 32, 32, 1)), "wrong shape"),
        (np.full((2, 28, 28, 1), 255), r"values outside of \[0, 1\]: got 255 to 255; divide"),
        (np.full((2, 28, 28, 1), -0.1), r"values outside of \[0, 1\]"),
        (np.full((2, 28, 28, 1), np.nan), r"values outside of \[0, 1\]: got nan"),
    ],
)
def test_digits_that_cannot_be_placed(digits, message):
    with pytest.raises(DataError, match=message):
        noisy_digits.place_in_noise(digits, np.random.default_rng(0))
