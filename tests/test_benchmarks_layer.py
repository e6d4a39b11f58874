"""Benchmarks of a Deep RFM layer and of its parts run at toy sizes; what they compare agrees."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import agop_forms, deep_rfm_baseline, deep_rfm_layer, rfm_peers, solvers, sweep
from dnc_jax.cost import LayerMethod, LayerSize, cg_flops, layer_cost
from dnc_jax.matrix_free import ConjugateGradients
from dnc_jax.mixed_solver import mixed_cholesky_solve
from dnc_jax.solvers import cholesky_solve

SMALL = ["--num_rows=60", "--dim=5", "--num_outputs=3", "--repeats=1"]
SIZES = deep_rfm_layer.Sizes(num_rows=60, dim=5, num_outputs=3, width=7)


def records_of(output):
    return [json.loads(line) for line in output.read_text().splitlines()]


def both_layers(sizes, dtype):
    x, targets = deep_rfm_layer.make_data(sizes, dtype)
    ours = deep_rfm_layer.our_layer(jnp.asarray(x), jnp.asarray(targets), sizes.num_features)
    weights = np.asarray(ours[0].features.weights)
    baseline = deep_rfm_baseline.baseline_layer(x, targets, weights, bandwidth=2.0, ridge=1e-3)
    return ours, baseline


@pytest.fixture
def zero_self_distances(monkeypatch):
    expanded = rfm_peers.mahalanobis_distances

    def distances(a, b, m):
        return expanded(a, b, m).fill_diagonal_(0)

    for module in (rfm_peers, deep_rfm_baseline):
        monkeypatch.setattr(module, "mahalanobis_distances", distances)


def test_the_released_layer_is_ours_up_to_the_root_of_rounding():
    pytest.importorskip("torch", reason="the baseline is written in PyTorch")
    ours, baseline = both_layers(SIZES, "float64")
    differences = deep_rfm_layer.differences(ours, baseline())
    # The expansion leaves distances of sqrt(eps) = 1.5e-8 between a row and itself.
    assert 1e-12 < max(differences.values()) < 3e-8


@pytest.mark.usefixtures("zero_self_distances")
def test_with_rows_at_distance_0_from_themselves_the_released_layer_is_ours():
    pytest.importorskip("torch", reason="the baseline is written in PyTorch")
    ours, baseline = both_layers(SIZES, "float64")
    differences = deep_rfm_layer.differences(ours, baseline())
    assert max(differences.values()) < 1e-12


def test_the_refit_of_the_released_layer_solves_the_system_with_its_matrix():
    pytest.importorskip("torch", reason="the baseline is written in PyTorch")
    (layer, _), baseline = both_layers(SIZES, "float64")
    found, x = baseline(), np.asarray(layer.machine.centers)
    apart = np.linalg.norm((x[:, None] - x[None]) @ np.asarray(layer.feature_root), axis=-1)
    system = np.exp(-apart / 2.0) + 1e-3 * np.eye(len(x))
    targets = deep_rfm_layer.make_data(SIZES, "float64")[1]
    np.testing.assert_allclose(system @ found.weights.numpy(), targets, atol=1e-5)


def test_the_products_of_the_released_layer_are_counted():
    pytest.importorskip("torch", reason="the baseline is written in PyTorch")
    from torch.utils.flop_counter import FlopCounterMode

    n, d, c, p = SIZES
    with FlopCounterMode(display=False) as counter:
        both_layers(SIZES, "float64")[1]()
    decompositions = 2 * (2 / 3 * n**3 + 2 * n**2 * c) + 7 * d**3
    assert deep_rfm_baseline.baseline_flops(n, d, p, c) == counter.get_total_flops() + decompositions


def test_the_flops_of_a_layer_are_those_of_the_formula():
    n, d = 6, 2
    others = n * n * d + n**3 / 3 + 9 * d**3
    assert deep_rfm_layer.necessary_flops(n, d, 50) == others + n**3 + 2 * n * n * d + n * d * d
    assert deep_rfm_layer.necessary_flops(n, d, 1) == others + 2 * n * n * d + n * d * d


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 3e-8), ("float32", 1e-3)])
def test_a_layer_is_timed_beside_the_released_one(tmp_path, capsys, dtype, tolerance):
    output = tmp_path / "timings.jsonl"
    deep_rfm_layer.main([*SMALL, f"--dtype={dtype}", f"--output={output}"])
    rows = records_of(output)
    assert [row["layer"] for row in rows] == ["ours", "baseline"][: 1 + deep_rfm_baseline.HAS_TORCH]
    assert rows[0]["over_ours"] == 1
    for row in rows:
        assert (row["dtype"], row["num_rows"], row["width"]) == (dtype, 60, 5)
        assert min(row[name] for name in ("seconds", "gigaflops", "over_necessary")) > 0
    assert min(rows[0][name] for name in ("over_predicted", "bytes_over_predicted")) > 0
    for row in rows[1:]:
        assert max(row["matrix_difference"], row["output_difference"]) < tolerance
    assert "product_gigaflops_per_second" in capsys.readouterr().out


def test_mixed_precision_is_timed_beside_on_classes_of_a_radius(tmp_path):
    output = tmp_path / "timings.jsonl"
    deep_rfm_layer.main([*SMALL, "--mixed", "--radius=0.01", f"--output={output}"])
    ours, mixed = records_of(output)[:2]
    assert (ours["layer"], mixed["layer"]) == ("ours", "mixed")
    assert 1e-12 < mixed["matrix_difference"] < 1e-5
    size = LayerSize(60, 0, 5, 5, 3)
    for row, method in ((ours, LayerMethod()), (mixed, LayerMethod(mixed_cholesky_solve, mixed=True))):
        cost = layer_cost(size, 8, method)
        ratio = (row["seconds"] / row["over_predicted"]) / (ours["seconds"] / ours["over_predicted"])
        assert ratio == pytest.approx(cost.flops.total / layer_cost(size, 8).flops.total)
        assert row["bytes_over_predicted"] > 0
    x = deep_rfm_layer.make_data(SIZES, "float64", 0.01)[0]
    assert np.linalg.norm(x, axis=1) == pytest.approx(1, abs=0.1)


def test_without_torch_the_layer_is_timed_alone(monkeypatch, capsys):
    monkeypatch.setattr(deep_rfm_baseline, "HAS_TORCH", False)
    (row,), rate = deep_rfm_layer.measure(SIZES, "float32", 1)
    assert row["layer"] == "ours"
    assert row["matrix_difference"] is None
    assert rate > 0
    assert "torch is not installed, and the baseline" in capsys.readouterr().out


def test_a_sweep_gives_exponents_and_a_figure(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    output, figure = tmp_path / "timings.jsonl", tmp_path / "sweep.png"
    deep_rfm_layer.main([*SMALL, "--sweep=d", "--values=4,8", f"--output={output}", f"--figure={figure}"])
    *rows, exponents = records_of(output)
    assert [row["dim"] for row in rows] == [4, 8]
    counts = [deep_rfm_layer.necessary_flops(60, d, 3) / 1e9 for d in (4, 8)]
    assert [row["ours_gigaflops"] for row in rows] == counts
    assert exponents["ours_gigaflops_exponent"] == pytest.approx(np.log2(counts[1] / counts[0]))
    if deep_rfm_baseline.HAS_TORCH:
        grown = [deep_rfm_baseline.baseline_flops(60, d, d, 3) / 1e9 for d in (4, 8)]
        assert [row["baseline_gigaflops"] for row in rows] == grown
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert "ours_seconds_exponent" in capsys.readouterr().out


def test_an_exponent_is_that_of_a_power():
    assert sweep.exponent([1, 2, 5], [3.0, 12.0, 75.0]) == pytest.approx(2)
    with pytest.raises(ValueError, match=r"at least two different sizes: got \[3, 3\]"):
        sweep.exponent([3, 3], [1.0, 2.0])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--sweep=n"], "--sweep and --values are given together"),
        (["--values=1,2"], "--sweep and --values are given together"),
        (["--figure=sweep.png"], "--figure draws a sweep"),
        (["--mixed", "--dtype=float32"], "--mixed needs --dtype=float64"),
        (["--mixed", "--sweep=n", "--values=7,8"], "--mixed and --radius are for single sizes"),
        (["--sweep=n", "--values=7"], "--values needs at least two different sizes"),
    ],
)
def test_options_that_do_not_fit_are_refused(flags, message, capsys):
    with pytest.raises(SystemExit):
        deep_rfm_layer.main(flags)
    assert message in capsys.readouterr().err


def test_a_figure_without_matplotlib_is_refused_before_the_sweep(monkeypatch, capsys):
    monkeypatch.setattr(deep_rfm_layer, "HAS_MATPLOTLIB", False)
    with pytest.raises(SystemExit):
        deep_rfm_layer.main([*SMALL, "--sweep=n", "--values=4,8", "--figure=sweep.png"])
    assert "--figure needs matplotlib" in capsys.readouterr().err


def test_forms_of_the_agop_are_timed_and_agree(tmp_path):
    output = tmp_path / "timings.jsonl"
    sizes = ["--num_rows=40", "--autodiff_rows=20", "--dim=20", "--repeats=1"]
    agop_forms.main([*sizes, "--num_outputs", "1", "90", f"--output={output}"])
    rows = records_of(output)
    assert [row["benchmark"] for row in rows] == ["agop_forms"] * 2 + ["agop_autodiff"] * 2
    assert [row["num_rows"] for row in rows] == [40, 40, 20, 20]
    assert [row["num_outputs"] for row in rows] == [1, 90, 1, 90]
    assert [row["cheaper_by_count"] for row in rows[:2]] == ["direct", "class_free"]
    for row in rows[:2]:
        seconds = {name: row[f"{name}_seconds"] for name in ("class_free", "direct")}
        assert seconds[row["cheaper_by_clock"]] == min(seconds.values())
        assert min(row["class_free_over_predicted"], row["direct_over_predicted"]) > 0
        counted = agop_forms.predicted_flops(40, 20, row["num_outputs"])
        ratio = row["class_free_over_predicted"] / row["direct_over_predicted"]
        ratio *= row["direct_over_class_free"] * counted["class_free"] / counted["direct"]
        assert ratio == pytest.approx(1)
    assert min(row["closed_form_over_predicted"] for row in rows[2:]) > 0
    assert max(row["difference"] for row in rows) < 1e-13


def test_solvers_are_timed_and_solve(tmp_path, monkeypatch):
    monkeypatch.setitem(solvers.SOLVERS, "another", lambda a, targets: cholesky_solve(a, targets))
    output = tmp_path / "timings.jsonl"
    sizes = ["--dim=4", "--num_outputs=2", "--repeats=1", "--num_rows", "12", "30"]
    solvers.main([*sizes, f"--output={output}"])
    rows = records_of(output)
    dense = ["cholesky", "quick_cholesky", "eigh"]
    in_double, in_single = [*dense, "mixed", "another", "cg"], [*dense, "another", "cg"]
    assert [row["solver"] for row in rows] == 2 * in_double + 2 * in_single
    size = LayerSize(12, 0, 4, 4, 2)
    assert solvers.predicted_flops("cg", size, 8) == sum(cg_flops(size, ConjugateGradients(), 8))
    mixed, whole = (solvers.predicted_flops(name, size, 8) for name in ("mixed", "cholesky"))
    assert mixed < whole
    assert [row["solver"] for row in rows if row["over_predicted"] is None] == ["another"] * 4
    for row in rows:
        assert row["residual"] < {"float64": 1e-12, "float32": 1e-4}[row["dtype"]]
        assert min(row["seconds"], row["over_cholesky"]) > 0


def test_a_solver_that_solves_another_system_shows_in_the_residual(monkeypatch):
    monkeypatch.setitem(solvers.SOLVERS, "wrong", lambda a, targets: cholesky_solve(2 * a, targets))
    found = {row["solver"]: row["residual"] for row in solvers.measure(12, 4, 2, "float32", 1)}
    assert found["wrong"] == pytest.approx(0.5, rel=1e-3)
