"""What a report refuses: folders that hold no run, damaged records, runs that cannot be compared."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from experiments import report
from experiments.support import command
from experiments.support.atomic import WriteError
from experiments.support.checkpoint import save_arrays
from experiments.support.records import RecordsError
from tests.experiments import conv_runs_small, plotting_runs
from tests.experiments.report_runs import data_in, make_network, make_rfm, page_of

SMALL = {"depth": 2, "seeds": (0,), "num_classes": 3, "num_blocks": 6}

make_conv = partial(conv_runs_small.make_run, command="conv_rfm")


@pytest.fixture
def run(tmp_path) -> Path:
    return plotting_runs.make_run(tmp_path / "run", **SMALL)


def refused(*folders: Path) -> str:
    with pytest.raises(RecordsError) as error:
        page_of(*folders)
    return str(error.value)


def test_a_folder_without_a_run_is_refused(tmp_path):
    assert "is no folder" in refused(tmp_path / "nothing")
    assert "has no config.json" in refused(tmp_path)


def test_a_folder_of_several_runs_names_them(run):
    plotting_runs.make_run(run.parent / "other", **SMALL)
    assert "holds 2 runs (other, run)" in refused(run.parent)


def test_a_run_is_named_once(run):
    assert "named twice" in refused(run, run.parent)


def test_runs_of_different_experiments_are_refused(run, tmp_path):
    message = refused(run, make_rfm(tmp_path / "rfm"))
    assert "is of rfm" in message
    assert "is of deep_rfm" in message


def test_an_experiment_without_a_report_is_named(run):
    (run / "config.json").write_text('{"command": "tabular"}')
    assert "got command 'tabular', expected one of deep_rfm, train_network, rfm, conv_rfm" in refused(run)


@pytest.mark.parametrize(
    "rows", ["", '{"seed": 0, "layer": 1, "stage": "input", "metric": "nc1", "value": null}\n']
)
def test_a_run_without_a_number_is_refused(run, rows):
    (run / "metrics.jsonl").write_text(rows)
    assert "the run has no finished layer; resume it" in refused(run)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"seed": 0, "layer"', "line 3 is damaged"),
        ("[1]", "line 3 is damaged: got list"),
        ("[" * 10_000, "line 3 is damaged"),
        ('{"seed": 0, "layer": 1, "stage": "input", "metric": "nc1", "value": "1"}', "got value '1'"),
        ('{"seed": 0, "stage": "input", "metric": "nc1", "value": 1}', "line 3 lacks 'layer'"),
        ('{"seed": true, "layer": 1, "stage": "input", "metric": "nc1", "value": 1}', "wrong type"),
    ],
)
def test_a_damaged_line_is_named(run, line, expected):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text("\n".join([*lines[:2], line, *lines[2:]]))
    assert expected in refused(run)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("[]", "is damaged: got list"),
        ('{"command": "deep_rfm", "seeds": []}', "seeds in"),
        ('{"command": "deep_rfm", "seeds": [0]}', "lacks 'depth'"),
        ('{"command": ["deep_rfm"], "seeds": [0]}', "got command ['deep_rfm']"),
        ('{"command": "deep_rfm", "seeds": [0], "depth": "two"}', "'depth' in"),
    ],
)
def test_a_damaged_configuration_is_refused(run, config, expected):
    (run / "config.json").write_text(config)
    assert expected in refused(run)


@pytest.mark.parametrize(
    ("make", "changed", "expected"),
    [
        (make_rfm, {"task": None}, "'task' in"),
        (make_rfm, {"kernel": None}, "'kernel' in"),
        (make_rfm, {"num_iters": None}, "'num_iters' in"),
        (make_rfm, {"ranks": ["../1"]}, "ranks in"),
        (make_conv, {"class_names": None}, "'class_names' in"),
        (make_conv, {"class_names": [1]}, "class_names in"),
        (make_conv, {"class_names": ["a"]}, "have no names"),
        (plotting_runs.make_run, {"image_shape": ["a"]}, "image_shape in"),
        (plotting_runs.make_run, {"image_shape": [8, 8]}, "image_shape in"),
        (plotting_runs.make_run, {"image_shape": [8, 0, 1]}, "image_shape in"),
        (plotting_runs.make_run, {"depth": -3}, "got -3, expected at least 1"),
        (make_rfm, {"num_iters": -1}, "got -1, expected at least 0"),
    ],
)
def test_a_damaged_option_of_an_experiment_is_refused(tmp_path, make, changed, expected):
    path = make(tmp_path / "run") / "config.json"
    config = json.loads(path.read_text()) | changed
    path.write_text(json.dumps(config))
    assert expected in refused(path.parent)
    path.write_text(json.dumps({name: value for name, value in config.items() if value is not None}))
    assert expected.replace("' in", "'") in refused(path.parent)


def test_half_of_a_last_row_is_no_row(run):
    before = data_in(page_of(run))["runs"][0]
    for name in ("metrics.jsonl", "timings.jsonl"):
        with (run / name).open("a") as file:
            file.write('{"seed": 0, "layer": 1, "se')
    assert data_in(page_of(run))["runs"][0] == before
    with (run / "timings.jsonl").open("a") as file:
        file.write("\n")
    assert "timings.jsonl, line 1 is damaged" in refused(run)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"seed": {"a": 1}}, "'seed' in"),
        ({"seed": 0, "layer": "1"}, "'layer' in"),
        ({"seed": 0, "layer": 1, "seconds": "1"}, "got seconds '1'"),
        ({"seed": 0, "layer": 1, "seconds": 1e999}, "got seconds inf"),
        ({"seed": 0, "layer": 1, "seconds": 10**400}, "got seconds 1000"),
    ],
)
def test_a_damaged_timing_is_named(run, row, expected):
    (run / "timings.jsonl").write_text(json.dumps(row) + "\n")
    assert expected in refused(run)


@pytest.mark.parametrize("array", [None, np.array([{}], dtype=object)])
def test_what_is_no_archive_of_numbers_is_not_advised_to_be_loaded(run, array):
    path = run / "arrays" / "layer_02.npz"
    if array is None:
        path.write_text("no archive")
    else:
        np.savez(path, gram_linear=array)
    message = refused(run)
    assert "it is no npz archive of numbers" in message
    assert "pickle" not in message


def test_damaged_arrays_are_named(run):
    path = run / "arrays" / "layer_02.npz"
    arrays = plotting_runs.layer_arrays(2, 3, None, 20, 6)
    save_arrays(path, arrays | {"gram_linear": np.full((6, 6), np.nan)})
    assert "'gram_linear' in" in refused(run)
    save_arrays(path, {name: array for name, array in arrays.items() if name != "agop_spectrum"})
    assert "lacks the array 'agop_spectrum'" in refused(run)
    save_arrays(path, arrays | {"gram_input": np.zeros(6)})
    assert "expected numbers with 2 axes" in refused(run)
    path.write_bytes(path.read_bytes()[:100])
    assert f"{path} is damaged" in refused(run)


def test_an_epoch_without_a_layer_is_refused(tmp_path):
    run = make_network(tmp_path / "run")
    (run / "metrics.jsonl").write_text('{"seed": 0, "epoch": 1, "stage": "a", "metric": "nc1", "value": 1}')
    assert "lacks 'layer'" in refused(run)


def test_errors_are_one_message_and_a_status(run, capsys):
    assert command.run(partial(report.main, report.Config(runs=(run / "nothing",)))) == 1
    assert capsys.readouterr().err.startswith("error: ")
    assert command.run(partial(report.main, report.Config())) == 1
    assert "no run is named" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_names_the_flag(run):
    with pytest.raises(WriteError, match="choose another file with --output"):
        report.main(report.Config(runs=(run,), output=run / "no" / "where.html"))


def test_runs_and_flags_are_parsed_and_told(capsys):
    config = command.parse(report.Config, {}, ["a", "b", "--output=c.html", "--markdown"])
    assert config == report.Config(runs=(Path("a"), Path("b")), output=Path("c.html"), markdown=True)
    for arguments, status in ((["--help"], 0), (["--outptu=c"], 2)):
        with pytest.raises(SystemExit) as stop:
            command.parse(report.Config, {}, arguments)
        assert stop.value.code == status
    said = capsys.readouterr()
    assert "RUN [RUN ...]" in said.out
    assert "did you mean --output?" in said.err
