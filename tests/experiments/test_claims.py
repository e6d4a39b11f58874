"""The checks of claims: theorems are met and can fail, runs are made once and read from their folders."""

import csv
import io
import json

import jax.numpy as jnp
import pytest

from dnc_jax import Stages
from dnc_jax.agop_estimates import Estimate
from experiments import claims
from experiments.support.claims import theory, uses
from experiments.support.claims.findings import Finding, comma_separated, markdown, verdict_of
from tests.experiments.claims_table import rows_of_readme

PARTS = ("learned", "etf", "permuted_1", "training")
FOUND = Finding("a | b", "here", "1, or so", "0", "fails")


@pytest.mark.parametrize("name", claims.THEOREMS)
def test_theorems_are_met_as_the_readme_says(name):
    (finding,) = claims.THEOREMS[name]()
    assert finding.verdict == "holds"
    assert rows_of_readme()[finding.claim] == finding._replace(found=rows_of_readme()[finding.claim].found)


def test_theorems_fail_where_they_do_not_hold(monkeypatch):
    monkeypatch.setattr(theory, "svd_stages", lambda x, *_: Stages(x, x, x))
    assert [finding.verdict for finding in theory.same_nc1()] == ["fails"]
    monkeypatch.setattr(theory, "psd_power", lambda a, *_, **__: a)
    assert [finding.verdict for finding in theory.deep_linear()] == ["fails"]
    other = Estimate(jnp.diag(jnp.arange(10.0)), jnp.zeros((10, 10)))
    monkeypatch.setattr(theory, "egop", lambda *_, **__: other)
    assert [finding.verdict for finding in theory.expected_gradients()] == ["fails"]
    monkeypatch.setattr(theory, "MAX_STEPS", 3)
    assert [finding.verdict for finding in theory.stationarity()] == ["fails"]
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


def test_a_run_of_one_check_leaves_its_table(tmp_path, capsys):
    workdir = claims.main(claims.Config(only=("same_nc1",), workdir=tmp_path / "run"))
    shown = capsys.readouterr().out
    assert "[holds] W x and S V^T x have the same NC1" in shown
    assert "1 holds, 0 in part, 0 fails, 0 not run" in shown
    assert (workdir / "claims-same_nc1.md").read_text().count("\n") == 3
    assert (workdir / "claims-same_nc1.csv").read_text().startswith("claim,source,expected,found,verdict")


def test_unknown_checks_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"--only must be some of deep_rfm, .*: got egopp"):
        claims.main(claims.Config(only=("egopp",), workdir=tmp_path))


def test_small_runs_are_read_from_their_records(tmp_path):
    small = claims.Runs(tmp_path, "digits", None, 100, 90, True)
    (finding,) = uses.rfm_beats_its_kernel(small)
    assert finding.verdict == "holds"
    assert "after 5 updates" in finding.found


@pytest.mark.parametrize(
    ("module", "ask", "folder"),
    [
        ("deep_rfm", lambda runs: runs.deep_rfm("gaussian", "relu"), "deep_rfm-gaussian-relu-10"),
        ("train_network", lambda runs: runs.mlp("small_start"), "mlp-small_start"),
        ("train_network", lambda runs: runs.mlp("weight_decay"), "mlp-weight_decay"),
        ("random_labels", lambda runs: runs.random_labels(), "random_labels"),
        ("etf_head", lambda runs: runs.etf_heads()["etf"], "etf_head"),
        ("rfm", lambda runs: runs.low_rank(), "rfm_low_rank"),
        ("conv_rfm", lambda runs: runs.stars(), "conv_rfm_stars"),
        ("ood_detection", lambda runs: runs.unknown_images(), "ood_detection"),
    ],
)
def test_a_run_is_made_once_and_read_from_its_folder(tmp_path, monkeypatch, module, ask, folder):
    asked = []

    def run(config):
        asked.append(config)
        for place in (config.workdir, *map(config.workdir.joinpath, PARTS)):
            place.mkdir(parents=True, exist_ok=True)
            (place / "config.json").write_text("{}")
            (place / "metrics.jsonl").write_text(json.dumps({"in": place.name}) + "\n")
        return config.workdir

    monkeypatch.setattr(getattr(claims, module), "main", run)
    runs = claims.Runs(tmp_path, "digits", tmp_path / "data", 100, 90, False)
    assert ask(runs) == ask(runs) != []
    (config,) = asked
    assert config.workdir == tmp_path / folder
    assert config.resume is False
    if module not in ("rfm", "conv_rfm"):
        assert (config.dataset, config.data_dir) == ("digits", tmp_path / "data")
        assert (config.num_train, config.num_test) == (100, 90)


def test_foreign_images_are_of_another_dataset(tmp_path):
    foreign = {d: claims.Runs(tmp_path, d, None, 9, 9, True).foreign for d in ("digits", "mnist_5k", "mnist")}
    assert foreign == {"digits": "mnist_5k", "mnist_5k": "fashion_mnist_mini", "mnist": "fashion_mnist_mini"}


def test_a_check_that_cannot_be_made_is_in_the_table_and_ends_in_an_error(tmp_path, monkeypatch, capsys):
    def fail(_):
        raise ValueError("no such\nimages")

    monkeypatch.setitem(claims.OBSERVED, "rfm", fail)
    with pytest.raises(claims.ClaimsError, match="checks that were not run: rfm; the table says why"):
        claims.main(claims.Config(only=("rfm", "same_nc1"), workdir=tmp_path / "run"))
    rows = (tmp_path / "run" / "claims-rfm-same_nc1.md").read_text().splitlines()
    assert rows[2] == "| rfm |  |  | not run: no such images | not run |"
    assert rows[3].endswith("| holds |")
    assert "1 holds, 0 in part, 0 fails, 1 not run" in capsys.readouterr().out


def test_a_run_without_records_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(claims.rfm, "main", lambda _: None)
    with pytest.raises(ValueError, match="the run rfm left no records"):
        claims.Runs(tmp_path, "digits", None, 100, 90, True).low_rank()


def test_a_check_alone_leaves_the_table_of_all_as_it_is():
    assert claims.table_name(claims.NAMES) == "claims"
    assert claims.table_name(("egop", "deep_rfm")) == "claims-deep_rfm-egop"
