"""The convolutional tangent kernel's derivatives, its ends, its memory, and what it refuses."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnc_jax import NTK, ConvNTK, fit_kernel_machine
from dnc_jax.kernels import ClosedFormKernel, ImageKernel
from tests.builders import as_a_user, assert_close
from tests.instances import DTYPES


def images(num, seed=0, shape=(5, 6, 2), dtype=np.float64):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(num, *shape)), dtype)


# tile_bytes of 1 takes each pair as a tile.
KERNELS = [
    pytest.param(ConvNTK(2, 2, tile_bytes=1), id="flatten_tiled"),
    pytest.param(ConvNTK(2, 3, True, "same", 2), id="pooling"),
]


@pytest.mark.parametrize("kernel", KERNELS)
def test_derivatives_are_those_of_the_kernel(kernel):
    x, z, weights, step = images(3), images(3, 1), images(3, 2)[:, 0, :3, 0], 1e-5

    def total(x, z, root, same):
        matrix = ConvNTK(*kernel.convolutions, root, kernel.tile_bytes)(x, x if same else z)
        return jnp.sum(weights * matrix)

    root = jnp.eye(kernel.patch_size**2 * 2)
    for same in (False, True):
        value = jax.jit(partial(total, same=same))
        slopes = jax.jit(jax.grad(value, argnums=(0, 1, 2)))(x, z, root)
        for place, slope in enumerate(slopes):
            direction = jnp.asarray(np.random.default_rng(place).normal(size=slope.shape))
            moved = [[x, z, root], [x, z, root]]
            for arrays, sign in zip(moved, (1, -1), strict=True):
                arrays[place] = arrays[place] + sign * step * direction
            above, below = (value(*arrays) for arrays in moved)
            got = jnp.sum(slope * direction)
            np.testing.assert_allclose(got, (above - below) / (2 * step), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_value_and_derivatives_are_finite_at_twins_multiples_opposites_and_zeros(kernel, dtype):
    x = images(1)
    special = [x, x, 3 * x, -x, x.at[:, :4].set(0), jnp.ones_like(x), jnp.zeros_like(x)]
    x = jnp.concatenate(special).astype(dtype)

    def total(x, z):
        return jnp.sum(kernel(x, x) ** 2) + jnp.sum(kernel(x, z) ** 2)

    for leaf in jax.tree.leaves(jax.jit(jax.value_and_grad(total, argnums=(0, 1)))(x, x + 0)):
        assert leaf.dtype == dtype
        assert np.all(np.isfinite(leaf))


def test_only_zeros_have_a_finite_value_and_derivative():
    x = jnp.zeros((2, 5, 6, 2))
    value, slope = jax.value_and_grad(lambda x: jnp.sum(ConvNTK(2, 2)(x, x)))(x)
    assert value == 0
    assert np.all(slope == 0)


def test_an_image_and_its_opposite_or_multiple_keep_no_rounding():
    # One pixel: the angle is 0 or pi, whose rounding would be 1e-8.
    x = images(6, shape=(1, 1, 3))
    rows = x[:, 0, 0]
    for factor in (1.0, 3.0, 0.1):
        got = np.diagonal(ConvNTK(1, 1)(x, factor * x))
        np.testing.assert_allclose(got, factor * np.sum(rows**2, axis=1) * 2 / 3, rtol=1e-15)
        assert np.all(np.abs(np.diagonal(ConvNTK(1, 1)(x, -factor * x))) < 1e-15)


@pytest.mark.parametrize(("dtype", "floor"), [(np.float64, 1e-7), (np.float32, 3e-3)])
def test_nearly_equal_patches_keep_their_angle_down_to_the_floor(dtype, floor):
    angles = floor * np.array([0.1, 0.5, 2.0, 10.0, 100.0])
    x = jnp.asarray([[1.0, 0.0]], dtype).reshape(1, 1, 1, 2)
    z = jnp.asarray(np.stack([np.cos(angles), np.sin(angles)], axis=1), dtype).reshape(5, 1, 1, 2)
    got = 1 - np.asarray(ConvNTK(1, 1)(x, z)[0], np.float64)
    t = np.arctan2(*np.asarray(z, np.float64)[:, 0, 0, ::-1].T)
    true = 1 - ((np.sin(t) + (np.pi - t) * np.cos(t)) / np.pi + (1 - t / np.pi) * np.cos(t)) / 2
    # Off by the floor at most, and above it by rounding of the gap over the angle.
    assert np.all(np.abs(got - true) <= np.where(t < floor, t / 6, 4 * np.finfo(dtype).eps / t))
    assert got[0] == 0
    assert got[2] > 0


def test_one_image_of_one_channel_is_enough():
    x = images(1, shape=(5, 6, 1))
    assert ConvNTK(2, 2)(x, x).shape == (1, 1)
    machine = fit_kernel_machine(ConvNTK(2, 2), x, jnp.ones((1, 1)), ridge=0.0)
    np.testing.assert_allclose(machine(x), 1.0, rtol=1e-12)


def test_a_kernel_machine_takes_images():
    x, targets = images(6), jnp.asarray(np.eye(6)[:, :2])
    kernel = ConvNTK(2, 2)
    machine = fit_kernel_machine(kernel, x, targets, ridge=0.1)
    true = np.linalg.solve(np.asarray(kernel(x, x)) + 0.1 * np.eye(6), targets)
    assert_close(machine.weights, true, np.float64, "solve")
    assert_close(machine(images(3, 1)), np.asarray(kernel(images(3, 1), x)) @ true, np.float64, "solve")
    weighted = fit_kernel_machine(kernel, x, targets, ridge=0.1, sample_weights=jnp.full(6, 2.0))
    assert_close(
        weighted.weights, fit_kernel_machine(kernel, x, targets, ridge=0.05).weights, np.float64, "solve"
    )
    assert isinstance(kernel, ImageKernel)
    assert not isinstance(kernel, ClosedFormKernel)


def test_a_kernel_machine_refuses_what_are_no_images_or_no_image_kernel():
    x, targets = images(6), jnp.ones((6, 1))

    def refused(match, kernel, x, targets):
        with as_a_user(), pytest.raises(ValueError, match=match):
            fit_kernel_machine(kernel, x, targets, ridge=0.1)

    refused(r"images only to a kernel of images", NTK(2), x, targets)
    refused(r"for one output pass targets\[:, None\]", ConvNTK(1, 2), x, targets[:, 0])
    refused(r"same number of rows, at least 1: got 6 and 5", ConvNTK(1, 2), x, targets[:5])
    refused(r"images must be floats .* of shape \(6, 60\)", ConvNTK(1, 2), x.reshape(6, 60), targets)
    refused(
        r"x must be finite: got 1 NaN .* the first in row 4",
        ConvNTK(1, 2),
        x.at[4, 0, 0, 0].set(jnp.nan),
        targets,
    )
    refused(r"share one floating dtype", ConvNTK(1, 2), x, targets.astype(jnp.float32))


@pytest.mark.parametrize(
    ("kernel", "shape", "match"),
    [
        (ConvNTK(1, 6), (2, 5, 6, 2), r"layer 1 receives: got 6 for 5 x 6 of an image of 5 x 6 pixels; take"),
        (
            ConvNTK(3, 3),
            (2, 6, 8, 2),
            r"layer 3 receives: got 3 for 2 x 4 of an image of 6 x 8 .* than 3, or",
        ),
        (ConvNTK(2, 3, stride=2), (2, 6, 8, 2), r"layer 2 receives: got 3 for 2 x 3 of an image of 6 x 8"),
        (
            ConvNTK(1, 3),
            (2, 3, 32, 32),
            r"channels last: got shape \(2, 3, 32, 32\), .* 2 images of 3 channels",
        ),
        (ConvNTK(1, 3, padding="same"), (2, 1, 28, 28), r"channels last: .*images.transpose\(0, 2, 3, 1\)"),
        (ConvNTK(1, 3), (6, 2, 8, 8), r"channels last: .* 6 images of 2 channels"),
        (ConvNTK(1, 3), (6, 4, 8, 8), r"channels last: .* 6 images of 4 channels"),
        (
            ConvNTK(1, 3),
            (5, 6, 2),
            r"of shape \(n, height, width, channels\): got float64 of shape \(5, 6, 2\)",
        ),
        (ConvNTK(1, 3), (0, 5, 6, 2), r"images must be floats .* got float64 of shape \(0, 5, 6, 2\)"),
        (
            ConvNTK(1, 3, patch_root=jnp.eye(9)),
            (2, 5, 6, 2),
            r"patch_root must have 18 rows, .* 3 x 3 .* 2 chan",
        ),
    ],
)
def test_images_that_a_network_cannot_take_are_refused(kernel, shape, match):
    x = jnp.ones(shape)
    with as_a_user(), pytest.raises(ValueError, match=match):
        kernel(x, x)


def test_pairs_of_images_that_do_not_fit_together_are_refused():
    x = images(2)
    with as_a_user():
        with pytest.raises(ValueError, match=r"one height, width and .* got \(5, 6, 1\) and \(5, 6, 3\)"):
            ConvNTK(1, 2)(images(2, shape=(5, 6, 1)), images(2, shape=(5, 6, 3)))
        with pytest.raises(ValueError, match=r"images must be floats .* got int64 of shape \(2, 5, 6, 2\)"):
            ConvNTK(1, 2)(x, x.astype(int))
        with pytest.raises(
            ValueError, match=r"share one dtype: got images in float32, expected float64; use"
        ):
            ConvNTK(1, 2)(x.astype(np.float32), x)
        rooted = ConvNTK(1, 2, patch_root=jnp.eye(8))
        with pytest.raises(ValueError, match=r"one height, width and .* got \(5, 6, 1\) and \(5, 6, 2\)"):
            rooted(x[..., :1], x)
        with pytest.raises(
            ValueError, match=r"share one dtype: got images in float32, expected float64; use"
        ):
            rooted(x.astype(np.float32), x.astype(np.float32))


def test_few_rows_of_few_pixels_are_images():
    for shape in ((2, 3, 4, 4), (2, 4, 4, 6), (2, 1, 20, 5)):
        x = images(2, shape=shape[1:])
        assert ConvNTK(1, 1)(x, x).shape == (2, 2)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        *(({"depth": n}, rf"depth must be .* of at least 1: got {n}") for n in (0, -1, 1.5, True)),
        ({"patch_size": 0}, r"patch_size must be a whole number of at least 1: got 0"),
        ({"stride": 0}, r"stride must be a whole number of at least 1: got 0"),
        ({"tile_bytes": 0}, r"tile_bytes must be a whole number of at least 1: got 0"),
        ({"pooling": "no"}, r"pooling must be True or False: got 'no'"),
        ({"patch_root": [[1.0]]}, r"patch_root must be an array: got list; use jnp.asarray"),
        ({"padding": "full"}, r"padding must be one of valid, same: got 'full'"),
        ({"patch_root": jnp.ones((2, 3))}, r"patch_root must be a square matrix: got shape \(2, 3\)"),
        ({"patch_root": jnp.ones(2)}, r"patch_root must be a square matrix: got shape \(2,\)"),
        ({"patch_root": jnp.full((2, 2), jnp.nan)}, r"patch_root must be finite: got NaN or infinite"),
    ],
)
def test_hyper_parameters_out_of_range_are_refused(options, match):
    with as_a_user():
        kernel = ConvNTK(**{"depth": 1, "patch_size": 1} | options)
        with pytest.raises(ValueError, match=match):
            kernel.check()
        with pytest.raises(ValueError, match=match):
            kernel(images(2), images(2))


def test_a_root_may_be_traced_or_closed_over():
    x, root = images(2), 2 * jnp.eye(8)
    plain = ConvNTK(1, 2)(x, x)
    with_root = jax.jit(lambda root: ConvNTK(1, 2, patch_root=root)(x, x))
    assert_close(with_root(root), 4 * plain, np.float64, "entry")
    assert_close(jax.jit(lambda x: ConvNTK(1, 2, patch_root=root)(x, x))(x), 4 * plain, np.float64, "entry")
    assert np.all(np.isnan(with_root(root.at[0, 0].set(jnp.nan))))


def test_pixels_that_are_not_numbers_stay_visible():
    x = images(3).at[1, 2, 2, 0].set(jnp.nan)
    gram = ConvNTK(2, 2)(x, x)
    assert np.all(np.isnan(gram[1]) & np.isnan(gram[:, 1]))
    assert np.all(np.isfinite(gram[0, [0, 2]]))


@pytest.mark.parametrize("pooling", [False, True])
def test_memory_beside_the_matrix_is_that_of_a_few_tiles(pooling):
    x = jax.ShapeDtypeStruct((200, 8, 8, 1), np.float64)
    matrix, patches = 200 * 200 * 8, 2 * 200 * 64 * 8
    for tile_bytes in (2**17, 2**20):
        kernel = ConvNTK(2, 3, pooling, "same", tile_bytes=tile_bytes)
        program = jax.jit(lambda x, kernel=kernel: kernel(x, x)).lower(x).compile()
        # Untiled, pairs of positions alone take 160 tiles of the smaller kind, or 10,000 with pooling.
        beside = program.memory_analysis().temp_size_in_bytes
        assert beside < 4.5 * tile_bytes + 2.5 * matrix + patches
