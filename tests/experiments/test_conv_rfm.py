"""The experiment on convolutional kernels: records, resumption after any kill, options, what it prints."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnc_jax import ConvNTK, conv_rfm_iterates
from experiments import conv_rfm
from experiments.support import checkpoint, conv_runs
from experiments.support.conv_data import load_sets
from experiments.support.records import RecordsError
from tests.experiments.kills import killed_at_write

SIZES = {"num_train": 8, "num_validation": 6, "num_test": 10}
SMALL = conv_rfm.Config(**SIZES, patch_size=3, num_iters=2, agop_size=4, seeds=(0, 1))


def rows(workdir: Path) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def value(workdir: Path, metric: str, iteration: int = 2, seed: int = 0) -> float:
    place = {"metric": metric, "iteration": iteration, "seed": seed}
    return next(row["value"] for row in rows(workdir) if place.items() <= row.items())


def run(workdir: Path, config: conv_rfm.Config = SMALL, **changes) -> Path:
    assert conv_rfm.main(dataclasses.replace(config, workdir=workdir, **changes)) == workdir
    return workdir


@pytest.fixture(autouse=True)
def _without_the_probe_of_speed(monkeypatch):
    monkeypatch.setattr(conv_rfm.conv_cost.estimate, "matmul_rate", lambda _: 1e10)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    return run(tmp_path_factory.mktemp("finished"))


def test_records_hold_the_numbers_of_the_library(finished):
    sets = load_sets("stars", **SIZES, seed=1)
    x, z = (jnp.asarray(part.images) for part in (sets.train, sets.test))
    targets = jnp.asarray(sets.train.targets(2))
    iterates = conv_rfm_iterates(ConvNTK(1, 3), x, targets, ridge=1e-3, agop_size=4, key=jax.random.key(1))
    for iteration in range(3):
        conv = next(iterates)
        predictions, true = np.asarray(conv(z)), sets.test.targets(2)
        error, accuracy = (
            np.mean((predictions - true) ** 2),
            np.mean(predictions.argmax(1) == sets.test.labels),
        )
        found = {"seed": 1, "iteration": iteration}
        assert value(finished, "test_mean_squared_error", **found) == pytest.approx(error, rel=1e-9)
        assert value(finished, "test_accuracy", **found) == pytest.approx(accuracy, rel=1e-9)
        fitted = np.mean((np.asarray(conv(x)) - np.asarray(targets)) ** 2)
        assert value(finished, "train_mean_squared_error", **found) == pytest.approx(fitted, rel=1e-6)
    values = np.linalg.eigvalsh(conv.feature_matrix)
    shares = values / values.sum()
    assert value(finished, "top_eigenvalue_share", seed=1) == pytest.approx(shares[-1], rel=1e-9)
    shares = shares[shares > 0]
    rank = np.exp(-np.sum(shares * np.log(shares)))
    assert value(finished, "effective_rank", seed=1) == pytest.approx(rank, rel=1e-6)


def test_validation_picks_the_best_iteration_and_of_equals_that_of_the_smallest_error():
    def row(iteration, metric, number):
        return {"iteration": iteration, "metric": f"validation_{metric}", "value": number}

    accuracies, errors = (0.5, 0.9, 0.9, 0.9), (0.1, 0.3, 0.2, 0.2)
    given = [row(i, "accuracy", a) for i, a in enumerate(accuracies)]
    given += [row(i, "mean_squared_error", e) for i, e in enumerate(errors)]
    (picked,) = conv_runs.select(given, 3)
    assert picked == {
        "seed": 3,
        "iteration": 2,
        "stage": "machine",
        "metric": "selected_iteration",
        "value": 2,
    }
    assert conv_runs.select([], 3) == []


def test_files_of_a_run(finished):
    config = json.loads((finished / "config.json").read_text())
    assert (config["dataset"], config["title"], config["ridge"]) == ("stars", "Stars in noise", 1e-3)
    assert config["class_names"] == ["noise", "star"]
    assert checkpoint.load_arrays(finished / "arrays" / "patches.npz")["eigenpatches"].shape[2:] == (3, 3, 3)
    for name in ("by_iteration", "samples", "eigenpatches", "filtered_images", "transformed_images"):
        assert (finished / "figures" / f"{name}.png").stat().st_size > 5_000
    assert len((finished / "timings.jsonl").read_text().splitlines()) == 2 * 3


def test_what_is_printed(tmp_path, capsys):
    run(tmp_path, num_validation=0, seeds=(0,), num_iters=1)
    printed = capsys.readouterr().out
    for text in (
        "images: generated",
        "memory: about",
        "time: about",
        "seed 0",
        "plain kernel",
        "AGOP, 1 update",
    ):
        assert text in printed
    assert "by iteration: 77.95%, 94.83%" in printed
    assert "picked by validation" not in printed
    assert "validation acc" not in printed
    assert not [row for row in rows(tmp_path) if "validation" in row["metric"] or "selected" in row["metric"]]


@pytest.mark.parametrize("writes", [1, 6, 12, 20, 27])
def test_a_run_killed_at_any_write_resumes_to_the_same_bytes(finished, tmp_path, monkeypatch, writes):
    monkeypatch.setattr(conv_rfm.conv_figures, "draw_figures", lambda _: [])
    with killed_at_write(writes):
        run(tmp_path)
    run(tmp_path)
    assert (tmp_path / "metrics.jsonl").read_bytes() == (finished / "metrics.jsonl").read_bytes()


def test_finished_iterations_are_loaded_and_damaged_ones_fitted_again(
    finished, tmp_path, monkeypatch, capsys
):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    fit, monkeypatched = conv_runs.fit, pytest.MonkeyPatch()
    monkeypatched.setattr(conv_runs, "fit", None)
    run(tmp_path)
    monkeypatched.undo()
    assert (tmp_path / "metrics.jsonl").read_bytes() == (finished / "metrics.jsonl").read_bytes()
    assert "loaded" in capsys.readouterr().out
    fitted = []
    monkeypatch.setattr(conv_runs, "fit", lambda *args: fitted.append(args[1:3]) or fit(*args))
    path = tmp_path / "checkpoints" / "seed_0" / "iteration_01.npz"
    path.write_bytes(path.read_bytes()[:500])
    run(tmp_path)
    assert "iteration_01.npz is damaged" in capsys.readouterr().out
    assert fitted == [(0, 1)]
    assert (tmp_path / "metrics.jsonl").read_bytes() == (finished / "metrics.jsonl").read_bytes()
    with pytest.raises(RecordsError, match=r"(?s)another configuration.*ridge: 0.001 there, 0.1 now"):
        run(tmp_path, ridge=0.1)
    run(tmp_path, ridge=0.1, resume=False)
    assert value(tmp_path, "test_mean_squared_error") != value(finished, "test_mean_squared_error")


OPTIONS = {
    "num_train": 10,
    "num_test": 9,
    "patch_size": 2,
    "depth": 2,
    "padding": "same",
    "stride": 2,
    "pooling": True,
    "ridge": 1.0,
    "num_iters": 1,
    "agop_size": "all",
    "seeds": (5,),
    "precision": "float32",
}


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_changes_the_result(finished, tmp_path, monkeypatch, option):
    monkeypatch.setattr(conv_rfm.conv_figures, "draw_figures", lambda _: [])
    changes = {"seeds": (0,), option: OPTIONS[option]}
    other = finished
    if option == "pooling":
        # Fewer positions, all of whose pairs count.
        changes["stride"] = 8
        other = run(tmp_path / "other", seeds=(0,), stride=8)
    run(tmp_path / "changed", **changes)
    last, seed = changes.get("num_iters", 2), changes["seeds"][0]
    found = value(tmp_path / "changed", "test_mean_squared_error", last, seed)
    assert found != pytest.approx(value(other, "test_mean_squared_error"), rel=1e-12)


def test_the_kernel_of_training_images_is_kept_by_blocks_of_classes(finished, tmp_path):
    sets = load_sets("stars", **SIZES, seed=0)
    x, order = jnp.asarray(sets.train.images), np.argsort(sets.train.labels, kind="stable")
    gram = np.asarray(ConvNTK(1, 3)(x, x))[np.ix_(order, order)]
    roots = np.sqrt(np.diag(gram))
    kept = checkpoint.load_arrays(finished / "arrays" / "patches.npz")
    np.testing.assert_allclose(kept["gram"][0], gram / np.outer(roots, roots), atol=1e-6)
    assert kept["gram"].shape == (3, 8, 8)
    np.testing.assert_allclose(kept["gram_class_edges"], [0, *np.cumsum(np.bincount(sets.train.labels))])
    # A run that was resumed from its iterates keeps the same.
    workdir = shutil.copytree(finished, tmp_path / "run")
    (workdir / "arrays" / "patches.npz").unlink()
    run(workdir)
    again = checkpoint.load_arrays(workdir / "arrays" / "patches.npz")
    np.testing.assert_array_equal(again["gram"], kept["gram"])
