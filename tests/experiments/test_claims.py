"""The table of claims: theorems are met and can be failed, verdicts say what the records say."""

import csv
import io

import pytest

from dnc_jax import Stages
from experiments import claims
from experiments.support.claims import observed, theory
from experiments.support.claims.findings import Finding, comma_separated, markdown, verdict_of

FOUND = Finding("a | b", "here", "1, or so", "0", "fails")


@pytest.mark.parametrize("name", claims.THEOREMS)
def test_theorems_are_met(name):
    assert [finding.verdict for finding in claims.THEOREMS[name]()] == ["holds"]


def test_theorems_can_fail(monkeypatch):
    monkeypatch.setattr(theory, "svd_stages", lambda x, *_: Stages(x, x, x))
    assert [finding.verdict for finding in theory.same_nc1()] == ["fails"]
    monkeypatch.setattr(theory, "cosine_nfa", lambda *_, power=1.0: power)
    assert [finding.verdict for finding in theory.deep_linear()] == ["in part"]
    monkeypatch.setattr(theory, "MAX_STEPS", 3)
    assert [finding.verdict for finding in theory.stationarity()] == ["in part"]
    assert [finding.verdict for finding in theory.optimal_kernel()] == ["fails"]


@pytest.mark.parametrize(
    ("conditions", "verdict"),
    [((True, True), "holds"), ((True, False), "in part"), ((False, False), "fails"), ((False,), "fails")],
)
def test_a_verdict_counts_conditions(conditions, verdict):
    assert verdict_of(*conditions) == verdict


def test_tables_escape_what_would_break_them():
    assert markdown([FOUND]).splitlines()[2] == r"| a \| b | here | 1, or so | 0 | fails |"
    assert list(csv.reader(io.StringIO(comma_separated([FOUND]))))[1] == list(FOUND)


def layered(metric, by_stage, **place):
    return [
        {"seed": 0, "layer": layer, "stage": stage, "metric": metric, "value": value, **place}
        for stage, series in by_stage.items()
        for layer, value in enumerate(series, 1)
    ]


class MadeUp:
    """Records of nothing, one list for every run."""

    def __init__(self, rows):
        self.rows = rows

    def __getattr__(self, _):
        return lambda *_: self.rows


@pytest.mark.parametrize(
    ("nc1", "verdict"),
    [([1.0, 0.1, 0.01, 0.001], "holds"), ([1.0, 0.9, 0.85, 0.001], "fails"), ([1.0, 2.0, 4.0, 8.0], "fails")],
)
def test_an_exponential_decrease_is_a_straight_line_downwards(nc1, verdict):
    (finding,) = observed.decrease_is_exponential(MadeUp(layered("nc1", {"nonlinear": nc1})))
    assert finding.verdict == verdict


@pytest.mark.parametrize(("last", "verdict"), [(0.29, "holds"), (0.5, "in part"), (2.0, "fails")])
def test_collapse_is_a_tenth_of_nc1_and_a_simplex(last, verdict):
    rows = layered("nc1", {"input": [1.0, 0.5], "nonlinear": [0.5, 1.0 if last > 1 else 0.05]})
    rows += layered("nc2", {"input": [1.0, 0.5], "nonlinear": [0.5, last]})
    findings = observed.deep_rfm_collapses(MadeUp(rows))
    assert [finding.verdict for finding in findings] == [verdict] * 4


@pytest.mark.parametrize(
    ("ratio", "nc1", "verdict"),
    [
        ([0.1, 0.1], [0.1, 0.1], "holds"),
        ([0.1, 0.1], [0.9, 0.9], "in part"),
        ([0.9, 0.9], [0.9, 0.9], "fails"),
    ],
)
def test_the_linear_stage_dominates_by_both_definitions_or_in_part(ratio, nc1, verdict):
    rows = []
    for metric, linear in (("nc1_trace_ratio", ratio), ("nc1", nc1)):
        rows += layered(metric, {"input": [1.0] * 2, "linear": linear, "nonlinear": [0.09] * 2}, epoch=3)
    assert [f.verdict for f in observed.linear_stage_dominates(MadeUp(rows))] == [verdict] * 2


@pytest.mark.parametrize(
    ("nc2", "verdict"), [([0.9, 0.8, 0.1], "holds"), ([0.9, 0.2, 0.1], "fails"), ([0.9, 0.8, 0.7], "fails")]
)
def test_a_simplex_in_the_last_layer_only_is_in_no_other(nc2, verdict):
    rows = layered("nc2", {"linear": nc2, "nonlinear": nc2}, epoch=3)
    assert [f.verdict for f in observed.etf_by_layer(MadeUp(rows))] == [verdict] * 2


def test_a_run_of_one_check_leaves_its_table(tmp_path, capsys):
    workdir = claims.main(claims.Config(only=("same_nc1",), workdir=tmp_path / "run"))
    shown = capsys.readouterr().out
    assert "[holds] W x and S V^T x have the same NC1" in shown
    assert "1 holds, 0 in part, 0 fails" in shown
    assert (workdir / "claims.md").read_text().count("\n") == 3
    assert (workdir / "claims.csv").read_text().startswith("claim,source,expected,found,verdict")


def test_unknown_checks_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"--only must be some of deep_rfm, .*: got egopp"):
        claims.main(claims.Config(only=("egopp",), workdir=tmp_path))


def test_small_runs_are_read_from_their_records(tmp_path):
    small = claims.Runs(tmp_path, "digits", None, 100, True)
    (finding,) = observed.rfm_beats_its_kernel(small)
    assert finding.verdict == "holds"
    assert "after 5 updates" in finding.found
