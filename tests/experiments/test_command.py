"""The command line as a newcomer meets it: help, wrong flags, errors, Ctrl-C."""

import dataclasses
from functools import partial

import pytest

from experiments import deep_rfm
from experiments.support import command


def parse(*arguments: str) -> deep_rfm.Config:
    return command.parse(deep_rfm.Config, deep_rfm.PRESETS, list(arguments))


def test_flags_are_the_fields_of_the_configuration():
    config = parse("--dataset=svhn", "--num-train=100", "--seeds", "3", "4", "--no-resume")
    assert config == dataclasses.replace(
        deep_rfm.Config(), dataset="svhn", num_train=100, seeds=(3, 4), resume=False
    )


def test_flags_beside_a_preset_win():
    paper = parse("--preset=paper", "--depth=3", "--dataset=svhn")
    assert (paper.num_train, paper.ridge, paper.depth, paper.dataset) == (50_000, 1e-3, 3, "svhn")
    assert parse("--preset=paper") == deep_rfm.PRESETS["paper"]


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit) as stop:
        parse("--help")
    assert stop.value.code == 0
    out = capsys.readouterr().out
    for field in dataclasses.fields(deep_rfm.Config):
        assert field.name.replace("_", "-") in out
    assert "fashion_mnist_mini" in out


def test_an_unknown_flag_suggests_the_near_one(capsys):
    with pytest.raises(SystemExit) as stop:
        parse("--num-trian=100")
    assert stop.value.code == 2
    assert "unknown flag --num-trian: did you mean --num-train?" in capsys.readouterr().err


def test_an_unknown_dataset_is_one_message_and_a_status(capsys):
    assert command.run(partial(deep_rfm.main, parse("--dataset=svnh"))) == 1
    captured = capsys.readouterr()
    assert "did you mean 'svhn'?" in captured.err
    assert captured.err.startswith("error: ")
    assert "Traceback" not in captured.err


def test_an_unforeseen_error_is_one_message_that_tells_how_to_see_more(capsys, monkeypatch):
    def broken() -> None:
        raise TypeError("inner")

    assert command.run(broken) == 1
    assert "unexpected TypeError: inner" in capsys.readouterr().err
    monkeypatch.setenv(command.TRACEBACK, "1")
    with pytest.raises(TypeError, match="inner"):
        command.run(broken)


def test_ctrl_c_tells_how_to_continue(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(command.sys, "argv", ["deep_rfm.py", "--no-resume", "--workdir=a b"])

    def interrupted() -> None:
        with command.resumable(tmp_path, "experiments.deep_rfm"):
            raise KeyboardInterrupt

    assert command.run(interrupted) == 130
    err = capsys.readouterr().err
    assert "python -m experiments.deep_rfm '--workdir=a b'" in err
    assert "--no-resume" not in err
    assert str(tmp_path) in err


def test_a_workdir_that_cannot_be_written_is_explained(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    config = dataclasses.replace(
        deep_rfm.Config(), dataset="digits", num_train=96, devices=1, workdir=tmp_path / "file" / "run"
    )
    assert command.run(partial(deep_rfm.main, config)) == 1
    assert "choose a folder that can be written with --workdir" in capsys.readouterr().err


def test_an_interrupt_during_imports_is_one_line(capsys):
    import experiments

    experiments._end_quietly(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert capsys.readouterr().err == "\ninterrupted\n"
    experiments._end_quietly(ValueError, ValueError("seen"), None)
    assert "ValueError: seen" in capsys.readouterr().err
