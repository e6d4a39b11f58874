"""The training experiment on small data: records, resumption after every kill, options, refusals."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from dnc_jax.training import TrainingError
from experiments import train_network
from experiments.support import checkpoint, network_runs, training_checkpoint
from experiments.support.plotting import training_figures
from experiments.support.records import RecordsError
from tests.experiments.kills import Killed

SMALL = train_network.Config(
    dataset="digits",
    num_train=96,
    num_test=40,
    depth=2,
    width=24,
    init_gain=1.0,
    learning_rate=5e-3,
    epochs=4,
    measure_every=3,
    checkpoint_every=2,
    batch_size=40,
    num_measured=64,
    seeds=(0, 1),
    precision="float64",
)


def rows(workdir: Path) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def run(workdir: Path, **changes) -> Path:
    out = train_network.main(dataclasses.replace(SMALL, workdir=workdir, **changes))
    assert out == workdir
    return out


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    return run(tmp_path_factory.mktemp("finished"))


def test_every_epoch_has_loss_and_accuracy_and_the_measured_ones_everything(finished):
    found: dict[int, set] = {}
    for row in rows(finished):
        assert np.isfinite(row["value"])
        if row["seed"] == 1:
            found.setdefault(row["epoch"], set()).add((row["layer"], row["stage"], row["metric"]))
    assert sorted(found) == [0, 1, 2, 3, 4]
    assert found[1] == found[2] == {(3, "network", "train_loss"), (3, "network", "train_accuracy")}
    for epoch in (0, 3, 4):
        for metric in ("nc1", "nc1_trace_ratio", "nc2", "test_nc1", "test_nc2"):
            places = {(layer, stage) for layer, stage, name in found[epoch] if name == metric}
            stages = {(n, s) for n in (1, 2) for s in ("input", "linear", "nonlinear")}
            assert places - {(3, "input")} == stages, metric
        for metric in ("nc3", "nc4", "test_nc4"):
            assert (3, "input", metric) in found[epoch]
        for metric in ("nfa_correlation", "nfa_correlation_root", "cosine_nfa"):
            assert {(n, "weights", metric) for n in (1, 2, 3)} <= found[epoch]
        changed = {(n, "weights", "centered_nfa_correlation_root") for n in (1, 2, 3)}
        assert changed <= found[epoch] if epoch else not changed & found[epoch]
        kept = checkpoint.load_arrays(finished / "arrays" / f"epoch_{epoch:05d}.npz")
        assert [kept[f"agop_eigenvectors_{n:02d}"].shape[1] for n in (1, 2, 3)] == [64, 24, 24]


def test_training_learns_and_weights_are_drawn_by_seed(finished):
    def value(seed, epoch, metric, layer=3, stage="network"):
        place = {"seed": seed, "epoch": epoch, "metric": metric, "layer": layer, "stage": stage}
        (found,) = (r["value"] for r in rows(finished) if place.items() <= r.items())
        return found

    for seed in (0, 1):
        assert value(seed, 4, "train_loss") < value(seed, 0, "train_loss") / 2
        assert value(seed, 4, "train_accuracy") > value(seed, 0, "train_accuracy")
    assert value(0, 0, "train_loss") != value(1, 0, "train_loss")
    # What a layer passes on is what the next one receives.
    assert value(0, 4, "nc1", 1, "nonlinear") == pytest.approx(value(0, 4, "nc1", 2, "input"), rel=1e-9)


def test_figures_and_tables_are_drawn(finished):
    names = {path.name for path in (finished / "figures").iterdir()}
    stems = training_figures.FIGURES
    assert names == {f"{stem}.{kind}" for stem in stems for kind in ("png", "pdf", "csv")}
    header = (finished / "figures" / "collapse_by_epoch.csv").read_text().splitlines()[0]
    assert header == "layer,epoch,stage,metric,mean,min,max,num_seeds"


@pytest.mark.parametrize("number", range(1, 5))
def test_a_run_killed_before_or_after_a_checkpoint_resumes_to_the_same_records(
    finished, tmp_path, monkeypatch, number
):
    # Four checkpoints: epochs 2 and 4 of two seeds. Killed before the odd ones are written, after the even.
    saved, save = [], training_checkpoint.save_epoch

    def dying(*args):
        saved.append(args)
        if len(saved) == number and number % 2:
            raise Killed
        save(*args)
        if len(saved) == number:
            raise Killed

    monkeypatch.setattr(network_runs, "save_epoch", dying)
    with pytest.raises(Killed):
        run(tmp_path / "run")
    monkeypatch.setattr(network_runs, "save_epoch", save)
    run(tmp_path / "run")
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (finished / "metrics.jsonl").read_bytes()


def test_a_damaged_checkpoint_is_told_and_the_one_before_taken(finished, tmp_path, capsys):
    workdir = shutil.copytree(finished, tmp_path / "run")
    last = workdir / "checkpoints" / "seed_0" / "epoch_00004"
    for path in (p for p in last.rglob("*") if p.is_file() and p.stat().st_size > 200):
        path.write_bytes(path.read_bytes()[:100])
    run(workdir)
    assert (workdir / "metrics.jsonl").read_bytes() == (finished / "metrics.jsonl").read_bytes()
    out = capsys.readouterr().out
    assert "epoch_00004 is damaged" in out
    assert "going back to the checkpoint before it" in out


def test_checkpoints_of_another_seed_are_not_taken(finished, tmp_path, capsys):
    workdir = shutil.copytree(finished, tmp_path / "run")
    folder = workdir / "checkpoints"
    shutil.rmtree(folder / "seed_0")
    shutil.copytree(folder / "seed_1", folder / "seed_0")
    run(workdir)
    assert (workdir / "metrics.jsonl").read_bytes() == (finished / "metrics.jsonl").read_bytes()
    assert "is of seed 1 of the run" in capsys.readouterr().out


def test_a_loss_that_is_not_finite_stops_with_its_step_and_keeps_the_last_checkpoint(tmp_path):
    bad = {"optimizer": "sgd", "learning_rate": 1e150, "seeds": (0,), "checkpoint_every": 1}
    message = r"the loss is (nan|inf) at step \d+, in epoch \d+, with learning rate 1e\+150 in the step"
    with pytest.raises(TrainingError, match=message):
        run(tmp_path / "run", **bad)
    measured = [r for r in rows(tmp_path / "run") if r["metric"] == "nc1"]
    assert measured[0]["epoch"] == 0
    assert (tmp_path / "run" / "figures" / "collapse_by_epoch.png").exists()


def test_a_loss_that_ends_long_after_the_last_measured_epoch_is_told_as_well(tmp_path, monkeypatch):
    real = network_runs.train_epoch

    def failing(*arguments):
        state, losses = real(*arguments)
        return state, jnp.where(state.step > 6, jnp.nan, losses)

    monkeypatch.setattr(network_runs, "train_epoch", failing)
    with pytest.raises(
        TrainingError, match=r"the loss is nan at step 7, in epoch 3, with .*Records, and the"
    ):
        run(tmp_path / "run", seeds=(0,), measure_every=4, checkpoint_every=1)
    table = (tmp_path / "run" / "figures" / "ansatz_by_layer.csv").read_text()
    assert "nc1_trace_ratio" in table
    assert (tmp_path / "run" / "checkpoints" / "seed_0" / "epoch_00002").exists()


def test_weights_whose_loss_is_not_finite_are_not_saved(tmp_path):
    bad = {"optimizer": "sgd", "learning_rate": 1e150, "batch_size": 96, "checkpoint_every": 1}
    with pytest.raises(
        TrainingError, match=r"the loss is (nan|inf) at step 2, in epoch 1, with learning rate"
    ):
        run(tmp_path / "run", seeds=(0,), **bad)
    assert not (tmp_path / "run" / "checkpoints" / "seed_0" / "epoch_00001").exists()


def test_a_damaged_file_of_arrays_is_named_with_what_to_do(finished, tmp_path):
    workdir = shutil.copytree(finished, tmp_path / "run")
    path = workdir / "arrays" / "epoch_00000.npz"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(RecordsError, match=r"epoch_00000\.npz is damaged.*may be removed"):
        run(workdir)
    path.unlink()
    run(workdir)


def test_options_decide_numbers_and_other_options_are_another_run(finished):
    with pytest.raises(RecordsError, match=r"learning_rate: 0\.005 there, 0\.1 now"):
        run(finished, learning_rate=0.1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "--epochs must be at least 1: got 0"),
        ({"learning_rate": 0.0}, "--learning-rate must be positive: got 0"),
        ({"warmup_epochs": 1}, "--warmup-epochs is an option of --schedule=cosine: got 1"),
        ({"schedule": "cosine", "warmup_epochs": 4}, r"--warmup-epochs must lie in 0\.\.3"),
        ({"schedule": "cosine", "restart_optimizer": True}, "--restart-optimizer starts the schedule anew"),
        ({"head": "etf", "width": 8}, r"--width must be at least 9 with --head=etf.*got 8"),
        (
            {"num_measured": 19},
            "--num-measured must be at least 20, two images for each of 10 classes: got 19",
        ),
        ({"momentum": 0.9}, r"momentum is an option of sgd: got 0\.9 for adam"),
    ],
)
def test_options_that_do_not_go_together_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


ADAMW = {"optimizer": "adamw"}
SGD = {"optimizer": "sgd", "learning_rate": 0.05}
COSINE = {"schedule": "cosine"}


def last_loss(workdir: Path) -> float:
    (loss,) = (r["value"] for r in rows(workdir) if r["epoch"] == 4 and r["metric"] == "train_loss")
    return loss


@pytest.mark.parametrize(
    ("common", "change"),
    [
        ({}, {"loss": "cross_entropy"}),
        ({"weight_decay": 0.1}, ADAMW),
        (ADAMW, {"weight_decay": 0.1}),
        ({}, {"weight_decay": 0.1}),
        ({}, SGD),
        (SGD, {"momentum": 0.9}),
        ({}, COSINE),
        (COSINE, {"warmup_epochs": 1}),
        ({}, {"restart_optimizer": True}),
        ({}, {"batch_size": 30}),
        ({}, {"init_gain": 0.5}),
        ({}, {"head": "etf"}),
        ({}, {"label_noise": 0.5}),
        ({}, {"data_seed": 3}),
    ],
    ids=str,
)
def test_every_option_alone_changes_what_is_learned(tmp_path, monkeypatch, common, change):
    monkeypatch.setattr(training_figures, "FIGURES", {})
    without = run(tmp_path / "without", seeds=(0,), **common)
    with_it = run(tmp_path / "with", seeds=(0,), **common | change)
    assert last_loss(without) != last_loss(with_it)


def test_what_is_measured_follows_its_options(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(training_figures, "FIGURES", {})
    fewer = rows(run(tmp_path / "fewer", seeds=(0,), num_measured=48, measure_every=2))
    assert sorted({r["epoch"] for r in fewer if r["metric"] == "nc1"}) == [0, 2, 4]
    first = {"seed": 0, "epoch": 0, "layer": 1, "stage": "input", "metric": "nc1"}
    ours, theirs = (
        next(r["value"] for r in f if first.items() <= r.items()) for f in (fewer, rows(finished))
    )
    assert ours != theirs


def test_two_devices_give_the_numbers_of_one(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(training_figures, "FIGURES", {})
    both = rows(run(tmp_path / "run", seeds=(0,), devices=2))
    one = [r for r in rows(finished) if r["seed"] == 0]
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["num_devices"] == 2
    for a, b in zip(one, both, strict=True):
        assert {**a, "value": 0} == {**b, "value": 0}
        assert b["value"] == pytest.approx(a["value"], rel=1e-6, abs=1e-9), a


def test_the_first_epoch_without_an_error_is_measured_and_falls_are_recorded(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(training_figures, "FIGURES", {})
    changes = {"num_train": 40, "num_measured": 40, "epochs": 90, "measure_every": 90, "width": 40}
    found = rows(run(tmp_path / "run", seeds=(0,), **changes))
    begun = min(r["epoch"] for r in found if r["metric"] == "train_accuracy" and r["value"] == 1)
    assert 0 < begun < 90
    assert sorted({r["epoch"] for r in found if r["metric"] == "nc1"}) == [0, begun, 90]
    lines = (tmp_path / "run" / "terminal_phase.jsonl").read_text().splitlines()
    falls = [json.loads(line) for line in lines]
    assert {f["terminal_epoch"] for f in falls} == {begun}
    assert all(f["fell_before"] == f["first"] / f["at_terminal"] for f in falls if "fell_before" in f)
    assert f"began at epoch {begun}" in capsys.readouterr().out


def test_a_plan_without_held_out_images_counts_all_of_them(capsys):
    config = train_network.Config(dataset="mnist", held_out=False, dry_run=True)
    assert train_network.main(config) is None
    out = capsys.readouterr().out
    assert re.search(r"num_train +70000\n", out)
    assert re.search(r"num_test +0\n", out)


def test_a_dry_run_writes_nothing(tmp_path, capsys):
    config = dataclasses.replace(SMALL, workdir=tmp_path / "run", dry_run=True)
    assert train_network.main(config) is None
    assert "learning_rate" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()
