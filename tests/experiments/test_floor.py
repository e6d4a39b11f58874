"""The float floor against the truth: what a float32 run does not mark is right, and it does mark."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnc_jax import Gaussian, Laplace, relu_features
from dnc_jax.deep_rfm import fit_deep_rfm_layer_with_diagnostics
from experiments.support import floor
from experiments.support.data import load
from experiments.support.layers import Points, jitted_stages, measure
from experiments.support.preprocess import prepare

DEPTH, WIDTH = 14, 64
FLOAT32 = jnp.dtype("float32")


def points(dataset, dtype, is_moved):
    x = jnp.asarray(dataset.inputs, dtype)
    labels, targets = jnp.asarray(dataset.labels), jnp.asarray(dataset.targets, dtype)
    return Points(floor.moved(x) if is_moved else x, labels, targets)


def layers(prepared, dtype, kernel, ridge, is_moved=False):
    """Yields what is measured of each layer, and the reason to mark it by its own numbers."""
    parts = [points(part, dtype, is_moved) for part in (prepared.train, prepared.test)]
    for index in range(DEPTH):
        layer, diagnostics = fit_deep_rfm_layer_with_diagnostics(
            jax.random.fold_in(jax.random.key(0), index),
            parts[0].x,
            parts[0].targets,
            kernel=kernel,
            ridge=ridge,
            sample_features=partial(relu_features, width=WIDTH),
        )
        values = measure(layer, diagnostics, *parts, ridge)
        yield values, floor.floor_reason(values["machine"]["within_class_rounding"], diagnostics, dtype)
        parts = [dataclasses.replace(p, x=jitted_stages(layer, p.x).nonlinear) for p in parts]


@pytest.mark.parametrize(
    ("kernel", "ridge", "label_noise"),
    [(Laplace(2.0), 0.0, 0.0), (Gaussian(1.0), 1e-3, 0.0), (Gaussian(2.0), 1e-3, 1.0)],
    ids=["laplace", "gaussian", "random_labels"],
)
def test_float32_is_within_ten_percent_until_it_says_that_it_is_not(kernel, ridge, label_noise):
    prepared = prepare(load("digits"), num_train=160, num_test=100, seed=0, label_noise=label_noise)
    runs = (
        layers(prepared, FLOAT32, kernel, ridge),
        layers(prepared, FLOAT32, kernel, ridge, is_moved=True),
        layers(prepared, jnp.dtype("float64"), kernel, ridge),
    )
    num_unmarked, has_mark = 0, False
    for (ours, reason), (twin, _), (truth, _) in zip(*runs, strict=True):
        has_mark = bool(reason or floor.spread_reason(ours, [twin], FLOAT32))
        if has_mark:
            break
        num_unmarked += 1
        for stage, metrics in truth.items():
            for name, value in metrics.items():
                if name.removeprefix("test_") in floor.WATCHED:
                    assert ours[stage][name] == pytest.approx(value, rel=0.1), (num_unmarked, stage, name)
    assert num_unmarked >= 3
    assert has_mark == (not isinstance(kernel, Laplace))


def values(nc1=1.0, nc2=0.5):
    return {"linear": {"nc1": nc1, "nc2": nc2, "nc4": 0.0}}


def test_a_twin_that_differs_is_named_with_its_number():
    assert floor.spread_reason(values(), [values(nc1=1.001)], FLOAT32) is None
    assert floor.spread_reason(values(), [], FLOAT32) is None
    reason = floor.spread_reason(values(), [values(nc1=1.1)], FLOAT32)
    assert reason == (
        "moving the input by one rounding of float32 moves nc1 at the linear stage by 10.0% (limit 2%)"
    )
    # NC2 of two classes is 0 up to rounding: no relative difference is meant.
    assert floor.spread_reason(values(nc2=0.0), [values(nc2=1e-7)], FLOAT32) is None
    assert floor.spread_reason(values(nc1=0.0), [values(nc1=0.0)], FLOAT32) is None


def test_a_moved_input_differs_by_one_rounding():
    x = jnp.linspace(1.0, 2.0, 64, dtype=FLOAT32).reshape(8, 8)
    difference = np.abs(np.asarray(floor.moved(x) - x))
    assert 0 < difference.max() <= 2.5 * np.finfo(np.float32).eps
    assert (difference > 0).mean() > 0.9


def test_the_error_names_what_to_do():
    error = floor.floor_error(1, 5, "reason", FLOAT32)
    assert "Use --precision=float64, a larger --ridge, or --on-floor=warn" in str(error)
    assert "--depth=2, a larger --ridge" in str(floor.floor_error(3, 5, "reason", jnp.dtype("float64")))
