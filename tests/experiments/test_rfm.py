"""The experiment on recursive feature machines: records, resumption, options, figures, what it prints."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from dnc_jax import Laplace, fit_rfm
from experiments import rfm
from experiments.support import checkpoint, rfm_measures, rfm_options, rfm_runs, rfm_table
from experiments.support.records import RecordsError, Run
from tests.builders import rotation
from tests.experiments.kills import killed_at_write

# One shape for all tasks of one output, so that each program is compiled once.
SMALL = rfm.Config(
    task="polynomial", num_train=40, num_test=20, dim=6, ranks=(1, 2), degrees=(2,), num_iters=2, seeds=(0, 1)
)
MODULAR = rfm.Config(task="modular_addition", prime=5, num_iters=2, seeds=(0,))


def rows(workdir: Path) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def value(workdir: Path, metric: str, iteration: int = 2, seed: int = 0, rank: int | None = None) -> float:
    place = {"metric": metric, "iteration": iteration, "seed": seed}
    place |= {} if rank is None else {"rank": rank}
    return next(row["value"] for row in rows(workdir) if place.items() <= row.items())


def run(workdir: Path, config: rfm.Config = SMALL, **changes) -> Path:
    assert rfm.main(dataclasses.replace(config, workdir=workdir, **changes)) == workdir
    return workdir


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    return run(tmp_path_factory.mktemp("finished"))


@pytest.fixture(scope="module")
def grokked(tmp_path_factory) -> Path:
    return run(tmp_path_factory.mktemp("grokked"), MODULAR)


def test_records_hold_the_numbers_of_the_library(finished):
    config = json.loads((finished / "config.json").read_text())
    assert (config["task"], config["bandwidth"], config["ranks"]) == ("polynomial", 10.0, [1, 2])
    settings = rfm_options.resolved("polynomial", {"num_train": 40, "num_test": 20, "dim": 6})
    problem = rfm_options.draw("polynomial", settings, 1, {"rank": 2, "degree": 2})
    x, targets = jnp.asarray(problem.train_x), jnp.asarray(problem.train_targets)
    fitted = fit_rfm(Laplace(10.0), x, targets, ridge=1e-3, num_iters=2)
    residual = np.asarray(fitted(jnp.asarray(problem.test_x)) - problem.test_targets)
    error, spread = np.mean(residual**2), np.var(problem.test_targets)
    found = {"seed": 1, "rank": 2}
    assert value(finished, "test_mean_squared_error", **found) == pytest.approx(error, rel=1e-9)
    assert value(finished, "test_r2", **found) == pytest.approx(1 - error / spread, rel=1e-9)
    vectors = np.linalg.eigh(fitted.feature_matrix)[1][:, -2:]
    cosines = np.linalg.svd(vectors.T @ problem.directions)[1]
    assert value(finished, "eigenvector_alignment", **found) == pytest.approx(np.mean(cosines**2), rel=1e-9)
    plain = {"iteration": 0, "seed": 1, "rank": 2}
    assert value(finished, "subspace_alignment", **plain) == pytest.approx(2 / 6, rel=1e-9)


def test_files_of_a_run(finished):
    kept = checkpoint.load_arrays(finished / "arrays" / "rank_2_degree_2.npz")
    assert kept["feature_matrices"].shape == (3, 6, 6)
    np.testing.assert_allclose(
        kept["spectra"], np.linalg.eigvalsh(kept["feature_matrices"])[:, ::-1], atol=1e-12
    )
    top = kept["eigenvectors"][2]
    np.testing.assert_allclose(
        top @ kept["feature_matrices"][2], kept["spectra"][2][:, None] * top, atol=1e-12
    )
    for name in ("by_iteration", "feature_matrices"):
        assert (finished / "figures" / f"{name}.png").stat().st_size > 10_000
        assert (finished / "figures" / f"{name}.csv").read_text().count("\n") > 10
    assert json.loads((finished / "environment.json").read_text())["num_devices"] == 1
    assert len((finished / "timings.jsonl").read_text().splitlines()) == 2 * 2 * 3


@pytest.mark.parametrize("writes", [1, 6, 20, 35])
def test_a_run_killed_at_any_write_resumes_to_the_same_bytes(finished, tmp_path, monkeypatch, writes):
    monkeypatch.setattr(rfm.rfm_figures, "draw_figures", lambda _: [])
    with killed_at_write(writes):
        run(tmp_path)
    run(tmp_path)
    assert (tmp_path / "metrics.jsonl").read_bytes() == (finished / "metrics.jsonl").read_bytes()


def test_finished_seeds_are_loaded_and_damaged_ones_fitted_again(grokked, tmp_path, monkeypatch, capsys):
    shutil.copytree(grokked, tmp_path, dirs_exist_ok=True)
    fit_cell = rfm_runs.fit_cell
    monkeypatch.setattr(rfm_runs, "fit_cell", None)
    run(tmp_path, MODULAR)
    assert (tmp_path / "metrics.jsonl").read_bytes() == (grokked / "metrics.jsonl").read_bytes()
    assert "loaded" in capsys.readouterr().out
    monkeypatch.setattr(rfm_runs, "fit_cell", fit_cell)
    path = tmp_path / "checkpoints" / "seed_0" / "iterates.npz"
    path.write_bytes(path.read_bytes()[:500])
    run(tmp_path, MODULAR)
    assert "iterates.npz is damaged" in capsys.readouterr().out
    assert (tmp_path / "metrics.jsonl").read_bytes() == (grokked / "metrics.jsonl").read_bytes()
    with pytest.raises(RecordsError, match=r"(?s)another configuration.*ridge: 0.0 there, 0.1 now"):
        run(tmp_path, MODULAR, ridge=0.1)


def test_spectra_are_added_to_arrays_of_an_older_run(finished, tmp_path, monkeypatch):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    name = "rank_2_degree_2.npz"
    kept = checkpoint.load_arrays(finished / "arrays" / name)
    for path in (tmp_path / "arrays" / name, tmp_path / "checkpoints" / "seed_0" / name):
        owner = rfm_runs.owner_of(Run(tmp_path), 0, {"rank": 2, "degree": 2})
        older = checkpoint.load_arrays(path, owner)
        del older["spectra"], older["eigenvectors"]
        checkpoint.save_arrays(path, older, owner)
    monkeypatch.setattr(rfm.rfm_figures, "draw_figures", lambda _: [])
    monkeypatch.setattr(rfm_runs, "fit_cell", None)
    run(tmp_path)
    added = checkpoint.load_arrays(tmp_path / "arrays" / name)
    for array in ("spectra", "eigenvectors"):
        np.testing.assert_array_equal(added[array], kept[array])


OPTIONS = {
    "num_train": 30,
    "num_test": 10,
    "dim": 5,
    "ranks": (3, 2),
    "degrees": (3,),
    "kernel": "gaussian",
    "bandwidth": 1.0,
    "ridge": 1.0,
    "gradients": "centered",
    "power": 0.5,
    "rescale": "max",
    "seeds": (5,),
    "precision": "float32",
}


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_changes_the_result(finished, tmp_path, monkeypatch, option):
    monkeypatch.setattr(rfm.rfm_figures, "draw_figures", lambda _: [])
    changes = {"seeds": (0,), "ranks": (1,)} | {option: OPTIONS[option]}
    run(tmp_path, **changes)
    seed, rank = changes["seeds"][0], changes["ranks"][0]
    found = value(tmp_path, "test_r2", seed=seed, rank=rank)
    assert found != pytest.approx(value(finished, "test_r2", rank=1), rel=1e-9)


def test_modular_records_are_of_blocks_and_of_the_way_to_the_last_m(grokked, capsys):
    kept = checkpoint.load_arrays(grokked / "arrays" / "iterates.npz")["feature_matrices"]
    cosine = np.sum(kept[1] * kept[2]) / np.linalg.norm(kept[1]) / np.linalg.norm(kept[2])
    assert value(grokked, "alignment_with_last", 1) == pytest.approx(cosine, rel=1e-9)
    assert value(grokked, "train_accuracy") == 1.0
    for block in ("first", "second", "cross"):
        assert 0 < value(grokked, f"circulant_deviation_{block}") < 1


@pytest.mark.parametrize(
    "changes",
    [
        {"kernel": "quadratic"},
        {"task": "modular_subtraction"},
        {"prime": 7},
        {"features": "random_circulant", "num_iters": None},
    ],
)
def test_modular_options_change_the_result(grokked, tmp_path, capsys, changes):
    run(tmp_path, MODULAR, **changes)
    at = 1 if "features" in changes else 2
    error = "test_mean_squared_error"
    assert value(tmp_path, error, at) != pytest.approx(value(grokked, error, at), rel=1e-6)
    if "features" in changes:
        assert value(tmp_path, "circulant_deviation_cross", 1) < 1e-20
        assert "random M" in capsys.readouterr().out


@pytest.mark.parametrize("task", ["tutorial", "low_rank", "multi_index", "parity"])
def test_every_task_runs_and_is_summed_up(tmp_path, capsys, task):
    own = {"ranks": None} if task != "multi_index" else {}
    own |= {"degrees": None} if task != "parity" else {}
    run(tmp_path, task=task, seeds=(0,), num_iters=1, **own)
    assert "plain laplace kernel" in capsys.readouterr().out
    assert value(tmp_path, "train_r2", 0) > 0.5


def test_alignment_is_of_top_eigenvectors_alone():
    basis = rotation(5)
    matrix = jnp.asarray(basis @ np.diag([5.0, 4, 1, 1, 1]) @ basis.T)
    assert float(rfm_measures.eigenvector_alignment(matrix, jnp.asarray(basis[:, :2]))) == pytest.approx(1)
    half = float(rfm_measures.eigenvector_alignment(matrix, jnp.asarray(basis[:, [0, 3]])))
    assert half == pytest.approx(0.5)


def test_a_dry_run_writes_nothing(tmp_path, capsys):
    assert rfm.main(dataclasses.replace(SMALL, workdir=tmp_path / "run", dry_run=True)) is None
    assert "memory: about" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def made_rows(metric, by_seed):
    return [
        {"seed": seed, "iteration": iteration, "metric": metric, "value": value}
        for seed, values in enumerate(by_seed)
        for iteration, value in enumerate(values)
    ]


def test_published_values_stand_beside_the_mean_and_the_range_of_the_seeds():
    settings = rfm_options.resolved("low_rank", {})
    _, published = rfm_options.PUBLISHED["low_rank"]
    found = [[factor * value for value in published] for factor in (1.5, 1.03, 1.0)]
    lines = rfm_table.published_lines("low_rank", settings, made_rows("test_mean_squared_error", found))
    assert [line.split()[0] for line in lines[1:5]] == ["median", "lowest", "highest", "published:"]
    assert f"{1.5 * published[5]:.6g}" in lines[3]
    assert lines[5].endswith("mean 0.0022 (17.7% at most), median 0.00037 (3.0% at most)")
    made = made_rows("test_mean_squared_error", found[:1])
    assert rfm_table.published_lines("low_rank", settings | {"ridge": 1.0}, made) == []


def test_the_closing_lines_of_modular_arithmetic_say_when_the_median_arrives():
    settings = rfm_options.resolved("modular_addition", {})
    made = made_rows("test_accuracy", [[0, 0.1, 1, 1], [0, 0, 0.5, 0.995], [0, 0.04, 0.99, 0.995]])
    (line,) = rfm_table.grokking_lines("modular_addition", settings, made)
    assert line.endswith("reaches 5% at iteration 2, 99% at iteration 2, 100% never")
