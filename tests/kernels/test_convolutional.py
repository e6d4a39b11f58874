"""The convolutional tangent kernel beside loops over pairs, known numbers, and what it keeps exactly."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnc_jax import NTK, ConvNTK
from tests import conv_oracles
from tests.builders import assert_close, over_devices, rotation
from tests.conv_oracles import Network
from tests.instances import DTYPES

# Values of the reference implementation, neural-tangents, in float64, by depth and pooling: patches of 3 x 3,
# padding "same", three images against two.
REFERENCE = {
    (1, False): [
        [0.16573583277112558, 0.285758003475218],
        [0.3779750408172467, 0.24840714838685957],
        [0.46696300107464217, 0.46682788040804074],
    ],
    (1, True): [
        [0.22086429434431662, 0.2622540695139756],
        [0.2344821409844918, 0.2639996228828311],
        [0.28409491535988085, 0.3258259688141127],
    ],
    (2, False): [
        [0.3534445566440127, 0.4743736608992167],
        [0.5147176350466065, 0.45080071183884446],
        [0.6463218248596756, 0.6943489207389759],
    ],
    (2, True): [
        [0.3487544372943814, 0.39703600531340366],
        [0.35472492005859924, 0.3935748955087256],
        [0.4409957160999771, 0.493362306021103],
    ],
}
# All of them, in a file that may lie beside the repository.
GOLDEN = Path(__file__).parents[2].parent / "shared" / "data" / "ntk_golden.npz"

# Patches of every size, even ones too, at every depth, with each padding, stride and read-out.
CASES = [
    (Network(1, 1), False),
    (Network(1, 2, stride=2), True),
    (Network(1, 3, True), True),
    (Network(1, 4, padding="same"), False),
    (Network(1, 4, True, "same", 2), True),
    (Network(2, 1, True, "same"), True),
    (Network(2, 2, True, "same", 2), False),
    (Network(2, 3), True),
    (Network(2, 3, padding="same", stride=2), True),
    (Network(2, 4, True), False),
    (Network(3, 1, stride=2), True),
    (Network(3, 2, True, stride=1), True),
    (Network(3, 2, padding="same"), False),
    (Network(3, 3, padding="same", stride=2), False),
    (Network(3, 4, True, "same"), True),
]


def images(num, seed=0, shape=(8, 7, 2), dtype=np.float64):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(num, *shape)), dtype)


def root_of(network, channels=2):
    dim = network.patch_size**2 * channels
    return rotation(dim, 1) * np.linspace(0.5, 1.5, dim) @ rotation(dim, 2)


def kernel_of(network, root=None, **options):
    return ConvNTK(*network, patch_root=None if root is None else jnp.asarray(root), **options)


@pytest.mark.parametrize(("network", "has_root"), CASES)
def test_gram_matrix_is_the_oracles(network, has_root):
    x, z = images(3), images(2, 1)
    root = root_of(network) if has_root else None
    kernel = kernel_of(network, root)
    assert_close(kernel(x, z), conv_oracles.gram(x, z, network, root), np.float64, "entry")
    assert_close(kernel(x, x), conv_oracles.gram(x, x, network, root), np.float64, "entry")


def reference_images():
    rng = np.random.default_rng(0)
    rng.normal(size=9 * 8)
    return jnp.asarray(rng.normal(size=(3, 6, 6, 2))), jnp.asarray(rng.normal(size=(2, 6, 6, 2)))


@pytest.mark.parametrize(("depth", "pooling"), REFERENCE)
def test_it_is_the_reference(depth, pooling):
    got = ConvNTK(depth, 3, pooling, "same")(*reference_images())
    np.testing.assert_allclose(got, REFERENCE[depth, pooling], rtol=0, atol=1e-14)


@pytest.mark.skipif(not GOLDEN.exists(), reason="no golden values beside the repository")
@pytest.mark.parametrize(("depth", "pooling"), REFERENCE)
def test_it_is_the_golden_values_beside_the_repository(depth, pooling):
    golden = np.load(GOLDEN)
    got = ConvNTK(depth, 3, pooling, "same")(jnp.asarray(golden["I"]), jnp.asarray(golden["J"]))
    np.testing.assert_allclose(got, golden[f"cntk_d{depth}_pool{int(pooling)}"], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("pooling", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_an_image_of_one_pixel_is_a_row(depth, pooling):
    x, z = images(4, shape=(1, 1, 5)), images(3, 1, shape=(1, 1, 5))
    kernel = ConvNTK(depth, 1, pooling)
    assert_close(kernel(x, z), NTK(depth)(x[:, 0, 0], z[:, 0, 0]), np.float64, "entry")


def test_one_patch_of_the_whole_image_is_a_row():
    x, z = images(4, shape=(3, 3, 2)), images(3, 1, shape=(3, 3, 2))
    assert_close(ConvNTK(1, 3)(x, z), NTK(1)(x.reshape(4, 18), z.reshape(3, 18)), np.float64, "entry")


@pytest.mark.parametrize("pooling", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_it_is_symmetric_and_positive_semidefinite(pooling, dtype):
    kernel, x = ConvNTK(2, 3, pooling, "same", 2), with_special_images(dtype)
    gram = np.asarray(kernel(x, x), np.float64)
    assert_close(kernel(x, x).T, gram, dtype, "entry")
    values = np.linalg.eigvalsh(gram)
    assert values.min() > -64 * np.finfo(dtype).eps * values.max()
    assert_close(kernel(x, x + 0), gram, dtype, "entry")


def with_special_images(dtype=np.float64):
    """A twin, multiples, an opposite, patches of zeros, a constant image, and zeros alone."""
    x = images(2)
    holed = x[:1].at[:, :5].set(0)
    special = [x, x[:1], 4 * x[:1], -x[1:], holed, jnp.ones((1, 8, 7, 2)), jnp.zeros((1, 8, 7, 2))]
    return jnp.concatenate(special).astype(dtype)


@pytest.mark.parametrize("pooling", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_special_images_have_the_oracles_kernel(pooling, dtype):
    network, x = Network(2, 3, pooling, "same", 2), with_special_images(dtype)
    assert_close(kernel_of(network)(x, x + 0), conv_oracles.gram(x, x, network), dtype, "product")
    root = root_of(network)
    true = conv_oracles.gram(x, x, network, root.astype(dtype))
    assert_close(kernel_of(network, root.astype(dtype))(x, x), true, dtype, "product")


@pytest.mark.parametrize("scale", [1e-150, 1e-20, 2.0**10, 1e150])
def test_it_is_homogeneous_in_the_scale_of_its_images(scale):
    x, kernel = images(3), ConvNTK(2, 3, True, "same", 2)
    np.testing.assert_allclose(kernel(scale * x, scale * x) / scale, scale * kernel(x, x), rtol=1e-13)
    z = images(2, 1)
    np.testing.assert_allclose(kernel(scale * x, z), scale * kernel(x, z), rtol=1e-13)


@pytest.mark.parametrize(("network", "axes"), [(Network(2, 3, True), (1,)), (Network(2, 3, True), (1, 2))])
def test_flipping_all_images_changes_nothing(network, axes):
    x, z = images(3), images(2, 1)
    kernel = kernel_of(network)
    assert_close(kernel(jnp.flip(x, axes), jnp.flip(z, axes)), kernel(x, z), np.float64, "entry")
    assert np.max(np.abs(kernel(jnp.flip(x, axes), z) - kernel(x, z))) > 1e-3


def test_exchanging_rows_and_columns_or_channels_of_all_images_changes_nothing():
    x, z = images(3, shape=(7, 7, 2)), images(2, 1, shape=(7, 7, 2))
    kernel = ConvNTK(2, 2, False, "same", 2)
    assert_close(kernel(x.transpose(0, 2, 1, 3), z.transpose(0, 2, 1, 3)), kernel(x, z), np.float64, "entry")
    assert_close(kernel(x[..., ::-1], z[..., ::-1]), kernel(x, z), np.float64, "entry")


def test_the_root_of_a_rotation_changes_nothing_and_that_of_a_multiple_scales():
    x, z = images(3), images(2, 1)
    plain = ConvNTK(2, 3)(x, z)
    assert_close(ConvNTK(2, 3, patch_root=jnp.asarray(rotation(18)))(x, z), plain, np.float64, "entry")
    assert_close(ConvNTK(2, 3, patch_root=3 * jnp.eye(18))(x, z), 9 * plain, np.float64, "entry")


@pytest.mark.parametrize("pooling", [False, True])
@pytest.mark.parametrize("has_root", [False, True])
def test_tiles_of_any_size_give_the_same_matrix(pooling, has_root):
    network = Network(2, 3, pooling, "same", 2)
    x, z, root = images(5), images(3, 1), root_of(network) if has_root else None
    own, across = conv_oracles.gram(x, x, network, root), conv_oracles.gram(x, z, network, root)
    pair_bytes = 6 * 8 * 16 ** (2 if pooling else 1)
    # From tiles of one pair, whose images are not kept, to a few, of sizes that do not divide 5 or 3.
    for tile_bytes in (1, 4 * pair_bytes):
        kernel = kernel_of(network, root, tile_bytes=tile_bytes)
        assert_close(kernel(x, x), own, np.float64, "entry")
        assert_close(kernel(x, z), across, np.float64, "entry")


@pytest.mark.parametrize("pooling", [False, True])
def test_float32_is_close_to_float64(pooling):
    network = Network(3, 3, pooling, "same")
    x, z = images(3), images(2, 1)
    got = kernel_of(network)(x.astype(jnp.float32), z.astype(jnp.float32))
    assert_close(got, conv_oracles.gram(x, z, network), np.float32, "entry")


def test_it_is_the_same_compiled_mapped_scanned_and_sharded():
    x, z = images(8), images(3, 1)
    kernel = kernel_of(Network(2, 3, True, "same", 2), root_of(Network(2, 3)))
    true = kernel(x, z)
    assert_close(jax.jit(lambda kernel, x, z: kernel(x, z))(kernel, x, z), true, np.float64, "entry")
    assert_close(jax.jit(lambda kernel, x: kernel(x, x))(kernel, x), kernel(x, x), np.float64, "entry")
    blocks = x.reshape(4, 2, 8, 7, 2)
    mapped = jax.jit(jax.vmap(lambda block: kernel(block, z)))(blocks)
    assert_close(mapped.reshape(8, 3), true, np.float64, "entry")
    own = jax.jit(jax.vmap(lambda block: kernel(block, block)))(blocks)
    scanned = jax.lax.scan(lambda carry, block: (carry, kernel(block, block)), None, blocks)[1]
    whole = kernel(x, x)
    for got in (own, scanned):
        assert_close(got, np.stack([whole[i : i + 2, i : i + 2] for i in (0, 2, 4, 6)]), np.float64, "entry")
    sharded = over_devices(x)
    assert_close(jax.jit(lambda kernel, x: kernel(x, x))(kernel, sharded), whole, np.float64, "entry")


def test_every_option_changes_the_result():
    x, z = images(3), images(2, 1)
    base = ConvNTK(2, 3)
    others = [
        replace(base, depth=1),
        replace(base, patch_size=2),
        replace(base, pooling=True),
        replace(base, padding="same"),
        replace(base, stride=2),
        replace(base, patch_root=jnp.asarray(root_of(Network(2, 3)))),
    ]
    grams = [np.asarray(kernel(x, z)) for kernel in (base, *others)]
    for i, gram in enumerate(grams):
        assert all(np.max(np.abs(gram - other)) > 1e-3 for other in grams[i + 1 :])
