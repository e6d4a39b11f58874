"""The patch AGOP beside loops, Jacobians by JAX with patches as independent variables, and its laws."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnc_jax import ConvNTK, KernelMachine, Laplace, patch_agop
from dnc_jax.agop_patches import patch_agop_core
from dnc_jax.kernels.conv_recursion import kernel_of_pair, pair_of
from dnc_jax.kernels.convolutional import Patches
from dnc_jax.patches import image_patches
from tests import conv_oracles
from tests.builders import as_a_user, assert_close, rotation
from tests.conv_oracles import Network
from tests.instances import DTYPES

SHAPE = (5, 4, 2)
CASES = [
    (Network(1, 2), False),
    (Network(1, 3, True), True),
    (Network(1, 4, padding="same", stride=2), True),
    (Network(2, 2, True, "same", 2), False),
    (Network(2, 3, padding="same"), False),
    (Network(3, 1, True, stride=2), True),
    (Network(3, 2, padding="same", stride=2), True),
]


def images(num, seed=0, dtype=np.float64):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(num, *SHAPE)), dtype)


def root_of(network, channels=2):
    dim = network.patch_size**2 * channels
    return rotation(dim, 1) * np.linspace(0.5, 1.5, dim) @ rotation(dim, 2)


def machine_of(network, root=None, num_outputs=3, num_centers=3, dtype=np.float64, **options):
    weights = np.random.default_rng(2).normal(size=(num_centers, num_outputs))
    root = None if root is None else jnp.asarray(root, dtype)
    kernel = ConvNTK(*network, patch_root=root, **options)
    return KernelMachine(kernel, images(num_centers, dtype=dtype), jnp.asarray(weights, dtype))


def truth(machine, x, network, root=None):
    return conv_oracles.patch_agop(x, machine.centers, machine.weights, network, root)


@pytest.mark.parametrize(("network", "has_root"), CASES)
def test_it_is_the_oracles_at_the_centers_and_at_other_images(network, has_root):
    root = root_of(network) if has_root else None
    machine, others = machine_of(network, root), images(2, 1)
    assert_close(patch_agop(machine), truth(machine, machine.centers, network, root), np.float64, "solve")
    assert_close(patch_agop(machine, others), truth(machine, others, network, root), np.float64, "solve")


@pytest.mark.parametrize("pooling", [False, True])
def test_gradients_of_the_oracle_are_differences_of_its_kernel(pooling):
    network, step = Network(3, 2, pooling, "same", 2), 1e-6
    shape, _ = conv_oracles.windows(SHAPE[:2], 2, "same", 2)
    u, v = (conv_oracles.patches(image, 2, "same", 2) for image in np.asarray(images(2)))
    root = root_of(network)
    of_u = partial(conv_oracles.of_patches, network, shape, v=v, patch_root=root)
    got = of_u(u, slopes=True)[1]
    for index in np.ndindex(*u.shape):
        shift = np.zeros_like(u)
        shift[index] = step
        numerical = (of_u(u + shift)[0] - of_u(u - shift)[0]) / (2 * step)
        np.testing.assert_allclose(got[index], numerical, atol=1e-9)


@pytest.mark.parametrize("pooling", [False, True])
def test_it_is_jacobians_by_independent_patches(pooling):
    network = Network(2, 2, pooling, "same", 2)
    root = jnp.asarray(root_of(network))
    machine, others = machine_of(network, root), images(2, 1)

    def seen(patches):
        values = jnp.moveaxis(patches, 0, 2) @ root * (2 / 8) ** 0.5
        return Patches(values, jnp.sum(values**2, axis=-1), are_pixels=False)

    def predict(patches):
        own = seen(patches[None])
        other = seen(image_patches(machine.centers, 2, "same", 2))
        gram = kernel_of_pair(network_of(network), pair_of(network_of(network), own, other))
        return gram[0] @ machine.weights

    for x in (others, machine.centers):
        jacobians = jax.jit(jax.vmap(jax.jacrev(predict)))(image_patches(x, 2, "same", 2))
        flat = jacobians.reshape(-1, 8)
        true = flat.T @ flat / (len(x) * 6)
        assert_close(patch_agop(machine, x), true, np.float64, "product")


def network_of(network):
    return ConvNTK(*network).convolutions


@pytest.mark.parametrize("num_outputs", [1, 12])
def test_any_number_of_outputs_is_the_sum_over_them(num_outputs):
    network = Network(2, 2, True, "same", 2)
    machine = machine_of(network, num_outputs=num_outputs)
    assert_close(patch_agop(machine), truth(machine, machine.centers, network), np.float64, "solve")


@pytest.mark.parametrize("pooling", [False, True])
@pytest.mark.parametrize("tile_bytes", [1, 2**13])
def test_blocks_of_any_size_give_the_same_matrix(pooling, tile_bytes):
    # From blocks of one image whose patches are computed anew each time, to a few that do not divide 5 or 3.
    network = Network(2, 2, pooling, "same", 2)
    root = root_of(network)
    machine = machine_of(network, root, num_centers=5, tile_bytes=tile_bytes)
    whole = machine_of(network, root, num_centers=5)
    assert_close(patch_agop(machine), patch_agop(whole), np.float64, "product")
    x = images(3, 1)
    assert_close(patch_agop(machine, x), patch_agop(whole, x), np.float64, "product")


@pytest.mark.parametrize("dtype", DTYPES)
def test_it_is_symmetric_positive_semidefinite_and_at_the_centers_by_default(dtype):
    machine = machine_of(Network(2, 2, padding="same", stride=2), dtype=dtype)
    matrix = patch_agop(machine)
    assert matrix.dtype == dtype
    np.testing.assert_array_equal(matrix, matrix.T)
    values = np.linalg.eigvalsh(np.asarray(matrix, np.float64))
    assert values.min() > -16 * np.finfo(dtype).eps * values.max()
    assert_close(patch_agop(machine, machine.centers), matrix, dtype, "entry")
    assert_close(patch_agop(machine, machine.centers + 0), matrix, dtype, "product")
    double = jax.tree.map(lambda a: a.astype(jnp.float64), machine)
    np.testing.assert_allclose(
        matrix, patch_agop(double), atol=5e-3 * values.max() if dtype == np.float32 else 0
    )


def test_it_is_quadratic_in_the_weights_and_does_not_know_the_scale_of_images():
    network = Network(2, 2, padding="same", stride=2)
    machine = machine_of(network)
    plain = patch_agop(machine)
    twice = KernelMachine(machine.kernel, machine.centers, 2 * machine.weights)
    assert_close(patch_agop(twice), 4 * plain, np.float64, "entry")
    # The gradient of a homogeneous kernel scales with the centers alone.
    scaled = KernelMachine(machine.kernel, 1e-100 * machine.centers, machine.weights)
    assert_close(1e200 * patch_agop(scaled), plain, np.float64, "product")
    assert_close(1e200 * patch_agop(scaled, machine.centers), plain, np.float64, "product")


def test_it_is_finite_at_twins_multiples_opposites_and_zeros():
    network = Network(2, 2, True, "same", 2)
    x = images(1)
    x = jnp.concatenate([x, x, 4 * x, -x, x.at[:, :3].set(0), jnp.ones_like(x), jnp.zeros_like(x)])
    weights = jnp.asarray(np.random.default_rng(2).normal(size=(7, 2)))
    machine = KernelMachine(ConvNTK(*network), x, weights)
    assert_close(patch_agop(machine), truth(machine, x, network), np.float64, "solve")
    single = jax.tree.map(lambda a: a.astype(jnp.float32), machine)
    assert np.all(np.isfinite(patch_agop(single)))


def test_it_is_the_same_compiled_and_mapped_over_weights():
    machine = machine_of(Network(2, 2, padding="same", stride=2))
    weights = jnp.stack([machine.weights, machine.weights[::-1]])

    def of_weights(weights):
        return patch_agop_core(KernelMachine(machine.kernel, machine.centers, weights))

    alone = [patch_agop(KernelMachine(machine.kernel, machine.centers, w)) for w in weights]
    assert_close(jax.jit(jax.vmap(of_weights))(weights), np.stack(alone), np.float64, "product")


def test_every_option_of_the_network_changes_it():
    base = Network(2, 2)
    others = [
        base._replace(depth=1),
        base._replace(pooling=True),
        base._replace(padding="same"),
        base._replace(stride=2),
    ]
    matrices = [np.asarray(patch_agop(machine_of(network))) for network in (base, *others)]
    matrices.append(np.asarray(patch_agop(machine_of(base, root_of(base)))))
    for i, matrix in enumerate(matrices):
        assert all(np.max(np.abs(matrix - other)) > 1e-4 for other in matrices[i + 1 :])


def test_other_kernels_and_images_that_do_not_fit_are_refused():
    with pytest.raises(
        ValueError, match=r"a patch AGOP needs a machine with a ConvNTK: got Laplace; kernel_agop"
    ):
        patch_agop(KernelMachine(Laplace(1.0), jnp.ones((2, 3)), jnp.ones((2, 1))))
    machine = machine_of(Network(1, 2))
    with as_a_user(), pytest.raises(ValueError, match=r"got \(5, 4, 3\) and \(5, 4, 2\)"):
        patch_agop(machine, jnp.ones((2, 5, 4, 3)))
    with as_a_user(), pytest.raises(ValueError, match=r"images must be floats .* got int64"):
        patch_agop(machine, jnp.ones((2, 5, 4, 2), int))
    with pytest.raises(ValueError, match=r"images must be finite: got 1 NaN or infinite values in 1 rows"):
        patch_agop(machine, jnp.ones((2, 5, 4, 2)).at[1, 2, 0, 1].set(jnp.nan))
    with pytest.raises(ValueError, match=r"share one dtype: got images in float32, expected float64"):
        patch_agop(machine, jnp.ones((2, 5, 4, 2), np.float32))
