"""Patches beside windows written from where a patch starts, and their sums beside matrices."""

import jax.numpy as jnp
import numpy as np
import pytest

from dnc_jax.patches import image_patches, num_patches, patch_sums, spread_patches
from tests import conv_oracles
from tests.builders import as_a_user

SHAPE = (6, 5)
GRIDS = [
    pytest.param(size, padding, stride, id=f"{size}_{padding}_{stride}")
    for size in (1, 2, 3, 4)
    for padding in ("valid", "same")
    for stride in (1, 2, 3)
]


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


@pytest.mark.parametrize(("size", "padding", "stride"), GRIDS)
def test_patches_are_the_windows_row_by_row(size, padding, stride):
    images = normal(2, *SHAPE, 3)
    shape, _ = conv_oracles.windows(SHAPE, size, padding, stride)
    true = [conv_oracles.patches(image, size, padding, stride) for image in np.asarray(images)]
    got = image_patches(images, size, padding, stride)
    assert num_patches(SHAPE, size, padding, stride) == shape
    np.testing.assert_array_equal(got, np.reshape(true, (2, *shape, size * size * 3)))


def test_a_patch_is_in_the_order_of_row_column_and_channel():
    images = jnp.arange(24.0).reshape(1, 3, 4, 2)
    np.testing.assert_array_equal(image_patches(images, 2)[0, 1, 2], images[0, 1:3, 2:4].reshape(-1))
    around = image_patches(images, 2, "same")[0, 2, 3].reshape(2, 2, 2)
    np.testing.assert_array_equal(around[0, 0], images[0, 2, 3])
    assert np.all(around[1] == 0)
    assert np.all(around[:, 1] == 0)


@pytest.mark.parametrize(("size", "padding", "stride"), GRIDS)
def test_sums_are_those_of_patches_and_spreading_is_their_transpose(size, padding, stride):
    shape, matrices = conv_oracles.windows(SHAPE, size, padding, stride)
    matrix = sum(matrices)
    x, y = normal(*SHAPE, 2), normal(*shape, 2, seed=1)
    sums = patch_sums(x, (0,), (1,), size, padding, stride)
    np.testing.assert_allclose(sums.reshape(-1, 2), matrix @ x.reshape(-1, 2), atol=1e-14)
    spread = spread_patches(y, (0,), (1,), x.shape, size, padding, stride)
    assert spread.shape == x.shape
    np.testing.assert_allclose(spread.reshape(-1, 2), matrix.T @ y.reshape(-1, 2), atol=1e-14)


@pytest.mark.parametrize(("size", "padding", "stride"), GRIDS)
def test_two_images_at_once_are_shifted_together(size, padding, stride):
    shape, matrices = conv_oracles.windows(SHAPE, size, padding, stride)
    inputs, outputs = np.prod(SHAPE), np.prod(shape)
    x, y = normal(*SHAPE, *SHAPE, 2), normal(*shape, *shape, 2, seed=1)
    axes = (0, 2), (1, 3)
    sums = patch_sums(x, *axes, size, padding, stride)
    pairs = np.reshape(x, (inputs, inputs, 2))
    true = sum(np.einsum("ax,by,xyr->abr", matrix, matrix, pairs) for matrix in matrices)
    np.testing.assert_allclose(sums.reshape(outputs, outputs, 2), true, atol=1e-13)
    spread = spread_patches(y, *axes, x.shape, size, padding, stride)
    assert spread.shape == x.shape
    np.testing.assert_allclose(jnp.sum(spread * x), jnp.sum(y * sums), rtol=1e-12)


def test_what_gives_no_patches_is_refused():
    images = normal(1, 6, 3, 1)
    with pytest.raises(ValueError, match=r"padding must be one of valid, same: got 'full'"):
        image_patches(images, 2, "full")
    with (
        as_a_user(),
        pytest.raises(ValueError, match=r"patch_size must be at most .* got 4 for 6 x 3 pixels; .*'same'"),
    ):
        image_patches(images, 4)
    assert image_patches(images, 4, "same").shape == (1, 6, 3, 16)
