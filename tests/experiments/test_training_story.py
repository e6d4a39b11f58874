"""What a training run says of itself: the terminal phase, which stage dominates, reference values."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments import train_network
from experiments.support.plotting.style import StageStyle
from experiments.support.plotting.training_drawing import draw_lines
from experiments.support.reference import TRAININGS, reference_lines
from experiments.support.snapshots import epoch_arrays
from experiments.support.training_story import (
    closing_lines,
    layers_by_verdict,
    terminal_epoch,
    terminal_phase,
)
from tests.builders import class_clouds, simplex_means


def series(metric, values, *, seed=0, layer=1, stage="nonlinear"):
    place = {"seed": seed, "layer": layer, "stage": stage, "metric": metric}
    return [place | {"epoch": epoch, "value": value} for epoch, value in values.items()]


def stages(seed, epoch, values, layer=1):
    return [
        row
        for stage, value in zip(("input", "linear", "nonlinear"), values, strict=True)
        for metric in ("nc1", "nc1_trace_ratio")
        for row in series(metric, {epoch: value}, seed=seed, layer=layer, stage=stage)
    ]


ROWS = [
    *series("train_accuracy", {0: 0.1, 4: 1.0, 5: 0.9, 9: 1.0}, layer=2, stage="network"),
    *series("train_accuracy", {0: 0.1, 4: 0.9, 5: 0.9, 9: 0.99}, seed=1, layer=2, stage="network"),
    *series("nc1", {0: 8.0, 4: 2.0, 9: 0.1}),
    *series("nc1", {0: 8.0, 4: 2.0, 9: 0.1}, seed=1),
    *series("nc4", {0: 0.9, 4: 0.0, 9: 0.0}, layer=2, stage="input"),
]


def test_the_terminal_phase_begins_at_the_first_epoch_without_an_error():
    assert terminal_epoch(ROWS, 0) == 4
    assert terminal_epoch(ROWS, 1) is None


def test_records_say_how_far_each_metric_fell_before_and_after():
    found = {row["metric"]: row for row in terminal_phase(ROWS)}
    assert {row["seed"] for row in found.values()} == {0}
    assert found["nc1"]["terminal_epoch"] == 4
    assert (found["nc1"]["fell_before"], found["nc1"]["fell_after"]) == (4.0, pytest.approx(20.0))
    # A metric that reached 0 has values, and no quotient.
    assert found["nc4"]["at_terminal"] == 0.0
    assert "fell_before" not in found["nc4"]


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ((8.0, 1.0, 0.5), "linear dominates"),
        ((8.0, 1.0, 2.0), "linear dominates"),
        ((8.0, 7.0, 1.0), "nonlinear dominates"),
        ((1.0, 2.0, 3.0), "neither stage lowers it"),
    ],
)
def test_the_table_says_which_stage_dominates(tmp_path, values, verdict):
    rows = ROWS[:8] + stages(0, 0, (9.0, 9.0, 9.0)) + stages(0, 9, values)
    text = closing_lines(rows, tmp_path)
    assert f"\nBy the trace ratio: {verdict} in layer 1.\n" in text
    assert f"\nBy NC1: {verdict} in layer 1.\n" in text
    assert "tr Sigma_W / tr Sigma_B of the last hidden layer went from 9" in text


def test_each_metric_and_each_layer_has_its_own_verdict():
    rows = stages(0, 9, (8.0, 1.0, 0.5)) + stages(0, 9, (8.0, 7.0, 1.0), 2) + stages(0, 9, (8.0, 1.0, 1.0), 3)
    rows = [r for r in rows if r["metric"] == "nc1"]
    found = layers_by_verdict(rows, "nc1", 9)
    assert found == "linear dominates in layers 1, 3; nonlinear dominates in layer 2"
    assert layers_by_verdict(rows, "nc1_trace_ratio", 9) == "not measured in layers 1-3"


def test_reference_values_are_printed_for_the_presets_that_have_them():
    assert reference_lines("default") == []
    for preset, (accuracy, layers) in TRAININGS.items():
        lines = reference_lines(preset)
        assert f"{accuracy:.1%}" in lines[0]
        assert len(lines) == 1 + len(layers)


def test_arrays_of_an_epoch_hold_the_simplex_of_exact_class_means():
    means = simplex_means(6, 8)
    features, labels = class_clouds([70] * 6, 8, spread=0.0, means=means)
    arrays = epoch_arrays(jnp.asarray(features), jnp.asarray(labels), 6)
    np.testing.assert_allclose(arrays["cosines"], 1.2 * np.eye(6) - 0.2, atol=1e-12)
    assert arrays["points"].shape == (4 * 60, 3)
    distances = np.linalg.norm(arrays["means"][:, None] - arrays["means"][None], axis=-1)
    edge = np.linalg.norm(means[0] - means[1])
    np.testing.assert_allclose(distances, edge * (1 - np.eye(4)), atol=1e-7)
    for k in range(4):
        of_class = arrays["points"][arrays["point_classes"] == k]
        np.testing.assert_allclose(of_class, np.broadcast_to(arrays["means"][k], of_class.shape), atol=1e-10)


def test_a_line_has_no_point_of_one_seed_among_means_of_two():
    rows = series("nc1", {0: 4.0, 4: 99.0, 9: 2.0}) + series("nc1", {0: 2.0, 9: 1.0}, seed=1)
    axes = Figure().subplots()
    table = draw_lines(axes, rows, "epoch", StageStyle("#000000", "o", "", ""), metric="nc1")
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), [[0, 3], [9, 1.5]])
    assert [(row["epoch"], row["num_seeds"]) for row in table] == [(0, 2), (4, 1), (9, 2)]


def test_reference_values_are_for_presets_as_they_are():
    preset = train_network.PRESETS["mnist"]
    assert "PyTorch" in train_network.reference(dataclasses.replace(preset, seeds=(7,)))[0]
    assert train_network.reference(dataclasses.replace(preset, learning_rate=1.0)) == []
    assert train_network.reference(train_network.Config(epochs=1)) == []
