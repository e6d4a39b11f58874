"""Deep RFM without the kernel matrix, and with AGOPs at drawn points: the same records, and what is added."""

import dataclasses

import pytest

from experiments import deep_rfm
from tests.experiments.test_deep_rfm import SMALL, run, values

ONE = {"seeds": (0,), "solver": "cg", "cg_rank": 32}


@pytest.fixture(scope="module")
def by_cholesky(tmp_path_factory):
    return values(run(tmp_path_factory.mktemp("cholesky"), seeds=(0,)))


@pytest.mark.parametrize("keep", [None, "float32", "nothing"])
def test_conjugate_gradients_give_the_numbers_of_cholesky(by_cholesky, tmp_path, keep):
    found = values(run(tmp_path, cg_keep=keep, **ONE))
    for key, value in by_cholesky.items():
        if "nc" in key[3]:
            assert found[key] == pytest.approx(value, rel=1e-6, abs=1e-9), key
    for layer in (1, 2, 3):
        machine = {name: found[0, layer, "machine", name] for name in ("num_steps", "largest_residual")}
        assert machine["num_steps"] > 1
        assert 0 < machine["largest_residual"] <= 1e-12
    assert not any(key[3] in ("num_steps", "largest_residual", "agop_error") for key in by_cholesky)


def test_a_loose_tolerance_is_kept_and_recorded(tmp_path):
    found = values(run(tmp_path, depth=1, cg_tolerance=1e-3, **ONE))
    assert 1e-12 < found[0, 1, "machine", "largest_residual"] <= 1e-3


@pytest.mark.parametrize("solver", ["cholesky", "cg"])
def test_an_agop_at_drawn_points_says_its_error(by_cholesky, tmp_path, solver):
    found = values(run(tmp_path, seeds=(0,), depth=1, solver=solver, agop_size=48))
    assert 0.01 < found[0, 1, "machine", "agop_error"] < 1
    assert found[0, 1, "linear", "nc1"] != pytest.approx(by_cholesky[0, 1, "linear", "nc1"], rel=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cg_rank": 9}, r"--cg-rank=9 needs --solver=cg: got --solver=cholesky"),
        ({"solver": "eigh", "cg_keep": "nothing"}, r"--cg-keep=nothing needs --solver=cg: got --solver=eigh"),
        ({"solver": "cg", "cg_tolerance": 2.0}, r"^--cg-tolerance must lie between 0 and 1: got 2.0"),
        ({"solver": "cg", "cg_rank": 0}, r"^--cg-rank must be at least 1: got 0"),
        ({"solver": "cg", "ridge": 0.0}, r"ridge must be positive for conjugate gradients: got 0"),
        ({"agop_size": 1000}, r"^--agop-size must lie in 2..96, the training points: got 1000"),
        ({"agop_size": 1, "dry_run": True}, r"^--agop-size must lie in 2..96, the training points: got 1$"),
    ],
)
def test_options_that_do_not_go_together_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        deep_rfm.main(dataclasses.replace(SMALL, workdir=tmp_path, **changes))


def test_devices_that_share_rows_give_the_records_of_one(tmp_path):
    found = {}
    for count in (1, 2, 8):
        out = run(tmp_path / str(count), devices=count, cg_tolerance=1e-13, **ONE)
        found[count] = values(out)
    assert found[1].keys() == found[2].keys() == found[8].keys()
    for key, value in found[1].items():
        if "nc" in key[3] or "accuracy" in key[3]:
            for count in (2, 8):
                assert found[count][key] == pytest.approx(value, rel=1e-9, abs=1e-12), (count, key)
