"""The cost of a layer: flops as counted by hand, bytes as the compiler of the program counts them."""

import dataclasses
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType

from dnc_jax import Laplace
from dnc_jax.agop_cost import NARROW_PRODUCTS, class_free_is_cheaper
from dnc_jax.cost import (
    CG_STEPS,
    EIGH_FLOPS,
    KERNEL_FLOPS,
    PASS_FLOPS,
    LayerMethod,
    LayerSize,
    layer_cost,
)
from dnc_jax.deep_rfm import deep_rfm_layer_core
from dnc_jax.deep_rfm_sharded import sharded_layer_core
from dnc_jax.features import ReLUFeatures
from dnc_jax.matrix_free import ConjugateGradients
from dnc_jax.mixed_solver import mixed_cholesky_solve
from dnc_jax.solvers import POWER_STEPS, cholesky_solve, eigh_solve, quick_cholesky_solve

SMALL_TILES = ConjugateGradients(rank=128, tile_bytes=2**18)
BY_CG, DRAWN = LayerMethod(SMALL_TILES), LayerMethod(SMALL_TILES, agop_size=300)
WITHOUT_TILES = LayerMethod(dataclasses.replace(SMALL_TILES, keep="nothing"), agop_size=300)
ROUNDED = LayerMethod(dataclasses.replace(SMALL_TILES, keep="float32"), agop_size=300)
MANY_PIVOTS = LayerMethod(dataclasses.replace(SMALL_TILES, rank=3072, keep="nothing"), agop_size=300)
MIXED = LayerMethod(mixed_cholesky_solve, mixed=True)


def compiled_fit(size, method, dtype):
    """What the compiled fit of a layer holds on one device."""

    def shape(*sizes, dtype=dtype):
        return jax.ShapeDtypeStruct(sizes, dtype)

    n, d, p, c = size.num_train, size.in_dim, size.width, size.num_outputs
    core = deep_rfm_layer_core
    if method.num_devices > 1:
        devices = jax.devices()[: method.num_devices]
        mesh = jax.make_mesh((method.num_devices,), ("rows",), devices=devices, axis_types=(AxisType.Auto,))
        core = partial(sharded_layer_core, mesh=mesh)
    if method.mixed:
        core = partial(core, mixed=True)
    options = {"num_iters": method.num_iters, "solver": method.solver}
    core = partial(core, kernel=Laplace(2.0), ridge=1e-3, **options)
    rows = None if method.agop_size is None else shape(method.agop_size, dtype=jnp.int64)
    features = jax.eval_shape(ReLUFeatures, shape(d, p))
    program = jax.jit(core).lower(shape(n, d), shape(n, c), features, agop_rows=rows).compile()
    return program.memory_analysis()


def compiled_bytes(size, method, dtype):
    """Arguments, results and temporary arrays of the compiled fit of a layer."""
    held = compiled_fit(size, method, dtype)
    return held.argument_size_in_bytes + held.output_size_in_bytes + held.temp_size_in_bytes


@pytest.mark.parametrize(
    ("sizes", "method", "dtype"),
    [
        # Direct: one product for all outputs, two of them, and one with a rest.
        ((1500, 50, 3), LayerMethod(), "float64"),
        ((1000, 20, 10), LayerMethod(), "float32"),
        ((500, 250, 2), LayerMethod(), "float64"),
        ((1000, 250, 3), LayerMethod(), "float64"),
        # Class-free, in one block of rows and in several.
        ((500, 100, 10), LayerMethod(), "float64"),
        ((2000, 500, 10), LayerMethod(), "float64"),
        ((1000, 500, 10), LayerMethod(eigh_solve), "float32"),
        ((1500, 50, 3), LayerMethod(eigh_solve), "float64"),
        ((1000, 100, 1), LayerMethod(quick_cholesky_solve), "float64"),
        # More inputs than points.
        ((300, 1000, 10), LayerMethod(num_iters=2), "float64"),
        ((1000, 100, 3), LayerMethod(agop_size=100), "float64"),
        ((1500, 50, 3), MIXED, "float64"),
        ((500, 100, 10), MIXED, "float64"),
        ((2000, 500, 10), MIXED, "float64"),
        ((1000, 100, 3), dataclasses.replace(MIXED, agop_size=100), "float64"),
        ((2000, 100, 10), BY_CG, "float64"),
        ((2000, 100, 10), dataclasses.replace(DRAWN, num_iters=2), "float64"),
        ((4000, 100, 1), WITHOUT_TILES, "float64"),
        ((2000, 300, 10), ROUNDED, "float64"),
        ((2000, 300, 10), BY_CG, "float32"),
        # Rows that devices share.
        ((2400, 100, 10), dataclasses.replace(BY_CG, num_devices=2), "float64"),
        ((2400, 100, 10), dataclasses.replace(DRAWN, num_devices=4), "float64"),
        # Many pivots beside the rows of a device.
        ((4000, 64, 10), MANY_PIVOTS, "float64"),
    ],
)
def test_the_bytes_of_a_fit_are_those_of_the_compiled_program(sizes, method, dtype):
    n, d, c = sizes
    size = LayerSize(num_train=n, num_test=0, in_dim=d, width=d, num_outputs=c)
    predicted = layer_cost(size, jnp.dtype(dtype).itemsize, method).bytes.of_fit
    assert 1 <= predicted / compiled_bytes(size, method, jnp.dtype(dtype)) <= 1.3


def test_more_updates_of_the_matrix_take_no_more_memory():
    size = LayerSize(num_train=600, num_test=0, in_dim=40, width=40, num_outputs=3)
    once, thrice = (
        compiled_fit(size, dataclasses.replace(BY_CG, num_iters=number), jnp.dtype("float64"))
        for number in (1, 3)
    )
    assert thrice.temp_size_in_bytes < 1.25 * once.temp_size_in_bytes


def test_the_flops_of_a_layer_are_counted_by_its_parts():
    n, t, d, p, c = 600, 50, 20, 30, 3
    flops = layer_cost(LayerSize(n, t, d, p, c), 8).flops
    assert flops.distances == n * n * (2 * d + KERNEL_FLOPS)
    assert flops.solution == pytest.approx(n**3 / 3 + 4 * n * n * c)
    assert flops.condition_estimate == 2 * (POWER_STEPS + 1) * PASS_FLOPS * n * n
    assert flops.agop == 2 * c * n * (n * d + d * d + n)
    assert flops.root == (EIGH_FLOPS + 2) * d**3
    assert flops.stages == 2 * (n + t) * d * (d + p)
    assert flops.predictions == t * n * (2 * d + 2 * c + KERNEL_FLOPS)
    assert flops.total == pytest.approx(sum(flops._asdict().values()))


def test_the_solvers_differ_in_factorization_and_condition_number():
    n, size = 600, LayerSize(600, 0, 20, 20, 3)
    exact, by_cholesky, quick = (
        layer_cost(size, 8, LayerMethod(solver)).flops
        for solver in (eigh_solve, cholesky_solve, quick_cholesky_solve)
    )
    assert exact.solution - by_cholesky.solution == pytest.approx((EIGH_FLOPS - 1 / 3) * n**3)
    assert exact.condition_estimate == quick.condition_estimate == 0
    assert quick.solution == by_cholesky.solution
    with pytest.raises(ValueError, match=r"solver must be cholesky_solve.* ConjugateGradients.*: got"):
        layer_cost(size, 8, LayerMethod(lambda a, targets: cholesky_solve(a, targets)))


def test_the_class_free_form_is_counted_as_it_is_computed():
    n, d, c = 900, 100, 100
    assert class_free_is_cheaper(n, d, n, c, at_centers=True)
    halves = (n**3 + n * n * d + 3 * n * n * c) * (1 + 1 / 3) + 2 * n * d * d + 2 * n * n * c
    assert layer_cost(LayerSize(n, 0, d, d, c), 8).flops.agop == pytest.approx(NARROW_PRODUCTS * halves)


@pytest.mark.parametrize(
    ("sizes", "direct_up_to", "class_free_from"),
    [((1000, 256), 3, 6), ((2000, 256), 5, 8), ((2000, 1000), 1, 3), ((3000, 512), 3, 6)],
)
def test_the_form_is_chosen_as_it_was_by_the_clock(sizes, direct_up_to, class_free_from):
    n, d = sizes
    assert not class_free_is_cheaper(n, d, n, direct_up_to, at_centers=True)
    assert class_free_is_cheaper(n, d, n, class_free_from, at_centers=True)


def test_away_from_the_centers_no_product_is_halved():
    n, d = 10, 20
    class_free = 2 * n**3 + 4 * n * n * d + 6 * n * d * d
    of_output = 2 * n * (n * d + d * d + n) - 6 * n * n
    first = class_free // of_output + 1
    assert not class_free_is_cheaper(n, d, n, first - 1, at_centers=False)
    assert class_free_is_cheaper(n, d, n, first, at_centers=False)


def test_conjugate_gradients_pay_for_products_and_for_tiles_that_are_not_kept():
    n, d, c, r = 2000, 100, 10, 128
    size, num_blocks, rows = LayerSize(n, 0, d, d, c), 12, 167
    entries = num_blocks * 7 * rows**2
    made = entries * (2 * d + KERNEL_FLOPS)
    kept, without, rounded = (layer_cost(size, 8, method).flops for method in (DRAWN, WITHOUT_TILES, ROUNDED))
    assert kept.distances == made
    assert without.distances == made * (CG_STEPS + 1)
    assert rounded.distances == 3 * made
    products = (CG_STEPS + 1) * entries * (4 * c + 2 * PASS_FLOPS)
    preconditioner = 6 * n * r * r + 2 * n * r * d + EIGH_FLOPS * r**3
    vectors = CG_STEPS * (12 * n * r * c + 20 * n * c * c)
    assert kept.solution == without.solution == products + preconditioner + vectors
    assert kept.agop == 300 * n * (2 * d + KERNEL_FLOPS) + 2 * c * 300 * (n * d + d * d + n)
    whole = layer_cost(size, 8, BY_CG).flops
    assert whole.agop == pytest.approx(kept.agop * n / 300)


@pytest.mark.parametrize("method", [LayerMethod(), LayerMethod(eigh_solve), BY_CG, WITHOUT_TILES])
@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(LayerSize)])
def test_more_of_anything_costs_more(name, method):
    size = LayerSize(1000, 500, 100, 100, 10)
    costs = [
        layer_cost(dataclasses.replace(size, **{name: factor * getattr(size, name)}), 8, method)
        for factor in (1, 2, 4)
    ]
    for less, more in pairwise(costs):
        assert less.flops.total < more.flops.total
        # More outputs may turn to a form that holds a little less.
        assert less.bytes.peak <= 1.1 * more.bytes.peak


def test_each_update_of_the_matrix_is_a_fit_of_its_own():
    size = LayerSize(1000, 0, 100, 100, 10)
    once, twice = (layer_cost(size, 8, LayerMethod(num_iters=number)).flops for number in (1, 2))
    for part in ("distances", "solution", "condition_estimate", "agop"):
        assert getattr(twice, part) == 2 * getattr(once, part)
    assert twice.stages == once.stages


def test_the_peak_is_that_of_the_stages_where_the_width_is_large():
    held = layer_cost(LayerSize(100, 100, 10, 10_000, 2), 8).bytes
    assert held.peak == held.data + held.stages > held.of_fit
