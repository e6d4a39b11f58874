"""Benchmarks run at toy sizes, and what they compare agrees; no time is asserted."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import layer_agops, timing

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
