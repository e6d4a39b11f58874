"""A layer by several devices: the numbers of one, and no whole kernel matrix on any."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from benchmarks import collectives
from dnc_jax import Laplace, fit_deep_rfm, fit_deep_rfm_layer, relu_features
from dnc_jax.deep_rfm_sharded import sharded_layer_core
from dnc_jax.matrix_free import ConjugateGradients
from tests.builders import as_a_user, class_clouds, one_hot_targets

NUM_POINTS, DIM, WIDTH = 240, 6, 16
SOLVER = ConjugateGradients(rank=64, tile_bytes=8 * 30**2, tolerance=1e-13)
OPTIONS = {"kernel": Laplace(2.0), "ridge": 1e-3, "sample_features": partial(relu_features, width=WIDTH)}


def mesh_of(num_devices, axes=("rows",)):
    shape = (num_devices, *[1] * (len(axes) - 1))
    devices = jax.devices()[:num_devices]
    return jax.make_mesh(shape, axes, devices=devices, axis_types=(AxisType.Auto,) * len(axes))


def problem(num_points=NUM_POINTS):
    x, labels = class_clouds([num_points // 4] * 4, DIM, spread=0.5)
    return jnp.asarray(x), jnp.asarray(one_hot_targets(labels, 4))


@pytest.mark.parametrize("num_devices", [2, 4, 8])
@pytest.mark.parametrize("changes", [{}, {"agop_size": 50}, {"num_iters": 2}], ids=str)
def test_devices_give_the_layer_of_one(num_devices, changes):
    x, targets = problem()
    fit = partial(fit_deep_rfm_layer, jax.random.key(0), x, targets, solver=SOLVER, **OPTIONS, **changes)
    one, many = fit(), fit(mesh=mesh_of(num_devices))
    for got, expected in zip(jax.tree.leaves(many), jax.tree.leaves(one), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-9)
    assert len(many.feature_root.sharding.device_set) == num_devices
    machine = many.machine if "num_iters" not in changes else many.machine.machine
    for rows in (machine.centers, machine.weights):
        assert rows.addressable_shards[0].data.shape[0] == NUM_POINTS // num_devices


def test_layers_follow_each_other_on_the_devices():
    x, targets = problem()
    options = {"depth": 3, "solver": SOLVER, **OPTIONS}
    one = fit_deep_rfm(jax.random.key(0), x, targets, **options)
    many = fit_deep_rfm(jax.random.key(0), x, targets, mesh=mesh_of(4), **options)
    np.testing.assert_allclose(many(x), one(x), rtol=1e-7, atol=1e-7)


def compiled(num_devices, num_points):
    core = partial(
        sharded_layer_core, mesh=mesh_of(num_devices), num_iters=1, solver=SOLVER, agop_rows=None, ridge=1e-3
    )
    shapes = [jax.ShapeDtypeStruct((num_points, size), np.float64) for size in (DIM, 4)]
    features = relu_features(jax.random.key(0), DIM, WIDTH)
    return jax.jit(core).lower(*shapes, features, kernel=Laplace(2.0)).compile()


def test_no_device_holds_or_receives_a_whole_kernel_matrix():
    num_points, num_devices = 1200, 8
    program = compiled(num_devices, num_points).as_text()
    # The tiles of a device's own blocks, half of its rows of the matrix and a little.
    assert max(collectives.array_sizes(program)) < 0.65 * num_points**2 / num_devices
    exchanged = [collective.size for collective in collectives.collectives_of(program, num_devices)]
    assert max(exchanged) <= num_points * max(DIM, 4) * 1.1


def test_the_memory_of_a_device_shrinks_with_their_number():
    kept = [compiled(count, 2400).memory_analysis().temp_size_in_bytes for count in (1, 2, 4, 8)]
    for fewer, more in itertools.pairwise(kept):
        assert more < 0.65 * fewer


def test_a_mesh_that_cannot_be_used_is_refused():
    x, targets = problem()
    fit = partial(fit_deep_rfm_layer, jax.random.key(0), x, targets, **OPTIONS)
    with as_a_user():
        with pytest.raises(ValueError, match=r"a mesh needs solver=ConjugateGradients\(\)"):
            fit(mesh=mesh_of(2))
        with pytest.raises(ValueError, match=r"share the rows evenly: .* 7 devices and 240 rows"):
            fit(mesh=mesh_of(7), solver=SOLVER)
        with pytest.raises(ValueError, match=r"one axis .* got axes \('rows', 'more'\)"):
            fit(mesh=mesh_of(2, ("rows", "more")), solver=SOLVER)
