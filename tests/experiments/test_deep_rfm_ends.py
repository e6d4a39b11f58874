"""How runs go on beside files that are not theirs, and how they end where precision or memory does."""

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from experiments import deep_rfm
from experiments.support import devices, estimate

TINY = deep_rfm.Config(dataset="digits", num_train=48, num_test=20, depth=3, width=64, seeds=(0,), devices=1)


def run(workdir: Path, **changes) -> Path:
    deep_rfm.main(dataclasses.replace(TINY, workdir=workdir, **changes))
    return workdir


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    return run(tmp_path_factory.mktemp("finished"))


@pytest.fixture(scope="module")
def foreign(tmp_path_factory) -> Path:
    return run(tmp_path_factory.mktemp("foreign"), ridge=0.1, depth=1)


def layer(workdir: Path, number: int) -> Path:
    return workdir / "checkpoints" / "seed_0" / f"layer_{number:02d}.npz"


@pytest.mark.parametrize("kind", ["run", "layer"])
def test_a_layer_of_another_run_or_depth_is_named_and_fitted_again(finished, foreign, tmp_path, capsys, kind):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    source, number = (layer(foreign, 1), 1) if kind == "run" else (layer(finished, 2), 3)
    shutil.copy(source, layer(tmp_path, number))
    run(tmp_path)
    assert (tmp_path / "metrics.jsonl").read_bytes() == (finished / "metrics.jsonl").read_bytes()
    printed = " ".join(capsys.readouterr().out.split())
    assert f"expected layer {number} of seed 0 of the run" in printed
    assert f"fitting layers {number} to 3 of seed 0 again" in printed


def test_a_run_that_float32_ends_leaves_figures_of_its_finished_layers(tmp_path, monkeypatch):
    fit = deep_rfm.fit

    def failing(session, seed, number, *others):
        if number == 3:
            raise deep_rfm.floor.floor_error(number, 3, "as a test", jnp.dtype(jnp.float32))
        return fit(session, seed, number, *others)

    monkeypatch.setattr(deep_rfm, "fit", failing)
    with pytest.raises(ArithmeticError, match="figures of the finished layers are in"):
        run(tmp_path)
    assert (tmp_path / "figures" / "collapse_by_layer.png").exists()
    layers = {json.loads(line)["layer"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()}
    assert layers == {1, 2}


def test_a_run_that_ends_in_its_first_layer_has_nothing_to_draw(tmp_path, monkeypatch):
    def failing(*_):
        raise deep_rfm.floor.floor_error(1, 3, "as a test", jnp.dtype(jnp.float32))

    monkeypatch.setattr(deep_rfm, "fit", failing)
    with pytest.raises(ArithmeticError, match="as a test"):
        run(tmp_path)
    assert not list((tmp_path / "figures").iterdir())


def test_contradicting_duplicates_are_named_where_there_is_no_ridge(tmp_path, monkeypatch):
    images = deep_rfm.data.load("digits")
    copies, labels = images.train.images.copy(), images.train.labels.copy()
    copies[labels <= 1] = copies[labels == 0][0]
    doubled = dataclasses.replace(images, train=dataclasses.replace(images.train, images=copies))
    monkeypatch.setattr(deep_rfm.data, "load", lambda *_, **__: doubled)
    with pytest.raises(ValueError, match=r"repeat another one with a different label.*use --ridge=1e-3"):
        run(tmp_path, ridge=0.0)


def test_too_little_memory_is_explained_before_it_happens(tmp_path, monkeypatch):
    # A few of the 1000 digits would fit.
    monkeypatch.setattr(deep_rfm.devices, "free_bytes", lambda _: estimate.BASE_BYTES + 10 * 2**20)
    with pytest.raises(
        ValueError, match=r"not enough memory: K needs 8 MiB in float64 .* use .*--num-train="
    ):
        run(tmp_path, num_train=1000)


def test_a_plan_is_that_of_the_solver_that_is_asked_for(tmp_path, capsys):
    run(tmp_path, num_train=1000, solver="cg", cg_keep="nothing", dry_run=True)
    assert "steps of conjugate gradients" in capsys.readouterr().out
    run(tmp_path, num_train=1000, dry_run=True)
    assert "(K: 8 MiB)" in capsys.readouterr().out
    run(tmp_path, num_train=1000, solver="cg", devices=4, dry_run=True)
    assert "at once on all 4 devices together (what is kept of K on each: " in capsys.readouterr().out


def test_memory_that_runs_out_within_a_run_is_explained_with_what_was_planned(tmp_path, monkeypatch):
    def run_out(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 42 bytes.\nmore")

    monkeypatch.setattr(deep_rfm, "run_seed", run_out)
    with pytest.raises(
        estimate.MemoryEstimateError,
        match=r"allocating 42 bytes.*estimate was: memory: about .* free.*goes on after.*use --solver=cg",
    ):
        run(tmp_path, num_train=100)


@pytest.mark.parametrize(
    ("folder", "names"),
    [
        ("", ("memory.max", "memory.current", "inactive_file")),
        ("memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")),
    ],
)
def test_a_limit_of_the_container_is_what_is_free(tmp_path, folder, names):
    where = tmp_path / folder
    where.mkdir(exist_ok=True)
    limit, used, cached = names
    (where / used).write_text("900\n")
    (where / "memory.stat").write_text(f"anon 1\n{cached} 300\n")
    for text, free in (("1000\n", 400), ("max\n", sys.maxsize), (f"{2**63 - 4096}\n", 2**63 - 4096 - 600)):
        (where / limit).write_text(text)
        assert devices.free_in_container(tmp_path) == free
    (where / limit).unlink()
    assert devices.free_in_container(tmp_path) == sys.maxsize
