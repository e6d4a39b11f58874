"""The float floor against the truth: what a float32 run does not mark is right, and it does mark."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

from dnc_jax import Laplace, NumericalError, nc1, nc2, relu_features, within_class_rounding
from dnc_jax import stages as stages_of
from dnc_jax.deep_rfm import fit_deep_rfm_layer_with_diagnostics
from experiments.support import floor
from experiments.support.data import load
from experiments.support.preprocess import prepare

DEPTH, WIDTH = 24, 64


@partial(jax.jit, static_argnums=2)
def measured(stages, labels, num_classes):
    return [
        (nc1(features, labels, num_classes), nc2(features, labels, num_classes)) for features in stages
    ], within_class_rounding(stages.input, labels, num_classes)


def layers(train, dtype, ridge):
    """Yields [(nc1, nc2) by stage] and the reason to mark the layer, until a fit fails."""
    x, targets = jnp.asarray(train.inputs, dtype), jnp.asarray(train.targets, dtype)
    for index in range(DEPTH):
        try:
            layer, diagnostics = fit_deep_rfm_layer_with_diagnostics(
                jax.random.fold_in(jax.random.key(0), index),
                x,
                targets,
                kernel=Laplace(2.0),
                ridge=ridge,
                sample_features=partial(relu_features, width=WIDTH),
            )
        except NumericalError as error:
            yield None, str(error)
            return
        stages = jax.jit(stages_of)(layer, x)
        values, rounding = measured(stages, jnp.asarray(train.labels), 10)
        x = stages.nonlinear
        yield values, floor.floor_reason(float(rounding), diagnostics, x.dtype)


@pytest.mark.parametrize("ridge", [1e-3, 0.0])
def test_float32_is_within_ten_percent_until_it_says_that_it_is_not(ridge):
    train = prepare(load("digits"), num_train=160, num_test=10, seed=0).train
    is_marked, num_unmarked = False, 0
    pairs = zip(layers(train, jnp.float32, ridge), layers(train, jnp.float64, ridge), strict=False)
    for (ours, reason), (truth, truth_reason) in pairs:
        assert truth_reason is None
        if reason is not None:
            is_marked = True
            break
        num_unmarked += 1
        for found, expected in zip(jax.tree.leaves(ours), jax.tree.leaves(truth), strict=True):
            assert float(found) == pytest.approx(float(expected), rel=0.1)
    assert is_marked
    assert num_unmarked >= 8
