"""What is said of the memory and the time of a run, and what is suggested where it does not fit."""

import dataclasses
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnc_jax import Laplace, fit_deep_rfm_layer, relu_features, unit_rows
from dnc_jax.cost import CG_STEPS, LayerMethod, LayerSize, layer_cost
from dnc_jax.matrix_free import ConjugateGradients
from dnc_jax.matrix_free.solve import kept_bytes
from experiments.support import estimate, layers

GIB = 2**30
DOUBLE, SINGLE = jnp.dtype("float64"), jnp.dtype("float32")
SIZE = LayerSize(num_train=35_000, num_test=1000, in_dim=784, width=1024, num_outputs=10)


@pytest.fixture(autouse=True)
def _known_speed(monkeypatch):
    monkeypatch.setattr(estimate, "matmul_rate", lambda _: 1e12)


def said(free: float, size: LayerSize = SIZE, dtype: jnp.dtype = DOUBLE, **options) -> str:
    """What is said of a run of two layers, whether it fits into so many GiB or not."""
    try:
        return estimate.cost(size, 2, 1, dtype, int(free * GIB), **options)
    except estimate.MemoryEstimateError as error:
        return str(error)


def test_a_run_that_fits_is_told_its_largest_matrix_and_its_time():
    text = said(1000)
    assert re.match(r"memory: about \d+\.\d GiB at once \(K: 9\.1 GiB\), 1000\.0 GiB free\ntime: about", text)
    assert "conjugate gradients" not in text


def test_a_run_that_does_not_fit_names_the_matrix_what_is_free_and_what_would_fit():
    with pytest.raises(
        estimate.MemoryEstimateError,
        match=r"^not enough memory: K needs 9\.1 GiB in float64 and the run about \d+\.\d GiB at once, "
        r"14\.1 GiB are free: use --solver=cg or --num-train=\d+\ntime: about \d+ minutes$",
    ):
        estimate.cost(SIZE, 2, 1, DOUBLE, int(14.1 * GIB), is_deep=True)


@pytest.mark.parametrize(
    ("size", "method", "name"),
    [
        (SIZE, LayerMethod(), "K"),
        (SIZE, LayerMethod(ConjugateGradients()), "what is kept of K"),
        (dataclasses.replace(SIZE, num_train=1000, in_dim=10_000), LayerMethod(), "M"),
        (SIZE, LayerMethod(ConjugateGradients(keep="nothing")), "the data"),
    ],
)
def test_the_matrix_that_is_named_is_the_largest(size, method, name):
    assert f"not enough memory: {name} needs" in said(0.1, size, method=method)


@pytest.mark.parametrize("method", [LayerMethod(), LayerMethod(ConjugateGradients())])
@pytest.mark.parametrize("free", [3, 5])
def test_as_many_points_as_are_suggested_fit_and_one_more_does_not(method, free):
    number = int(re.search(r"--num-train=(\d+)", said(free, method=method))[1])
    assert number > 1000
    fitting, too_many = (dataclasses.replace(SIZE, num_train=number + more) for more in (0, 1))
    assert said(free, fitting, method=method).startswith("memory")
    assert said(free, too_many, method=method).startswith("not enough")


def test_other_solvers_are_suggested_where_they_fit_and_can_be_had():
    def needed(method):
        later = dataclasses.replace(SIZE, in_dim=SIZE.width)
        return max(estimate.peak_bytes(size, 8, method) for size in (SIZE, later)) / GIB

    by_cg = LayerMethod(ConjugateGradients())
    rounded, nothing = (LayerMethod(ConjugateGradients(keep=keep)) for keep in ("float32", "nothing"))
    assert "use --solver=cg or --num-train" in said(needed(by_cg) + 0.01, is_deep=True)
    assert "--solver" not in said(needed(by_cg) + 0.01)
    assert "use --solver=cg with --cg-keep=float32 or" in said(needed(rounded) + 0.01, is_deep=True)
    assert "use --solver=cg with --cg-keep=nothing or" in said(needed(rounded) - 0.01, is_deep=True)
    assert "--solver" not in said(needed(nothing) - 0.01, is_deep=True)
    assert "use --cg-keep=float32 or" in said(needed(rounded) + 0.01, method=by_cg, is_deep=True)
    assert "use --cg-keep=nothing or" in said(needed(rounded) - 0.01, method=by_cg, is_deep=True)
    assert "--cg-keep" not in said(needed(nothing) - 0.01, method=rounded, is_deep=True)


def test_float32_is_suggested_where_it_suffices_and_is_not_had_already():
    free = estimate.peak_bytes(dataclasses.replace(SIZE, in_dim=1024), 4) / GIB
    assert "or --precision=float32\n" in said(free + 0.01)
    assert "float32" not in said(free - 0.01)
    assert "--precision" not in said(free - 0.01, dtype=SINGLE)


def test_fewer_points_than_the_agop_or_the_classes_need_are_not_suggested():
    assert "use a machine with more memory\n" in said(0.7)
    drawn = LayerMethod(ConjugateGradients(), agop_size=30_000)
    assert "--num-train" in said(3, method=LayerMethod(ConjugateGradients()))
    assert "--num-train" not in said(3, method=drawn)


def test_on_a_mesh_the_memory_is_that_of_each_device_or_of_all_that_have_it_in_common():
    alone, method = LayerMethod(ConjugateGradients()), LayerMethod(ConjugateGradients(), num_devices=7)
    size = dataclasses.replace(SIZE, in_dim=SIZE.width)
    of_one, of_each = (layer_cost(size, 8, way).bytes.peak for way in (alone, method))
    assert of_one / 7 < of_each < of_one / 2
    for num_in_one, where in ((1, "each of 7 devices"), (7, "all 7 devices together")):
        num_bytes = estimate.BASE_BYTES + num_in_one * of_each
        needed, free = estimate.in_words(num_bytes), 0.9 * num_bytes / GIB
        text = said(1000, method=method, num_in_one=num_in_one)
        kept = f"what is kept of K on each: {estimate.in_words(kept_bytes(5000, 7, method.solver, 8))}"
        assert text.startswith(f"memory: about {needed} at once on {where} ({kept}), 1000.0 GiB free")
        text = said(free, method=method, num_in_one=num_in_one, is_deep=True)
        ways = "--devices=1 or --cg-keep=float32 or" if num_in_one > 1 else "--cg-keep=float32 or"
        assert f"about {needed} at once on {where}, {free:.1f} GiB are free: use {ways}" in text
        assert int(re.search(r"--num-train=(\d+)", text)[1]) % 7 == 0


@pytest.mark.parametrize("solver", [LayerMethod().solver, ConjugateGradients()])
def test_one_device_is_suggested_where_many_have_their_memory_in_common_and_it_fits(solver):
    alone, shared = LayerMethod(solver), LayerMethod(solver, num_devices=4)
    later = dataclasses.replace(SIZE, in_dim=SIZE.width)
    free = max(estimate.peak_bytes(size, 8, alone) for size in (SIZE, later)) / GIB
    common = {"method": shared, "num_in_one": 4}
    assert "free: use --devices=1 or" in said(free + 0.01, is_deep=True, **common)
    assert "--devices" not in said(free - 0.01, is_deep=True, **common)
    assert "--devices" not in said(free + 0.01, **common)
    # Two processes of two devices each.
    assert "--devices" not in said(free + 0.01, is_deep=True, method=shared, num_in_one=2)


def test_the_twin_in_float32_is_counted():
    size = dataclasses.replace(SIZE, num_train=20_000, in_dim=1024)
    alone, both = (estimate.peak_bytes(size, 4, has_twin=twin) for twin in (False, True))
    arrays = [(20_000, 1024)] * 2 + [(1000, 1024), (20_000, 10), (20_000, 10)] + [(1024, 1024)] * 4
    assert both - alone == 4 * sum(n * m for n, m in arrays)
    of_one, of_both = (said(number / GIB, size, SINGLE, is_deep=True) for number in (alone, both))
    assert of_one.startswith("not enough")
    assert of_both.startswith("memory")
    assert said(alone / GIB, size, SINGLE).startswith("memory")
    assert "--precision=float32" in said(both / GIB, size, is_deep=True)
    assert "--precision=float32" not in said(alone / GIB, size, is_deep=True)


def test_the_assumed_steps_of_conjugate_gradients_are_told():
    text = said(1000, method=LayerMethod(ConjugateGradients()))
    assert text.endswith(f", for {CG_STEPS} steps of conjugate gradients in each fit")


def test_the_time_grows_with_points_layers_and_runs():
    seconds = estimate.run_seconds([SIZE], 1, DOUBLE)
    larger = dataclasses.replace(SIZE, num_train=2 * SIZE.num_train)
    fixed = estimate.COMPILE_SECONDS
    assert estimate.run_seconds([larger], 1, DOUBLE) - fixed > 4 * (seconds - fixed)
    assert estimate.run_seconds([SIZE, SIZE], 1, DOUBLE) == pytest.approx(2 * seconds - fixed)
    assert estimate.run_seconds([SIZE], 3, DOUBLE) == pytest.approx(3 * seconds - 2 * fixed)
    assert estimate.run_seconds([SIZE], 1, DOUBLE, LayerMethod(num_iters=2)) > 1.8 * (seconds - fixed)


def test_quantities_are_told_in_the_units_that_a_person_would_use():
    assert [estimate.duration(number) for number in (89, 90, 5400)] == [
        "89 seconds",
        "2 minutes",
        "1.5 hours",
    ]
    assert [estimate.in_words(number) for number in (2**20, 3 * 2**29)] == ["1 MiB", "1.5 GiB"]


def test_held_out_points_are_predicted_without_their_whole_kernel_matrix(key):
    x = unit_rows(jax.random.normal(key, (64, 5)))
    sample_features = partial(relu_features, width=4)
    layer = fit_deep_rfm_layer(
        key, x, x[:, :2], kernel=Laplace(2.0), ridge=1e-3, sample_features=sample_features
    )
    many = layers.predict(layer, jnp.tile(x, (70_000 // 64, 1)))
    np.testing.assert_allclose(many[:64], layer.machine(x), rtol=1e-12)
    np.testing.assert_allclose(many[-64:], layer.machine(x), rtol=1e-12)
    program = layers.predict.lower(layer, jax.ShapeDtypeStruct((1_000_000, 5), x.dtype)).compile()
    assert program.memory_analysis().temp_size_in_bytes < 8 * 64 * 1_000_000 / 2
