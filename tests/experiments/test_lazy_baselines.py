"""The command of the lazy baselines: records, resumption, options, the table over seeds, the figure."""

import csv
import dataclasses
import json
import shutil
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import pytest

from experiments import lazy_baselines
from experiments.support import command, data, estimate, lazy_table
from experiments.support.data.images import DataError
from experiments.support.lazy_data import draw
from experiments.support.lazy_grids import GRIDS, TITLES
from experiments.support.lazy_methods import Result, run_method
from experiments.support.records import RecordsError
from tests.experiments.kills import killed_at_write
from tests.experiments.lazy_small import SIZES, small_grids

SMALL = lazy_baselines.Config(dataset="digits", **SIZES, seeds=(0, 1))


@pytest.fixture(scope="module", autouse=True)
def grids():
    with small_grids():
        yield


def rows(workdir: Path) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def run(workdir: Path, **changes) -> Path:
    assert lazy_baselines.main(dataclasses.replace(SMALL, workdir=workdir, **changes)) == workdir
    return workdir


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    return run(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def stubbed(monkeypatch):
    """Replaces the methods by numbers of all that they are given, lists what was asked for, draws nothing."""
    asked = []

    def stub(method, trial):
        asked.append((trial.seed, method))
        parts = (trial.tuning.train, trial.tuning.test, trial.final.test)
        dtype = parts[0].inputs.dtype.itemsize
        digest = sum((2 + i) * float(np.abs(part.inputs).sum()) for i, part in enumerate(parts))
        value = 0.5 + 0.4 * float(np.sin(digest + len(method) + trial.seed + dtype))
        return Result({"a": trial.seed, "unit_rows": value > 0.5}, value, value / 2)

    monkeypatch.setattr(lazy_baselines, "run_method", stub)
    monkeypatch.setattr(lazy_baselines, "draw_accuracies", lambda *_: None)
    return asked


def test_records_hold_the_results_of_every_method(finished):
    found = rows(finished)
    assert list(dict.fromkeys((r["seed"], r["method"]) for r in found)) == [
        (seed, method) for seed in (0, 1) for method in GRIDS
    ]
    trial = draw(data.load("digits"), **SIZES, seed=1)
    for method in ("linear_svm", "laplace", "deep_rfm"):
        result = run_method(method, trial)
        values = {r["metric"]: r["value"] for r in found if (r["seed"], r["method"]) == (1, method)}
        assert values == {
            "validation_accuracy": result.validation_accuracy,
            "test_accuracy": result.test_accuracy,
            **{f"chosen_{name}": value for name, value in result.values.items()},
        }
        assert set(result.values) == set(GRIDS[method])


def test_files_of_a_run(finished):
    config = json.loads((finished / "config.json").read_text())
    assert config["grids"]["rfm"]["iteration"] == [0, 1, 2]
    assert config["deep_rfm"] == {"bandwidth": 2.0, "width": 32}
    assert len(config["data_sha256"]) == 2
    assert json.loads((finished / "environment.json").read_text())["num_devices"] == 1
    timings = [json.loads(line) for line in (finished / "timings.jsonl").read_text().splitlines()]
    assert len(timings) == 2 * len(GRIDS)
    assert not any(timing["loaded"] for timing in timings)
    for kind in ("png", "pdf"):
        assert (finished / "figures" / f"lazy_baselines.{kind}").stat().st_size > 5_000
    with (finished / "figures" / "lazy_baselines.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == 2 * len(GRIDS)
    of_rfm = [float(line["test_accuracy"]) for line in table if line["method"] == "rfm"]
    assert of_rfm == [r["value"] for r in rows(finished) if r["method"] == "rfm" and "test" in r["metric"]]
    assert float(table[0]["std_test_accuracy"]) == pytest.approx(
        stdev(float(line["test_accuracy"]) for line in table[:2])
    )


def test_the_table_has_means_deviations_and_choices():
    found = []
    for seed, test, ridge, unit in ((0, 0.8, 1e-3, True), (1, 0.9, 0.1, True)):
        result = Result({"unit_rows": unit, "ridge": ridge, "iteration": 2}, 0.5, test)
        found += lazy_table.to_rows(seed, "rfm", result)
    settings = dataclasses.asdict(SMALL) | {"methods": ["rfm"]}
    text = lazy_table.closing_table(settings, found)
    deviation = 100 * np.std([0.8, 0.9], ddof=1)
    assert f"{100 * mean([0.8, 0.9]):.2f} ± {deviation:.2f}" in text
    assert "85.00 ± 7.07  50.00 ± 0.00  unit_rows yes; ridge 0.001, 0.1; iteration 2" in text
    assert "digits, 40 training, 24 validation and 30 test images" in text
    assert "2 seeds" in text
    one = lazy_table.closing_table(settings | {"seeds": (0,)}, found[:5])
    assert "±" not in one
    assert "of 1 seed\n" in one


@pytest.mark.parametrize("writes", [1, 9, 12, 20, 28])
def test_a_run_killed_at_any_write_resumes_to_the_same_bytes(tmp_path, stubbed, writes):
    methods = ("linear_svm", "laplace", "rfm")
    whole = run(tmp_path / "whole", methods=methods)
    stubbed.clear()
    with killed_at_write(writes):
        run(tmp_path / "cut", methods=methods)
    kept = [path.stem for path in (tmp_path / "cut").glob("checkpoints/*/*.npz")]
    done = len(stubbed)
    resumed = run(tmp_path / "cut", methods=methods)
    assert (resumed / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert len(stubbed) - done == 2 * len(methods) - len(kept)


def test_finished_methods_are_loaded_and_damaged_ones_fitted_again(finished, tmp_path, monkeypatch, capsys):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    asked = []

    def spy(method, trial):
        asked.append((trial.seed, method))
        return run_method(method, trial)

    monkeypatch.setattr(lazy_baselines, "run_method", spy)
    run(tmp_path)
    assert asked == []
    assert capsys.readouterr().out.count("loaded") == 2 * len(GRIDS)
    path = tmp_path / "checkpoints" / "seed_1" / "gaussian.npz"
    path.write_bytes(path.read_bytes()[:300])
    other = tmp_path / "checkpoints" / "seed_0" / "laplace.npz"
    other.write_bytes((tmp_path / "checkpoints" / "seed_1" / "laplace.npz").read_bytes())
    run(tmp_path)
    assert asked == [(0, "laplace"), (1, "gaussian")]
    out = capsys.readouterr().out
    assert "gaussian.npz is damaged" in out
    assert "laplace.npz is of laplace of seed 1" in out
    assert (tmp_path / "metrics.jsonl").read_bytes() == (finished / "metrics.jsonl").read_bytes()
    with pytest.raises(RecordsError, match=r"(?s)another configuration.*num_train: 40 there, 41 now"):
        run(tmp_path, num_train=41)
    run(tmp_path, resume=False, methods=("linear_svm",), seeds=(0,))
    assert asked[2:] == [(0, "linear_svm")]


def test_ctrl_c_tells_how_to_go_on(tmp_path, stubbed, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(lazy_baselines, "run_method", interrupted)
    with pytest.raises(KeyboardInterrupt, match=r"continue with:\n.*experiments\.lazy_baselines"):
        run(tmp_path)


OPTIONS = {
    "dataset": "fashion_mnist_mini",
    "num_train": 41,
    "num_validation": 25,
    "num_test": 31,
    "methods": ("rfm",),
    "seeds": (1,),
    "precision": "float32",
}


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_changes_the_result(tmp_path, stubbed, option):
    changes = {"methods": ("laplace",), "seeds": (0,)}
    before, after = (
        rows(run(tmp_path / name, **changes | own))
        for name, own in (("before", {}), ("after", {option: OPTIONS[option]}))
    )
    assert [row["value"] for row in before[:2]] != [row["value"] for row in after[:2]]


def test_the_test_set_has_up_to_a_thousand_images_by_default(tmp_path, stubbed):
    config = json.loads((run(tmp_path, num_test=None, seeds=(0,)) / "config.json").read_text())
    assert config["num_test"] == 500


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"methods": ("laplace", "forest")}, ValueError, r"--methods must be .* of linear_svm, .*'forest'"),
        ({"methods": ()}, ValueError, "--methods must be one or more different ones"),
        ({"methods": ("rfm", "rfm")}, ValueError, "--methods must be one or more different ones"),
        ({"num_train": 0}, ValueError, "--num-train must be at least 1: got 0"),
        ({"num_validation": 0}, ValueError, "--num-validation must be at least 1: got 0"),
        ({"num_validation": 9}, DataError, "--num-validation is too small for digits"),
        ({"num_train": 1290}, DataError, "--num-train and --num-validation are together larger"),
        ({"num_test": 501}, DataError, "num_test is larger than the split of digits"),
        ({"seeds": (1, 1)}, ValueError, "--seeds must be one or more different numbers"),
        ({"dataset": "digit"}, DataError, "did you mean 'digits'"),
    ],
)
def test_options_that_no_run_can_use_are_named(tmp_path, changes, error, message):
    with pytest.raises(error, match=message):
        run(tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--methods", "forest"], "invalid choice|forest"), (["--num-trian=5"], "did you mean --num-train")],
)
def test_flags_that_are_not_understood_are_refused(capsys, arguments, message):
    with pytest.raises(SystemExit) as ended:
        command.parse(lazy_baselines.Config, {}, arguments)
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert any(part in out + err for part in message.split("|"))


def test_flags_are_the_fields_of_the_configuration():
    arguments = ["--methods", "rfm", "ntk", "--num-validation=7", "--seeds", "3", "4", "--no-resume"]
    parsed = command.parse(lazy_baselines.Config, {}, arguments)
    found = (parsed.methods, parsed.num_validation, parsed.seeds, parsed.resume)
    assert found == (("rfm", "ntk"), 7, (3, 4), False)


@pytest.mark.parametrize("dataset", ["digits", "svhn"])
def test_a_dry_run_writes_nothing_and_downloads_nothing(tmp_path, monkeypatch, capsys, dataset):
    if dataset == "svhn":
        monkeypatch.setattr(lazy_baselines.data, "load", None)
    config = dataclasses.replace(SMALL, dataset=dataset, workdir=tmp_path / "run", dry_run=True)
    assert lazy_baselines.main(config) is None
    out = capsys.readouterr().out
    assert "memory: about" in out
    for title in TITLES.values():
        assert f"grid of {title}" in out
    assert not (tmp_path / "run").exists()
    if dataset == "svhn":
        with pytest.raises(DataError, match="training split of svhn: got 73257"):
            lazy_baselines.main(dataclasses.replace(config, num_train=73_257))


def test_too_little_memory_is_told_before_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(lazy_baselines.devices, "free_bytes", lambda _: estimate.BASE_BYTES + 400_000)
    with pytest.raises(
        estimate.MemoryEstimateError, match=r"use --num-train=\d+ with --num-validation=\d+\ntime"
    ):
        run(tmp_path / "run")
    assert not (tmp_path / "run").exists()
