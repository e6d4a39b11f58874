"""Claims that are read from records: verdicts say what the records say, and the README has all of them."""

from typing import get_args

import pytest

from experiments import claims
from experiments.support.claims import observed, uses
from experiments.support.claims.findings import Verdict
from tests.experiments.claims_table import rows_of_readme


def layered(metric, by_stage, **place):
    return [
        {"seed": 0, "layer": layer, "stage": stage, "metric": metric, "value": value, **place}
        for stage, series in by_stage.items()
        for layer, value in enumerate(series, 1)
    ]


class MadeUp:
    """Records of nothing, one list for every run."""

    num_test, foreign = 1000, "mnist_5k"

    def __init__(self, rows):
        self.rows = rows

    def __getattr__(self, _):
        return lambda *_: self.rows


@pytest.mark.parametrize(
    ("nc1", "verdict"),
    [
        ([0.1, 0.01, 0.001], "holds"),
        ([0.9, 0.85, 0.001], "in part"),
        ([0.1, 0.2, 0.001, 0.002], "fails"),
        ([2.0, 4.0, 8.0], "fails"),
    ],
)
def test_an_exponential_decrease_is_a_straight_line_downwards(nc1, verdict):
    rows = layered("nc1", {"input": [1.0], "nonlinear": nc1})
    (finding,) = observed.decrease_is_exponential(MadeUp(rows))
    assert finding.verdict == verdict


def test_an_exponential_decrease_is_told_by_layer():
    (finding,) = observed.decrease_is_exponential(
        MadeUp(layered("nc1", {"input": [8.0], "nonlinear": [4.0, 1.0]}))
    )
    assert finding.found.startswith("divided by 2.00, 4.00, by layer; the line divides by 2.83, R2 0.96")


@pytest.mark.parametrize(
    ("first", "last", "verdict"),
    [(1.0, 0.29, "holds"), (1.0, 0.5, "in part"), (0.1, 0.2, "in part"), (1.0, 2.0, "fails")],
)
def test_collapse_is_a_tenth_of_nc1_and_a_simplex_that_was_none(first, last, verdict):
    rows = layered("nc1", {"input": [1.0, 0.5], "nonlinear": [0.5, 1.0 if last > 1 else 0.05]})
    rows += layered("nc2", {"input": [first, 0.5], "nonlinear": [0.5, last]})
    findings = observed.deep_rfm_collapses(MadeUp(rows))
    assert [finding.verdict for finding in findings] == [verdict] * len(observed.DEEP_RFMS)


@pytest.mark.parametrize(
    ("ratio", "nc1", "verdict"),
    [
        ([0.1, 0.01], [0.1, 0.01], "holds"),
        ([0.1, 0.01], [0.9, 0.09], "in part"),
        # Of two layers one does more at the linear stage, but less than the other does at the nonlinear one.
        ([0.1, 0.1], [0.1, 0.1], "fails"),
        ([0.9, 0.09], [0.9, 0.09], "fails"),
    ],
)
def test_the_linear_stage_dominates_by_both_definitions_or_in_part(ratio, nc1, verdict):
    rows, after = [], [0.09, 0.001]
    for metric, linear in (("nc1_trace_ratio", ratio), ("nc1", nc1)):
        stages = {"input": [1.0, 0.09, 0.001], "linear": linear, "nonlinear": after}
        rows += layered(metric, stages, epoch=3)
    assert [f.verdict for f in observed.linear_stage_dominates(MadeUp(rows))] == [verdict] * 3


def test_a_rise_is_no_collapse_of_the_linear_stage():
    rows = []
    for metric in ("nc1_trace_ratio", "nc1"):
        rows += layered(metric, {"input": [1.0], "linear": [2.0], "nonlinear": [9.0]}, epoch=3)
    assert {finding.verdict for finding in observed.linear_stage_dominates(MadeUp(rows))} == {"fails"}


@pytest.mark.parametrize(
    ("nc2", "verdict"), [([0.9, 0.8, 0.1], "holds"), ([0.9, 0.2, 0.1], "fails"), ([0.9, 0.8, 0.7], "fails")]
)
def test_a_simplex_in_the_last_layer_only_is_in_no_other(nc2, verdict):
    rows = layered("nc2", {"linear": nc2, "nonlinear": nc2}, epoch=3) + right(3)
    found = observed.etf_by_layer(MadeUp(rows))
    assert [finding.verdict for finding in found] == [verdict] * 3
    assert all(f"linear 0.90, {nc2[1]:.2f}, {nc2[2]:.2f}" in finding.found for finding in found)


def test_the_ansatz_is_judged_by_each_power_of_the_agop_and_by_its_last_epoch():
    rows = layered("nc1", {"nonlinear": [1.0, 1.0]}, epoch=3)
    rows += layered("nfa_correlation", {"weights": [0.9, 0.6]}, epoch=3)
    rows += layered("nfa_correlation_root", {"weights": [0.9, 0.8]}, epoch=3)
    rows += layered("nfa_correlation", {"weights": [0.9, 0.9]}, epoch=0)
    plain, root = observed.ansatz(MadeUp(rows))[:2]
    assert (plain.verdict, root.verdict) == ("in part", "holds")
    assert plain.found == "0.90, 0.60 by layer"
    assert plain.source == "slides, eq. 23"


@pytest.mark.parametrize(
    ("last", "verdict"),
    [((0.09, 0.4, 0.4, 0.0), "holds"), ((0.09, 0.6, 0.4, 0.0), "in part"), ((0.2, 0.6, 0.6, 0.2), "fails")],
)
def test_a_network_collapses_where_all_four_metrics_fall(last, verdict):
    rows = []
    for metric, value in zip(("nc1", "nc2", "nc3", "nc4"), last, strict=True):
        # The head is layer 2; what layer 1 receives does not count.
        rows += layered(metric, {"input": [9.0, 1.0]}, epoch=0) + layered(
            metric, {"input": [9.0, value]}, epoch=5
        )
    findings = observed.networks_collapse(MadeUp(rows + right(5)))
    assert [finding.verdict for finding in findings] == [verdict] * 3
    assert all(finding.found.endswith("75.0% of training images right") for finding in findings)


def test_heads_that_have_learned_nothing_are_no_evidence():
    heads = {"learned": accuracies(0.1), "etf": accuracies(0.1)}
    assert [finding.verdict for finding in uses.fixed_etf(MadeUp(heads))] == ["fails"]


@pytest.mark.parametrize(("fixed", "verdict"), [(0.785, "holds"), (0.9, "holds"), (0.77, "fails")])
def test_a_fixed_head_may_be_two_points_worse(fixed, verdict):
    heads = {"learned": accuracies(0.8), "etf": accuracies(fixed)}
    (finding,) = uses.fixed_etf(MadeUp(heads))
    assert finding.verdict == verdict
    assert f"{100 * fixed - 80:+.1f} points, standard error at most 1." in finding.found


class Everything:
    """Records of nothing, for every run those that it would have."""

    num_test, foreign = 1000, "mnist_5k"

    def deep_rfm(self, *_):
        return [
            row
            for metric in ("nc1", "nc1_trace_ratio", "nc2", "nc3", "nc4")
            for epoch in (0, 3)
            for row in layered(
                metric, {stage: [0.9, 0.5] for stage in ("input", "linear", "nonlinear")}, epoch=epoch
            )
        ] + right(3)

    def mlp(self, _):
        ansatz = [layered(f"nfa_correlation{of}", {"weights": [0.9, 0.6]}, epoch=3) for of in ("", "_root")]
        return self.deep_rfm() + ansatz[0] + ansatz[1]

    random_labels = deep_rfm

    def etf_heads(self):
        return {"learned": accuracies(0.8), "etf": accuracies(0.8)}

    def low_rank(self):
        return [{"seed": 0, "iteration": at, "metric": "test_r2", "value": 0.5} for at in range(6)]

    def stars(self):
        return [{"seed": 0, "iteration": at, "metric": "test_accuracy", "value": 0.5} for at in range(2)]

    def unknown_images(self):
        return unknown(simplex_distance=(0.9, 0.9), neco=(0.9, 0.9))


def right(epoch):
    return layered("train_accuracy", {"network": [0.75]}, epoch=epoch)


def accuracies(value):
    return [{"epoch": 3, "metric": "test_accuracy", "value": value}]


@pytest.mark.parametrize(
    ("check", "metric", "values", "verdict"),
    [
        (uses.rfm_beats_its_kernel, "test_r2", (0.5, 0.55, 0.7), "holds"),
        (uses.rfm_beats_its_kernel, "test_r2", (0.5, 0.7, 0.55), "fails"),
        (uses.patches_beat_their_kernel, "test_accuracy", (0.8, 0.86, 0.7), "holds"),
        (uses.patches_beat_their_kernel, "test_accuracy", (0.8, 0.84, 0.9), "fails"),
    ],
)
def test_a_machine_beats_its_kernel_by_a_margin(check, metric, values, verdict):
    rows = [{"seed": 0, "iteration": at, "metric": metric, "value": value} for at, value in enumerate(values)]
    assert [finding.verdict for finding in check(MadeUp(rows))] == [verdict]


@pytest.mark.parametrize(
    ("distance", "neco", "verdict"),
    [
        # The largest softmax has 0.85 in one seed, 0.8 in the other.
        ((0.9, 0.81), (0.9, 0.9), "holds"),
        ((0.9, 0.9), (0.84, 0.99), "in part"),
        ((0.7, 0.9), (0.9, 0.79), "fails"),
    ],
)
def test_unknown_images_are_told_better_than_by_the_softmax_in_every_seed(distance, neco, verdict):
    (finding,) = uses.unknown_images(MadeUp(unknown(simplex_distance=distance, neco=neco)))
    assert finding.verdict == verdict
    assert f"distance to the simplex {min(distance):.3f} to {max(distance):.3f}" in finding.found
    assert "2 seeds; NC2 of the features 0.25" in finding.found


def unknown(**scores):
    scores = {"max_softmax": (0.85, 0.8), "centered_neco": (0.9, 0.9), "energy": (0.9, 0.9)} | scores
    rows = [
        {"seed": seed, "score": name, "metric": "auroc", "value": value}
        for name, values in scores.items()
        for seed, value in enumerate(values)
    ]
    return {"scores": rows, "training": layered("nc2", {"input": [0.9, 0.25]}, epoch=5)}


def test_the_table_of_the_readme_has_the_claims_that_are_checked():
    stated = rows_of_readme()
    assert {row.verdict for row in stated.values()} <= set(get_args(Verdict)) - {"not run"}
    made = [finding for check in claims.OBSERVED.values() for finding in check(Everything())]
    for finding in made:
        row = stated[finding.claim]
        assert (row.source, row.expected) == (finding.source, finding.expected)
    assert len(stated) == len(made) + len(claims.THEOREMS)
