"""Benchmarks run at toy sizes, and what they compare agrees; no time is asserted."""

import json
from argparse import ArgumentTypeError
from importlib.util import find_spec

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import (
    agop_forms,
    conv_ntk,
    deep_rfm_layer,
    flags,
    layer_agops,
    metrics,
    plan,
    rfm_fit,
    rfm_peers,
    solvers,
    timing,
    training,
    weak_scaling,
)

DIMS = (7, 6, 5, 3)
SIZES = {"num_rows": 9, "batch_size": 4, "repeats": 2, "product_size": 8}


def test_both_ways_give_the_same_agops():
    weights = layer_agops.make_layers(DIMS, jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (9, 7), jnp.float32)
    for options in ({"batch_size": 4}, {"batch_size": 9}):
        ways = (layer_agops.together, layer_agops.one_by_one)
        for a, b in zip(*(way(weights, x, **options) for way in ways), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_necessary_flops_are_those_of_the_formula():
    forward = 2 * 9 * (7 * 6 + 6 * 5 + 5 * 3)
    products = 9 * 3 * (7 * 7 + 6 * 6 + 5 * 5)
    assert layer_agops.necessary_flops(DIMS, 9) == forward * (1 + 3) + products


def test_the_script_prints_a_table_and_appends_a_record(tmp_path, capsys):
    output = tmp_path / "timings.jsonl"
    flags = [f"--{name}={value}" for name, value in SIZES.items()]
    for _ in range(2):
        layer_agops.main([*flags, f"--output={output}", "--dims", *map(str, DIMS)])
    records = [json.loads(line) for line in output.read_text().splitlines()]
    assert len(records) == 2
    assert records[0]["benchmark"] == "layer_agops"
    assert records[0]["dtype"] == "float32"
    assert records[0]["num_rows"] == 9
    assert min(records[0][name] for name in ("speedup", "over_necessary", "gigaflops_per_second")) > 0
    printed = capsys.readouterr().out
    assert f"jax {jax.__version__}" in printed
    assert "speedup" in printed


def test_functions_are_called_in_turns_after_a_warm_up():
    calls = []
    seconds = timing.medians({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=2)
    assert calls == ["a", "b"] * 3
    assert set(seconds) == {"a", "b"}
    with pytest.raises(ValueError, match="repeats must be at least 1: got 0"):
        timing.medians({}, repeats=0)


SCRIPTS = (
    *(agop_forms, conv_ntk, deep_rfm_layer, layer_agops, metrics, plan, rfm_fit, solvers, training),
    weak_scaling,
)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(script, tmp_path, capsys):
    with pytest.raises(SystemExit):
        script.main([f"--output={tmp_path / 'missing' / 'timings.jsonl'}"])
    assert "argument --output: must lie in a folder that exists: got" in capsys.readouterr().err


def test_files_that_may_not_be_written_and_folders_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "timings.jsonl"
    assert flags.file_to_write(str(path)) == path
    with pytest.raises(ArgumentTypeError, match="must be a file: got the folder"):
        flags.file_to_write(str(tmp_path))
    monkeypatch.setattr(flags.os, "access", lambda place, _: place != tmp_path)
    with pytest.raises(ArgumentTypeError, match="must be a file that may be written: got"):
        flags.file_to_write(str(path))
    path.touch()
    assert flags.file_to_write(str(path)) == path


@pytest.mark.parametrize(
    ("script", "flag"),
    [
        *((script, "--repeats=0") for script in SCRIPTS if script is not plan),
        *((script, "--rank=0") for script in (plan, weak_scaling)),
        (deep_rfm_layer, "--values=1,x"),
    ],
)
def test_numbers_that_nothing_can_be_measured_with_are_refused_by_their_flag(script, flag, capsys):
    with pytest.raises(SystemExit):
        script.main([flag])
    name, value = flag.split("=")
    expected = f"argument {name}: must be a whole number of at least 1: got {value.split(',')[-1]!r}"
    assert expected in capsys.readouterr().err


def test_metrics_are_timed_beside_their_definitions(tmp_path, capsys):
    output = tmp_path / "timings.jsonl"
    flags = ["--num_rows=60", "--dim=6", "--num_classes", "3", "9", "--repeats=1", "--no-memory"]
    metrics.main([*flags, f"--output={output}"])
    records = [json.loads(line) for line in output.read_text().splitlines()]
    libraries = {"dnc_jax", *metrics.LIBRARIES}
    named = {f"{metric}/{lib}" for metric in metrics.METRICS for lib in libraries}
    for num_classes in (3, 9):
        rows = [record for record in records if record["num_classes"] == num_classes]
        assert {row["function"] for row in rows} == named | {"sum_of_squares", "collapse_metrics/dnc_jax"}
        assert all(row["seconds"] > 0 and row["added_mib"] is None for row in rows)
    printed = capsys.readouterr().out
    assert "num_classes 9" in printed
    assert "over_sum_of_squares" in printed
    assert ("PyTorch is not installed" in printed) == ("torch" not in metrics.LIBRARIES)


def test_a_definition_that_disagrees_is_not_timed():
    functions = metrics.contenders(num_rows=30, dim=4, num_classes=3)
    functions["nc2/numpy"] = lambda: 0.5
    with pytest.raises(RuntimeError, match=r"nc2 in numpy is 0\.5, in dnc_jax"):
        metrics.check_agreement(functions)


def test_added_memory_is_that_of_the_call():
    # Larger than what an allocator keeps for itself after the first call.
    sizes = {"num_rows": 100_000, "dim": 200, "num_classes": 3}
    residuals_mib = 100_000 * 200 * 4 / 2**20
    assert metrics.added_memory(sizes, "nc1/numpy") >= 0.9 * residuals_mib


def test_an_epoch_is_the_same_in_torch():
    pytest.importorskip("torch")
    network = training.make_network((7, 6, 6, 3))
    data = training.make_data(23, 7, 3, 2)
    for fused in (False, True):
        mine, other = training.ours(network, data, 5), training.theirs(network, data, 5, fused=fused)
        for _ in range(2):
            np.testing.assert_allclose(mine(), other(), rtol=1e-4)


def test_necessary_flops_of_training_leave_out_the_gradient_of_the_images():
    forward = 2 * 9 * (7 * 6 + 6 * 5 + 5 * 3)
    assert training.necessary_flops(DIMS, 9) == 3 * forward - 2 * 9 * 7 * 6


def test_training_is_timed_and_recorded(tmp_path, capsys):
    output = tmp_path / "timings.jsonl"
    flags = [f"--{name}={value}" for name, value in SIZES.items()]
    training.main([*flags, f"--output={output}", "--dims", "7", "6", "6", "3"])
    (record,) = [json.loads(line) for line in output.read_text().splitlines()]
    assert record["seconds_ours"] > 0
    assert "over_necessary" in capsys.readouterr().out


def test_without_torch_training_says_what_is_left_out(monkeypatch, capsys):
    monkeypatch.setattr(training, "HAS_TORCH", False)
    record = training.measure((7, 6, 6, 3), **SIZES)
    assert record["seconds_torch"] is None
    assert "torch is not installed, and left out" in capsys.readouterr().out


def test_a_fit_of_an_rfm_is_timed_beside_its_peers_and_agrees_with_them(tmp_path, capsys):
    output = tmp_path / "timings.jsonl"
    sizes = ["--num_train=120", "--num_test=40", "--dim=6", "--num_outputs=2", "--repeats=1"]
    rfm_fit.main([*sizes, f"--output={output}"])
    records = [json.loads(line) for line in output.read_text().splitlines()]
    assert records[0]["fit"] == "ours"
    assert records[0]["over_ours"] == 1
    assert records[0]["dtype"] == "float64"
    for record in records:
        assert record["test_mse"] == pytest.approx(records[0]["test_mse"], rel=1e-6)
        assert min(record[part] for part in rfm_fit.PARTS) > 0
    printed = capsys.readouterr().out
    for name, module in (("rfm's algorithm", "torch"), ("xRFM, solve", "xrfm")):
        is_run = any(record["fit"] == name for record in records)
        assert is_run == (find_spec("torch") is not None and find_spec(module) is not None)
        assert is_run or "not installed, and" in printed


def test_the_algorithm_of_the_package_is_the_library_s():
    pytest.importorskip("torch", reason="the peer is written in PyTorch")
    arrays, _ = rfm_fit.make_data(60, 20, 5, 2, "float64")
    settings = rfm_peers.Settings(bandwidth=3.0, ridge=1e-2, num_iters=2)
    theirs = rfm_peers.package_algorithm(arrays, settings)()().predictions
    np.testing.assert_allclose(rfm_fit.ours(arrays, settings)()().predictions, theirs, rtol=1e-6, atol=1e-8)


def test_a_convolutional_kernel_is_timed_beside_its_flops_and_its_patch_agop(tmp_path, capsys):
    output = tmp_path / "timings.jsonl"
    sizes = {"num_images": 3, "image_size": 5, "channels": 2, "patch_size": 2, "depth": 2, "num_outputs": 2}
    conv_ntk.main(
        [*(f"--{name}={size}" for name, size in sizes.items()), "--repeats=1", f"--output={output}"]
    )
    (record,) = [json.loads(line) for line in output.read_text().splitlines()]
    assert {name: record[name] for name in sizes} == sizes
    assert min(record[name] for name in ("gram_over_necessary", "agop_over_gram", "gram_peak_gib")) > 0
    assert "gram_seconds" in capsys.readouterr().out


def test_the_flops_of_a_convolutional_kernel_are_counted_by_hand():
    last, other = (conv_ntk.position_flops(jnp.dtype(jnp.float64), is_last) for is_last in (True, False))
    assert (last, other) == (2 * (19 + 18) + 20, 2 * (19 + 18) + 28)
    kernel = conv_ntk.ConvNTK(2, 2)
    per_pair = 2 * 5 * 4 * 3 + 4 * 3 * other + 3 * 2 * last
    assert conv_ntk.necessary_flops(kernel, 7, (5, 4, 3), jnp.dtype(jnp.float64)) == 28 * per_pair
