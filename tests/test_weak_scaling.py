"""What devices send is read from a program as counted by hand; the benchmark runs at a toy size."""

import json

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from benchmarks import collectives, plan, weak_scaling
from dnc_jax.cost import CG_STEPS, LayerMethod, LayerSize, layer_cost
from dnc_jax.matrix_free import ConjugateGradients

TINY = ["--num_rows=48", "--dim=6", "--num_outputs=2", "--rank=64", "--tile_kib=4"]


def program(num_devices):
    """Gathers (8, 3), then three times and as often as the rows say scatters the sum of it, and adds (2,)."""

    def local(x):
        whole = jax.lax.all_gather(x, "rows", tiled=True)

        def step(_, carry):
            return carry + jax.lax.psum_scatter(whole * carry[0, 0], "rows", tiled=True)

        thrice = jax.lax.fori_loop(0, 3, step, x)
        count = jnp.sum(thrice).astype(int)
        turn = (lambda state: state[0] < count), (lambda state: (state[0] + 1, step(0, state[1])))
        _, often = jax.lax.while_loop(*turn, (0, thrice))
        return often + jax.lax.psum(often[0, :2], "rows")[0]

    by_row = PartitionSpec("rows")
    mesh = weak_scaling.mesh_of(num_devices)
    run = jax.shard_map(local, mesh=mesh, in_specs=by_row, out_specs=by_row, check_vma=False)
    return jax.jit(run).lower(jax.ShapeDtypeStruct((8, 3), jnp.float32)).compile().as_text()


def test_what_a_program_sends_is_counted_by_loops():
    found = collectives.collectives_of(program(4), 4)
    assert sorted((each.kind, each.size, each.num_bytes, each.times, each.depth) for each in found) == [
        ("all-gather", 24, 96, 1, 0),
        ("all-reduce", 2, 8, 1, 0),
        ("reduce-scatter", 24, 96, 1, 1),
        ("reduce-scatter", 24, 96, 3, 0),
    ]
    assert collectives.sent_bytes(found, 4) == {0: 72 + 12 + 3 * 72, 1: 72}


def test_one_device_sends_nothing():
    found = collectives.collectives_of(program(1), 1)
    assert not sum(collectives.sent_bytes(found, 1).values())


@pytest.mark.parametrize("is_fixed", [False, True])
def test_rows_on_devices_are_a_multiple_of_them(is_fixed):
    rows = [weak_scaling.rows_on(count, 1000, is_fixed=is_fixed) for count in (1, 2, 3, 4)]
    assert rows == ([1000, 1000, 999, 1000] if is_fixed else [1000, 1414, 1731, 2000])


def test_a_layer_holds_and_sends_on_each_device_what_is_predicted(tmp_path, capsys):
    output = tmp_path / "scaling.jsonl"
    weak_scaling.main([*TINY, "--num_devices=4", f"--output={output}"])
    (row,) = [json.loads(line) for line in output.read_text().splitlines()]
    assert (row["num_rows"], row["num_devices"], row["steps"] > 1) == (96, 4, True)
    # 8 blocks of 12 rows, of which each device has two with 5 tiles.
    assert row["tiles_mib"] == 2 * 5 * 12**2 * 8 / 2**20 < row["held_mib"]
    assert 0.3 < row["held_over_predicted"] < 3
    assert 0 < row["matrix_difference"] < 1e-8
    for part in weak_scaling.PARTS:
        # What is left are scalars and norms.
        assert 1 <= row[f"{part}_over_predicted"] < 1.1
    assert "step_over_predicted" in capsys.readouterr().out


def test_devices_are_forced_only_where_nobody_said_how_many(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=here")
    weak_scaling.force_devices(4)
    weak_scaling.force_devices(8)
    expected = "--xla_dump_to=here --xla_force_host_platform_device_count=4"
    assert weak_scaling.os.environ["XLA_FLAGS"] == expected


@pytest.mark.parametrize(
    ("count", "message"), [(0, "at least 1: got '0'"), (99, "at most 8, which there are")]
)
def test_devices_that_cannot_be_had_are_refused(count, message, capsys):
    with pytest.raises(SystemExit):
        weak_scaling.main([f"--num_devices={count}"])
    assert message in capsys.readouterr().err


def test_the_plan_is_what_the_cost_model_and_the_counts_of_bytes_say(tmp_path):
    output = tmp_path / "plan.jsonl"
    counts = ["--num_rows", "4096", "--num_devices", "1", "4", "--dim=32", "--agop_size=100", "--rank=64"]
    rates = ["--memory=0.1", "--teraflops=2", "--network=4"]
    plan.main([*counts, *rates, f"--output={output}"])
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [(row["num_devices"], row["keep"]) for row in rows] == [
        (count, keep) for count in (1, 4) for keep in ("float32", "nothing")
    ]
    size, solver = LayerSize(4096, 0, 32, 32, 10), ConjugateGradients(rank=64, keep="float32")
    cost = layer_cost(size, 8, LayerMethod(solver, 100, num_devices=4))
    sent = weak_scaling.predicted_bytes(weak_scaling.Sizes(4096, 32, 10), solver, 4, 8)
    in_gib = (sent["once"] + 2 * sent["round"] + CG_STEPS * sent["step"]) / 2**30
    shared = rows[2]
    assert shared["petaflops"] == pytest.approx(cost.flops.total / 4e15)
    assert shared["seconds_of_flops"] == pytest.approx(cost.flops.total / 4 / 2e12)
    assert shared["held_gib"] == pytest.approx(cost.bytes.peak / 2**30)
    assert (shared["sent_gib"], shared["seconds_of_network"]) == pytest.approx((in_gib, in_gib / 4))
    assert [row["sent_gib"] for row in rows[:2]] == [0, 0]
    assert [row["fits"] for row in rows] == [row["held_gib"] < 0.1 for row in rows]
    assert {row["fits"] for row in rows} == {True, False}
