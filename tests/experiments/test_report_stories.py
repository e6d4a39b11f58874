"""What a report tells of a run: its story in two sentences, with the numbers and symbols of the page."""

import json
import re

import pytest

from experiments import report
from experiments.support.report.texts import in_symbols, number
from tests.experiments import conv_runs_small, plotting_runs
from tests.experiments.report_runs import data_in, make_network, make_rfm, page_of

SMALL = {"depth": 2, "num_classes": 3, "num_blocks": 6}


def found(folder):
    data = data_in(page_of(folder))
    return data["runs"][0] | {"note": data["note"]}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.25, "0.25"),
        (-0.25, "−0.25"),
        (2774.0, "2770"),
        (123456.0, "1.23·10⁵"),
        (5.92e-4, "5.92·10⁻⁴"),
        (1e-7, "10⁻⁷"),
        (float("inf"), "inf"),
    ],
)
def test_numbers_are_written_as_in_the_figures(value, text):
    assert number(value) == text


def test_texts_of_the_terminal_get_the_symbols_of_the_page():
    assert (
        in_symbols("stage, M^(1/2) x, fell 2.77e+03 times to 5.9e-04")
        == "stage, M^½ x, fell 2770 times to 5.9·10⁻⁴"
    )
    assert in_symbols("to 0.00059 or 0.01.") == "to 5.9·10⁻⁴ or 0.01."
    assert in_symbols("0.00059.") == "5.9·10⁻⁴."
    assert in_symbols("layer 1e5x of a1e-05 0.0001x") == "layer 1e5x of a1e-05 0.0001x"


def test_a_deep_rfm_tells_of_held_out_points(tmp_path):
    run = plotting_runs.make_run(tmp_path / "run", seeds=(0, 1), **SMALL)
    story = found(run)["story"]
    assert len(story) == 2
    rows = plotting_runs.read_rows(run)
    first, last = (
        sum(r["value"] for r in rows if r["metric"] == "test_accuracy" and r["layer"] == layer) / 2
        for layer in (1, 2)
    )
    assert re.search(
        rf"; on held-out points NC1 went from \S+ to \S+ and accuracy from {first:.1%} to {last:.1%}\.$",
        story[0],
    )
    assert "M^½ x, lowered it" in story[1]
    assert "φ, in" in story[1]
    plotting_runs.write_rows(run, [row for row in rows if not row["metric"].startswith("test_")])
    assert "held-out" not in " ".join(found(run)["story"])


def test_a_network_has_a_story_of_two_sentences(tmp_path):
    run = make_network(tmp_path / "run")
    rows = plotting_runs.read_rows(run)
    story = found(run)["story"]
    assert len(story) == 2
    assert story[0] == (
        "NC1 of the last hidden layer went from 0.612 to 0.175 in 10 epochs, 3.5 times smaller "
        "(mean of 2 seeds); all training points were first correct at epoch 8."
    )
    assert story[1] == (
        "At epoch 10 the linear stage lowers the trace ratio in layers 1–2 of 2 and NC1 in layers 1–2 of 2 "
        "more than the nonlinear stage does."
    )
    plotting_runs.write_rows(run, [r for r in rows if r["metric"] != "train_accuracy"])
    assert found(run)["story"][0].endswith(", without all training points ever being correct.")
    of_layer = {"stage": "linear", "layer": 2}
    for metric, said in (
        ("nc1", "NC1 in layer 1 of 2 more"),
        ("nc1_trace_ratio", "the trace ratio in layer 1"),
    ):
        place = of_layer | {"metric": metric}
        changed = [r | {"value": 99.0} if place.items() <= r.items() else r for r in rows]
        plotting_runs.write_rows(run, changed)
        assert said in found(run)["story"][1]


def test_a_fall_is_told_before_and_after_all_points_are_correct(tmp_path):
    run = make_network(tmp_path / "run")
    rows = plotting_runs.read_rows(run)
    early = [r | {"value": 1.0} if r["metric"] == "train_accuracy" and r["epoch"] == 5 else r for r in rows]
    plotting_runs.write_rows(run, early)
    told = (
        "2.25 times smaller until all training points were first correct at epoch 5, and 1.56 times smaller"
    )
    assert told in found(run)["story"][0]
    plotting_runs.write_rows(run, [r for r in early if r["seed"] == 0 or r["metric"] != "train_accuracy"])
    assert "at epoch 5 in 1 of 2 seeds, and" in found(run)["story"][0]


def test_the_text_counts_the_seeds_that_are_there(tmp_path):
    run = plotting_runs.make_run(tmp_path / "run", seeds=(0, 1, 2), **SMALL)
    rows = [row for row in plotting_runs.read_rows(run) if row["seed"] < 2]
    plotting_runs.write_rows(run, rows)
    text = report.main(report.Config(runs=(run,), markdown=True)).read_text(encoding="utf-8")
    assert "Means of 2 seeds, geometric for NC1" in text
    plotting_runs.write_rows(run, [row for row in rows if "nc1" not in row["metric"]])
    text = report.main(report.Config(runs=(run,), markdown=True)).read_text(encoding="utf-8")
    assert "Means of 2 seeds; " in text


def test_what_is_not_drawn_is_explained(tmp_path):
    conv = conv_runs_small.make_run(tmp_path / "conv", command="conv_rfm")
    assert (
        found(conv)["note"]
        == "There is no simplex of class means: the kernel has no features of finite dimension."
    )
    assert "targets are no classes" in found(make_rfm(tmp_path / "rfm"))["note"]


def test_names_of_classes_are_of_the_run_or_of_the_catalog(tmp_path):
    run = plotting_runs.make_run(tmp_path / "run", dataset="svhn", **SMALL)
    assert found(run)["classes"] == list("0123456789")
    config = json.loads((run / "config.json").read_text())
    for changed, names in (
        ({"num_classes": 10}, list("0123456789")),
        ({"num_classes": 3}, []),
        ({"num_classes": 3, "class_names": list("xyz")}, list("xyz")),
        ({"dataset": "unknown"}, []),
    ):
        (run / "config.json").write_text(json.dumps(config | changed))
        assert found(run)["classes"] == names
