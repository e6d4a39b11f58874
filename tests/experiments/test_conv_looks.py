"""What is kept of a patch AGOP for figures, against slow numpy loops over patches."""

import numpy as np
import pytest

from experiments.support import conv_looks
from experiments.support.conv_looks import (
    filtered,
    looks,
    samples_by_class,
    strongest_patches,
    top_eigenpatches,
    transformed,
)

SIZE, CHANNELS = 3, 2
DIM = SIZE * SIZE * CHANNELS
# (padding, stride): 7 x 6 pixels, so that a stride of 2 leaves a remainder.
WINDOWS = [("valid", 1), ("valid", 2), ("same", 1), ("same", 2)]
HEIGHT, WIDTH = 7, 6


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(5, HEIGHT, WIDTH, CHANNELS))


@pytest.fixture(scope="module")
def matrices():
    """I, and two psd matrices of trace 1."""
    rng = np.random.default_rng(1)
    factors = rng.normal(size=(2, DIM, DIM)) * np.geomspace(1, 0.1, DIM)
    found = factors @ factors.swapaxes(1, 2)
    return np.concatenate([np.eye(DIM)[None], found / np.trace(found, axis1=1, axis2=2)[:, None, None]])


def corners(padding, stride):
    """The upper left pixels of all patches, negative in the margin, and the numbers of rows and columns."""
    starts = []
    for side in (HEIGHT, WIDTH):
        if padding == "valid":
            starts.append(list(range(0, side - SIZE + 1, stride)))
        else:
            count = -(-side // stride)
            margin = max((count - 1) * stride + SIZE - side, 0) // 2
            starts.append([i * stride - margin for i in range(count)])
    return [(i, j, a, b) for i, a in enumerate(starts[0]) for j, b in enumerate(starts[1])]


def patch_at(image, a, b):
    """A patch in the order (row, column, channel), 0 outside of the image."""
    found = []
    for row in range(a, a + SIZE):
        for column in range(b, b + SIZE):
            inside = 0 <= row < HEIGHT and 0 <= column < WIDTH
            found += list(image[row, column]) if inside else [0.0] * CHANNELS
    return np.asarray(found)


@pytest.mark.parametrize(("padding", "stride"), WINDOWS)
def test_filtered_images_are_inner_products_with_unit_vectors(images, matrices, padding, stride):
    _, patches = top_eigenpatches(matrices[1], CHANNELS, SIZE, 4)
    found = filtered(images, patches, padding=padding, stride=stride)
    where = corners(padding, stride)
    assert found.shape == (5, 4, where[-1][0] + 1, where[-1][1] + 1)
    for n, image in enumerate(images):
        for i, j, a, b in where:
            for k, vector in enumerate(patches.reshape(4, -1)):
                want = patch_at(image, a, b) @ vector / np.linalg.norm(vector)
                assert found[n, k, i, j] == pytest.approx(want, abs=1e-12)


@pytest.mark.parametrize(("padding", "stride"), WINDOWS)
def test_transformed_images_are_means_over_the_patches_on_a_pixel(images, matrices, padding, stride):
    root = matrices[1]
    found = transformed(images, root, SIZE, padding=padding, stride=stride)
    total, count = np.zeros_like(images), np.zeros_like(images)
    for n, image in enumerate(images):
        for i, j, a, b in corners(padding, stride):
            patch = patch_at(image, a, b)
            after = patch @ root
            assert found.norms_before[n, i, j] == pytest.approx(np.sqrt(np.sum(patch**2)), rel=1e-12)
            assert found.norms_after[n, i, j] == pytest.approx(np.sqrt(np.sum(after**2)), rel=1e-12)
            for (row, column, channel), value in np.ndenumerate(after.reshape(SIZE, SIZE, CHANNELS)):
                if 0 <= a + row < HEIGHT and 0 <= b + column < WIDTH:
                    total[n, a + row, b + column, channel] += value
                    count[n, a + row, b + column, channel] += 1
    uncovered = count == 0
    # 7 x 6 pixels by patches of 3 and strides of 2: the last column has no patch.
    assert uncovered.any() == ((padding, stride) == ("valid", 2))
    want = np.where(uncovered, 0, total / np.maximum(count, 1))
    np.testing.assert_allclose(found.images, want, atol=1e-12)


def test_the_identity_gives_images_back(images):
    found = transformed(images, np.eye(DIM), SIZE, padding="valid", stride=1)
    np.testing.assert_allclose(found.images, images, atol=1e-12)
    np.testing.assert_allclose(found.norms_after, found.norms_before, rtol=1e-12)


def test_top_eigenpatches_are_those_that_were_planted():
    rng = np.random.default_rng(2)
    basis = np.linalg.qr(rng.normal(size=(DIM, DIM)))[0]
    planted = np.geomspace(1, 1e-4, DIM)
    values, patches = top_eigenpatches((basis * planted) @ basis.T, CHANNELS, SIZE, count=5)
    np.testing.assert_allclose(values, planted, rtol=1e-10)
    assert patches.shape == (5, SIZE, SIZE, CHANNELS)
    for vector, patch in zip(basis.T, patches, strict=False):
        want = vector / vector[np.abs(vector).argmax()]
        np.testing.assert_allclose(patch.ravel(), want, atol=1e-9)
        assert patch.max() == 1
        assert patch.min() >= -1


def test_there_are_no_more_eigenpatches_than_entries_of_a_patch():
    values, patches = top_eigenpatches(np.diag([3.0, 1.0, 2.0]), 3, 1)
    np.testing.assert_array_equal(values, [3, 2, 1])
    np.testing.assert_array_equal(patches.reshape(3, 3), [[1, 0, 0], [0, 0, 1], [0, 1, 0]])


@pytest.mark.parametrize("chunk", [2, 20])
def test_the_strongest_patch_is_the_best_of_all(images, matrices, monkeypatch, chunk):
    monkeypatch.setattr(conv_looks, "CHUNK", chunk)
    _, patches = top_eigenpatches(matrices[1], CHANNELS, SIZE)
    found, owners, cosines = strongest_patches(images, patches, padding="same", stride=1)
    for k, vector in enumerate(patches.reshape(len(patches), -1)):
        cut = [(n, patch_at(im, a, b)) for n, im in enumerate(images) for _, _, a, b in corners("same", 1)]
        unit = vector / np.linalg.norm(vector)
        owner, best = max(cut, key=lambda pair, unit=unit: pair[1] @ unit / np.linalg.norm(pair[1]))
        assert owners[k] == owner
        np.testing.assert_allclose(cosines[k], best @ unit / np.linalg.norm(best), rtol=1e-9)
        np.testing.assert_allclose(found[k].ravel(), best, atol=1e-12)
    assert len(set(owners)) > 1


def test_a_shape_that_m_knows_is_found_in_noise():
    rng = np.random.default_rng(3)
    shape = np.zeros((SIZE, SIZE, CHANNELS))
    shape[0, 1] = shape[1] = 2.0
    images = 0.1 * rng.normal(size=(30, HEIGHT, WIDTH, CHANNELS))
    images[25, 2 : 2 + SIZE, 1 : 1 + SIZE] += shape
    vector = shape.ravel() / np.linalg.norm(shape)
    _, patches = top_eigenpatches(np.outer(vector, vector) + 0.01 * np.eye(DIM), CHANNELS, SIZE, 1)
    np.testing.assert_allclose(patches[0], shape / 2, atol=1e-9)
    # A bright patch of another shape has the larger product, but not the larger cosine.
    images[3, :SIZE, :SIZE] += 20.0 * rng.normal(size=(SIZE, SIZE, CHANNELS))
    found, owners, cosines = strongest_patches(images, patches, padding="valid", stride=1)
    assert owners[0] == 25
    assert 0.9 < cosines[0] <= 1
    np.testing.assert_allclose(found[0], shape, atol=0.5)


def test_samples_are_the_first_of_each_class():
    labels = np.array([2, 0, 2, 2, 0, 1, 0, 2])
    np.testing.assert_array_equal(samples_by_class(labels, num_classes=3, per_class=2), [1, 4, 5, 0, 2])
    np.testing.assert_array_equal(samples_by_class(labels, num_classes=2, per_class=9), [1, 4, 6, 5])
    # Class 3 has no image.
    np.testing.assert_array_equal(samples_by_class(labels, num_classes=4, per_class=1), [1, 5, 0])
    of = {"num_classes": 3, "per_class": 1}
    np.testing.assert_array_equal(samples_by_class(labels, **of, total=2), [1, 5])
    np.testing.assert_array_equal(samples_by_class(labels, **of, total=6), [1, 4, 5, 0, 2])


def look(images, matrices, shown=1, **changes):
    options = {"num_classes": 2, "patch_size": SIZE, "padding": "valid", "stride": 1} | changes
    return looks(images, np.arange(len(images)) % 2, matrices, shown, **options)


def test_looks_are_of_the_shown_iteration(images, matrices):
    found = look(images, matrices, shown=2)
    assert found["shown_iteration"] == 2
    np.testing.assert_array_equal(found["sample_labels"], [0, 0, 0, 1, 1])
    np.testing.assert_allclose(found["sample_images"], images[[0, 2, 4, 1, 3]], rtol=1e-6)
    np.testing.assert_array_equal(found["labels"], [0, 0, 0, 1, 1])
    np.testing.assert_allclose(found["eigenvalues"][0], 1)
    for t in (1, 2):
        values, patches = top_eigenpatches(matrices[t], CHANNELS, SIZE)
        np.testing.assert_allclose(found["eigenvalues"][t], values, rtol=1e-5, atol=1e-9)
        np.testing.assert_allclose(found["eigenpatches"][t - 1], patches, atol=1e-6)
    chosen, windows = images[[0, 2, 4, 1, 3]], {"padding": "valid", "stride": 1}
    np.testing.assert_allclose(found["filtered"], filtered(chosen, patches[:4], **windows), atol=1e-5)
    values, vectors = np.linalg.eigh(matrices[2])
    want = transformed(chosen, (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T, SIZE, **windows)
    for name, array in want._asdict().items():
        key = "transformed_images" if name == "images" else name
        np.testing.assert_allclose(found[key], array, atol=1e-5)
    strongest, owners, cosines = strongest_patches(chosen, patches, **windows)
    np.testing.assert_allclose(found["strongest_cosines"], cosines, atol=1e-6)
    assert found["random_cosines"].shape == cosines.shape
    assert np.all(np.abs(found["random_cosines"] - cosines) > 1e-3)
    np.testing.assert_allclose(found["strongest_patches"], strongest, atol=1e-6)
    np.testing.assert_array_equal(found["strongest_labels"], np.array([0, 0, 0, 1, 1])[owners])
    assert {array.dtype.str for array in found.values()} == {"<f4", "<i4"}


def test_iteration_0_shows_the_first_update(images, matrices):
    plain, first, second = (look(images, matrices, shown) for shown in (0, 1, 2))
    for name, array in plain.items():
        np.testing.assert_array_equal(array, first[name])
    for name in ("shown_iteration", "filtered", "transformed_images", "norms_after", "strongest_patches"):
        assert not np.array_equal(first[name], second[name]), name


def test_padding_and_stride_change_the_maps(images, matrices):
    shapes = [
        look(images, matrices, padding=padding, stride=stride)["filtered"].shape
        for padding, stride in WINDOWS
    ]
    assert shapes == [(5, 4, 5, 4), (5, 4, 3, 2), (5, 4, 7, 6), (5, 4, 4, 3)]


def test_few_images_are_kept_of_many_classes(matrices):
    images = np.random.default_rng(4).normal(size=(400, HEIGHT, WIDTH, CHANNELS))
    found = looks(
        images, np.arange(400) % 20, matrices, 1, num_classes=20, patch_size=SIZE, padding="valid", stride=1
    )
    np.testing.assert_array_equal(found["sample_labels"], np.repeat(np.arange(10), 6))
    np.testing.assert_array_equal(found["labels"], np.arange(6))


def test_bad_input_is_named(images, matrices):
    with pytest.raises(ValueError, match="must be 32 x 32 for patches 4 x 4 x 2: got shape"):
        look(images, matrices, patch_size=4)
    with pytest.raises(ValueError, match="got shown 0 and 1 feature matrices; make at least one update"):
        look(images, matrices[:1], shown=0)
    for shown in (-1, 3):
        with pytest.raises(ValueError, match=rf"iterations 0 to 2, .* got shown {shown}"):
            look(images, matrices, shown=shown)
    _, patches = top_eigenpatches(matrices[1], CHANNELS, SIZE)
    with pytest.raises(ValueError, match="got 3 for 2 x 6 pixels"):
        filtered(images[:, :2], patches, padding="valid", stride=1)
