"""Deep RFM in mixed precision: the records of float64, and what tells which part was in float32."""

import dataclasses

import jax
import pytest

from experiments import deep_rfm
from experiments.support import devices
from tests.experiments.test_deep_rfm import SMALL, run, values

ADDED = {"solve_is_float32", "agop_is_float32"}


def test_the_records_are_those_of_float64(tmp_path):
    mixed, whole = (
        values(run(tmp_path / precision, seeds=(0,), precision=precision))
        for precision in ("mixed", "float64")
    )
    assert {key[3] for key in mixed.keys() - whole.keys()} == ADDED
    assert not whole.keys() - mixed.keys()
    for key, value in whole.items():
        if "nc1" in key[3] or "nc2" in key[3] or key[3] == "condition_estimate":
            assert mixed[key] == pytest.approx(value, rel=2e-2 if key[3].startswith("cond") else 1e-5), key
        elif "nc4" in key[3] or "accuracy" in key[3]:
            assert mixed[key] == value, key
    assert any(mixed[key] != whole[key] for key in whole if key[3] == "nc1")
    assert all(value == 1 for key, value in mixed.items() if key[3] == "solve_is_float32")
    # The class-free form of float64 is the quickest in the first layer.
    in_float32 = [value for key, value in sorted(mixed.items()) if key[3] == "agop_is_float32"]
    assert in_float32 == [0, 1, 1]


@pytest.mark.parametrize(
    ("solver", "remedy"), [("cg", "float64 with --cg-keep=float32"), ("eigh", "float64")]
)
def test_other_solvers_are_refused(tmp_path, solver, remedy):
    message = rf"--precision=mixed needs --solver=cholesky: got --solver={solver}; use --precision={remedy}$"
    with pytest.raises(ValueError, match=message):
        deep_rfm.main(dataclasses.replace(SMALL, workdir=tmp_path, precision="mixed", solver=solver))


@pytest.mark.parametrize("precision", ["mixed", "float64"])
def test_a_backend_without_float64_is_refused(monkeypatch, precision):
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    with pytest.raises(devices.DeviceError, match=r"no native float64: run with --precision=float32"):
        devices.set_precision(precision)
