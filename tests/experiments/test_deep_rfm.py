"""The whole experiment on small data: records, resumption after every possible kill, options, refusals."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from experiments import deep_rfm
from experiments.support import checkpoint, floor
from experiments.support.feature_maps import sampler_of
from experiments.support.records import RecordsError
from tests.experiments.kills import killed_at_write

# As wide as digits have pixels, so that every layer has one shape and is compiled once.
SMALL = deep_rfm.Config(
    dataset="digits", num_train=96, num_test=40, depth=3, width=64, seeds=(0, 1), devices=1
)


def rows(workdir: Path) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def values(workdir: Path) -> dict[tuple, float]:
    return {(r["seed"], r["layer"], r["stage"], r["metric"]): r["value"] for r in rows(workdir)}


def run(workdir: Path, **changes) -> Path:
    out = deep_rfm.main(dataclasses.replace(SMALL, workdir=workdir, **changes))
    assert out == workdir
    return out


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    return run(tmp_path_factory.mktemp("finished"))


def test_records_hold_every_metric_of_every_layer_and_stage(finished):
    found = values(finished)
    metrics = ("nc1", "nc1_trace_ratio", "nc2", "nc2_gram_mse", "nc4")
    for seed in (0, 1):
        for layer in (1, 2, 3):
            for stage in ("input", "linear", "nonlinear"):
                for metric in metrics:
                    assert (seed, layer, stage, metric) in found
                    assert (seed, layer, stage, f"test_{metric}") in found
            for metric in ("train_accuracy", "test_accuracy", "condition_estimate"):
                assert (seed, layer, "machine", metric) in found
    assert all(np.isfinite(value) for value in found.values())
    assert found[0, 3, "nonlinear", "nc1"] < found[0, 1, "input", "nc1"]
    assert found[0, 1, "machine", "test_accuracy"] > 0.8


def test_what_a_layer_passes_on_is_what_the_next_receives_up_to_the_length_of_rows(finished):
    found = values(finished)
    # Unit rows change NC1 but not which features they are made of: both come close as points collapse.
    assert found[0, 2, "input", "nc1"] == pytest.approx(found[0, 1, "nonlinear", "nc1"], rel=0.5)


def test_files_of_a_run(finished):
    config = json.loads((finished / "config.json").read_text())
    assert config["num_train"] == 96
    assert config["image_shape"] == [8, 8, 1]
    environment = json.loads((finished / "environment.json").read_text())
    assert environment["num_devices"] == 1
    assert len((finished / "timings.jsonl").read_text().splitlines()) == 6
    arrays = checkpoint.load_arrays(finished / "arrays" / "layer_01.npz")
    assert arrays["gram_linear"].shape == (96, 96)
    assert arrays["class_means_input"].shape == (10, 9)
    assert (finished / "figures" / "collapse_by_layer.png").stat().st_size > 10_000


def test_same_numbers_as_the_library_gives(finished):
    import jax
    import jax.numpy as jnp

    from dnc_jax import fit_deep_rfm, nc1, stages
    from experiments.support.data import load
    from experiments.support.preprocess import prepare

    train = prepare(load("digits"), num_train=96, num_test=40, seed=0).train
    x = jnp.asarray(train.inputs)
    deep = fit_deep_rfm(
        jax.random.key(1),
        x,
        jnp.asarray(train.targets),
        depth=3,
        kernel=deep_rfm.Laplace(2.0),
        ridge=1e-3,
        sample_features=sampler_of(SMALL.feature_map, SMALL.width, SMALL.feature_bandwidth),
    )
    for layer in deep.layers[:-1]:
        x = layer(x)
    found = nc1(stages(deep.layers[-1], x).nonlinear, jnp.asarray(train.labels), 10)
    assert float(found) == pytest.approx(values(finished)[1, 3, "nonlinear", "nc1"], rel=1e-9)


@pytest.mark.parametrize("writes", range(1, 30, 4))
def test_a_run_killed_at_any_write_resumes_to_the_same_bytes(finished, tmp_path, writes):
    with killed_at_write(writes):
        run(tmp_path)
    run(tmp_path)
    assert (tmp_path / "metrics.jsonl").read_bytes() == (finished / "metrics.jsonl").read_bytes()
    for path in (finished / "checkpoints").rglob("*.npz"):
        other = tmp_path / path.relative_to(finished)
        assert checkpoint.digest(checkpoint.load_arrays(path)) == checkpoint.digest(
            checkpoint.load_arrays(other)
        )


def test_finished_layers_are_loaded_not_fitted(finished, tmp_path, monkeypatch):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(deep_rfm, "fit", None)
    run(tmp_path)
    assert (tmp_path / "metrics.jsonl").read_bytes() == (finished / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("damage", ["truncated", "altered", "foreign", "empty"])
def test_a_damaged_layer_is_named_and_fitted_again(finished, tmp_path, capsys, damage):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "checkpoints" / "seed_0" / "layer_02.npz"
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        content = content[: len(content) // 2]
    elif damage == "altered":
        content[len(content) // 2] ^= 1
    elif damage == "foreign":
        content = b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00}\x94."
    else:
        content = b""
    path.write_bytes(bytes(content))
    run(tmp_path)
    out = capsys.readouterr().out
    assert "layer_02.npz is damaged" in out
    assert "fitting layers 2 to 3 of seed 0 again" in out
    assert (tmp_path / "metrics.jsonl").read_bytes() == (finished / "metrics.jsonl").read_bytes()


def test_a_changed_configuration_is_refused_with_its_differences(finished):
    before = (finished / "metrics.jsonl").read_bytes()
    with pytest.raises(RecordsError, match=r"(?s)another configuration.*ridge: 0.001 there, 0.1 now"):
        run(finished, ridge=0.1)
    assert (finished / "metrics.jsonl").read_bytes() == before


def test_no_resume_starts_over(finished, tmp_path):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    run(tmp_path, resume=False, seeds=(0,), depth=1)
    assert {(r["seed"], r["layer"]) for r in rows(tmp_path)} == {(0, 1)}
    assert not (tmp_path / "checkpoints" / "seed_1").exists()


OPTIONS = {
    "kernel": "gaussian",
    "bandwidth": 1.0,
    "ridge": 1.0,
    "num_iters": 2,
    "data_seed": 1,
    "label_noise": 0.5,
    "width": 32,
    "num_train": 104,
}


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_changes_the_result(finished, tmp_path, option):
    run(tmp_path, seeds=(0,), depth=2, **{option: OPTIONS[option]})
    key = (0, 2, "input", "nc1")
    assert values(tmp_path)[key] != pytest.approx(values(finished)[key], rel=1e-6)


def test_solvers_agree_and_differ_in_their_condition_numbers(finished, tmp_path):
    run(tmp_path, seeds=(0,), depth=1, solver="eigh")
    by_eigh, by_cholesky = values(tmp_path), values(finished)
    assert by_eigh[0, 1, "linear", "nc1"] == pytest.approx(by_cholesky[0, 1, "linear", "nc1"], rel=1e-8)
    condition = (0, 1, "machine", "condition_estimate")
    assert 0.5 * by_eigh[condition] < by_cholesky[condition] < by_eigh[condition] * (1 + 1e-9)


@pytest.mark.parametrize("feature_map", ["gaussian_fourier", "laplace_fourier", "product_laplace_fourier"])
def test_feature_maps_and_their_bandwidth_change_the_features(finished, tmp_path, feature_map):
    key = (0, 1, "nonlinear", "nc1")
    found = {values(finished)[key]}
    for bandwidth in (1.0, 10.0):
        workdir = tmp_path / str(bandwidth)
        run(workdir, seeds=(0,), depth=1, feature_map=feature_map, feature_bandwidth=bandwidth)
        found.add(values(workdir)[key])
    assert len(found) == 3


def test_own_statistics_change_held_out_numbers_alone(finished, tmp_path):
    run(tmp_path, seeds=(0,), depth=1, own_statistics=True)
    own, shared = values(tmp_path), values(finished)
    assert own[0, 1, "input", "nc1"] == shared[0, 1, "input", "nc1"]
    assert own[0, 1, "input", "test_nc1"] != shared[0, 1, "input", "test_nc1"]


def test_all_devices_give_the_numbers_of_one(finished, tmp_path):
    run(tmp_path, seeds=(0,), depth=2, devices=None)
    assert json.loads((tmp_path / "environment.json").read_text())["num_devices"] == 8
    key = (0, 2, "nonlinear", "nc1")
    assert values(tmp_path)[key] == pytest.approx(values(finished)[key], rel=1e-9)


def test_below_the_floor_a_run_stops_or_marks_its_numbers(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(floor, "MAX_SPREAD", 0.0)
    with pytest.raises(
        floor.PrecisionFloorError, match=r"layer \d of 3 is below the floor of float32.*on-floor"
    ):
        run(tmp_path / "stop", precision="float32", seeds=(0,))
    run(tmp_path / "warn", precision="float32", seeds=(0,), on_floor="warn")
    marked = [r for r in rows(tmp_path / "warn") if r.get("below_floor")]
    first = min(r["layer"] for r in marked)
    assert all(r["stage"] != "input" for r in marked if r["layer"] == first)
    assert {r["stage"] for r in marked if r["layer"] > first} >= {"input", "linear", "nonlinear"}
    assert "layers, ~" in capsys.readouterr().out
    before = (tmp_path / "warn" / "metrics.jsonl").read_bytes()
    (tmp_path / "warn" / "checkpoints" / "seed_0" / "layer_03.npz").unlink()
    run(tmp_path / "warn", precision="float32", seeds=(0,), on_floor="warn")
    assert (tmp_path / "warn" / "metrics.jsonl").read_bytes() == before
    with pytest.raises(floor.PrecisionFloorError, match="as recorded"):
        run(tmp_path / "warn", precision="float32", seeds=(0,))


def test_dry_run_prints_the_cost_and_writes_nothing(tmp_path, capsys):
    config = dataclasses.replace(SMALL, workdir=tmp_path / "run", dry_run=True)
    assert deep_rfm.main(config) is None
    out = capsys.readouterr().out
    assert "memory: about" in out
    assert "num_train" in out
    assert not (tmp_path / "run").exists()


def test_a_dry_run_of_a_dataset_without_files_takes_its_published_sizes(capsys):
    config = dataclasses.replace(deep_rfm.PRESETS["paper"], num_train=2000, dry_run=True)
    assert deep_rfm.main(config) is None
    out = capsys.readouterr().out
    assert "[32, 32, 3]" in out
    assert "memory: about" in out
    with pytest.raises(ValueError, match="num_train is larger than the split of cifar10: got 60000"):
        deep_rfm.main(dataclasses.replace(config, num_train=60_000))


def test_other_data_under_the_same_options_is_refused(finished, tmp_path, monkeypatch):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    images = deep_rfm.data.load("digits")
    other = dataclasses.replace(
        images, train=dataclasses.replace(images.train, images=images.train.images[::-1])
    )
    monkeypatch.setattr(deep_rfm.data, "load", lambda *_, **__: other)
    with pytest.raises(RecordsError, match=r"data_sha256: \w{64} there, \w{64} now"):
        run(tmp_path)


def test_the_closing_line_tells_what_happened(tmp_path, capsys):
    run(tmp_path, seeds=(0,), depth=2)
    out = capsys.readouterr().out
    assert "times smaller" in out
    assert f"figures are in {tmp_path}" in out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth": 0}, "--depth must be at least 1: got 0"),
        ({"width": 0}, "--width must be at least 1"),
        ({"num_iters": 0}, "--num-iters must be at least 1"),
        ({"seeds": ()}, "--seeds must be one or more different"),
        ({"seeds": (1, 1)}, "--seeds must be one or more different"),
        ({"seeds": (2**31,)}, r"--seeds must be .* in 0..2147483647: got"),
        ({"num_train": 10}, "10 training points are one of each class, expected a class with at least 2"),
        ({"num_test": 1}, "num_test is too small for digits: got points of 1 class in 1"),
        ({"ridge": -1.0}, "--ridge must be at least 0: got -1"),
        ({"bandwidth": 0.0}, "--bandwidth must be positive"),
        ({"feature_bandwidth": -1.0}, "--feature-bandwidth must be positive"),
        ({"dataset": "digit"}, "did you mean 'digits'"),
        ({"num_train": 5000}, "num_train is larger than the split of digits: got 5000"),
        ({"num_test": 5000}, "num_test is larger"),
        ({"label_noise": 1.5}, "label_noise is out of range"),
        ({"devices": 100}, "devices must lie in 1..8"),
        ({"devices": 7}, "multiple of the 7 devices"),
    ],
)
def test_options_out_of_range_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        deep_rfm.main(dataclasses.replace(SMALL, workdir=tmp_path, **changes))
    assert not list(tmp_path.iterdir())
