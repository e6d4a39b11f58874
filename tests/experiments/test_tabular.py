"""The tabular command: tasks chosen, kept as they end, resumed, and the same for any number of processes."""

import dataclasses
import json

import numpy as np
import pytest

from experiments import tabular
from experiments.support import command, tabular_work
from experiments.support.records import RecordsError
from experiments.support.tabular_data import TaskError
from experiments.support.tabular_methods import Result
from tests.experiments.tabular_files import points, write_table, write_task

NAMES = ("alpha", "beta", "gamma")


@pytest.fixture
def collection(tmp_path):
    for seed, name in enumerate(NAMES):
        write_task(tmp_path / "uci", name, num_rows=24 + 4 * seed, seed=seed)
    (tmp_path / "uci" / "broken").mkdir()
    return tmp_path / "uci"


@pytest.fixture
def config(collection, tmp_path):
    return tabular.Config(data_dir=collection, methods=("rfm", "svm"), workdir=tmp_path / "run", jobs=1)


@pytest.fixture
def computed(monkeypatch):
    """Replaces the methods by numbers of task and method, and lists what was computed."""
    done = []

    def stub(method, session):
        done.append((session.task.name, method))
        x = session.task.x
        value = 0.5 + 0.4 * float(np.abs(np.sin(x.sum() * 1e6 + x.std() + len(method))))
        return Result({"feature_matrix": session.feature_matrix}, value, (value, 0.5))

    monkeypatch.setattr(tabular_work, "run_method", stub)
    return done


def read_rows(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_a_run_records_tasks_folds_and_summary(config, computed, capsys):
    workdir = tabular.main(config)
    rows = read_rows(workdir)
    of_tasks = [row for row in rows if "task" in row]
    assert [row["task"] for row in of_tasks] == sorted(row["task"] for row in of_tasks)
    alpha = [row for row in of_tasks if (row["task"], row["method"]) == ("alpha", "rfm")]
    assert [row["metric"] for row in alpha] == [
        *("tuning_accuracy", "test_accuracy", "test_accuracy", "test_mean_accuracy")
    ]
    assert alpha[3]["value"] == pytest.approx((alpha[1]["value"] + alpha[2]["value"]) / 2)
    summary = [row for row in rows if "task" not in row]
    names = {"average_accuracy", "p90", "p95", "pma", "friedman_rank"}
    assert {(row["method"], row["metric"]) for row in summary} == {
        (m, n) for m in config.methods for n in names
    }
    accuracies = (workdir / "figures" / "tabular_accuracies.csv").read_text().splitlines()
    assert accuracies[0] == "task,rfm,svm"
    assert [line.split(",")[0] for line in accuracies[1:]] == list(NAMES)
    assert len((workdir / "figures" / "tabular_summary.csv").read_text().splitlines()) == 3
    out = capsys.readouterr().out
    assert "not run: broken: broken_R.dat is missing" in out
    assert "grid of svm" in out
    assert "Friedman rank" in out
    assert "loses by more than 3 points" in out
    timings = (workdir / "timings.jsonl").read_text().splitlines()
    assert {(row["task"], row["method"]) for row in map(json.loads, timings)} == set(computed)


@pytest.mark.parametrize("num_done", [0, 1, 2, 3, 5])
def test_a_killed_run_goes_on_where_it_was(config, computed, tmp_path, monkeypatch, num_done):
    whole = tabular.main(dataclasses.replace(config, workdir=tmp_path / "whole"))
    computed.clear()
    stub = tabular_work.run_method

    def killed(method, session):
        if len(computed) == num_done:
            raise KeyboardInterrupt
        return stub(method, session)

    with monkeypatch.context() as patch:
        patch.setattr(tabular_work, "run_method", killed)
        with pytest.raises(KeyboardInterrupt, match="continue with"):
            tabular.main(config)
    finished = {name for name, _ in computed[: num_done - num_done % 2]}
    computed.clear()
    resumed = tabular.main(config)
    assert {name for name, _ in computed} == set(NAMES) - finished
    assert (resumed / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


def test_a_damaged_or_changed_task_is_computed_again(config, computed, collection, capsys):
    workdir = tabular.main(config)
    path = workdir / "checkpoints" / "beta.npz"
    path.write_bytes(path.read_bytes()[:-50])
    write_table(collection / "gamma" / "gamma_R.dat", *points(32, 3, 9))
    computed.clear()
    tabular.main(config)
    assert {name for name, _ in computed} == {"beta", "gamma"}
    out = capsys.readouterr().out
    assert "beta.npz is damaged" in out
    assert "gamma.npz is of task gamma" in out
    assert out.count("computed again") == 2


def test_no_resume_starts_over(config, computed):
    tabular.main(config)
    computed.clear()
    tabular.main(config)
    assert computed == []
    tabular.main(dataclasses.replace(config, resume=False))
    assert len(computed) == 6


@pytest.mark.parametrize(
    "change",
    [{"methods": ("svm",)}, {"tasks": ("alpha",)}, {"feature_matrix": "of_tuning_split"}, {"max_n": 29}],
)
def test_options_change_what_is_recorded(config, computed, change):
    before = read_rows(tabular.main(config))
    with pytest.raises(RecordsError, match="another configuration"):
        tabular.main(dataclasses.replace(config, **change))
    changed = dataclasses.replace(config, workdir=config.workdir / "other", **change)
    assert read_rows(tabular.main(changed)) != before


def test_standardize_changes_the_result(config, computed, collection):
    x, labels = points(24, 3, 0)
    write_table(collection / "alpha" / "alpha_R.dat", 3 + x, labels)
    before = read_rows(tabular.main(config))
    as_is = dataclasses.replace(config, workdir=config.workdir / "other", standardize=False)
    assert read_rows(tabular.main(as_is)) != before


def test_a_dry_run_computes_and_writes_nothing(config, computed, capsys):
    assert tabular.main(dataclasses.replace(config, dry_run=True)) is None
    assert computed == []
    assert not config.workdir.exists()
    assert "3: alpha beta gamma" in capsys.readouterr().out


def test_a_truncated_task_is_named_and_the_others_are_recorded(config, computed, collection):
    path = collection / "beta" / "beta_R.dat"
    path.write_text("\n".join(path.read_text().splitlines()[:12]))
    with pytest.raises(TaskError, match=r"no result[\s\S]*beta: conxuntos\.dat, split 1"):
        tabular.main(config)
    assert {row["task"] for row in read_rows(config.workdir) if "task" in row} == {"alpha", "gamma"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data_dir": None}, "--data-dir is needed"),
        ({"tasks": ("alhpa",)}, "did you mean alpha"),
        ({"tasks": ("broken",)}, r"broken cannot be run: broken_R\.dat is missing"),
        ({"tasks": ("gamma",), "max_n": 30}, "gamma has 32 points, more than --max-n=30"),
        ({"tasks": ("alpha", "alpha")}, "must be different tasks"),
        ({"max_n": 3}, "no task has at most --max-n=3 points: the smallest has 24"),
        ({"max_n": 0}, "--max-n must be at least 1"),
        ({"jobs": 0}, "--jobs must be at least 1"),
        ({"methods": ()}, "--methods must be one or more"),
        ({"methods": ("svm", "svm")}, "different methods"),
    ],
)
def test_options_that_no_run_can_use_are_named(config, change, message):
    with pytest.raises(ValueError, match=message):
        tabular.main(dataclasses.replace(config, **change))


def test_flags_are_the_fields_of_the_configuration():
    parsed = command.parse(
        tabular.Config, {}, ["--tasks", "a", "b", "--max-n=9", "--jobs=2", "--no-standardize"]
    )
    assert (parsed.tasks, parsed.max_n, parsed.jobs, parsed.standardize) == (("a", "b"), 9, 2, False)


@pytest.mark.slow
def test_two_processes_give_the_same_numbers_as_one(config, tmp_path):
    config = dataclasses.replace(config, methods=("rfm", "laplace", "svm"), max_n=30)
    one = tabular.main(config)
    two = tabular.main(dataclasses.replace(config, workdir=tmp_path / "two", jobs=2))
    assert (two / "metrics.jsonl").read_bytes() == (one / "metrics.jsonl").read_bytes()
