"""One run by two processes of two devices each, on the loopback interface."""

import json
import os
import re
import signal
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from experiments import deep_rfm
from experiments.support import devices, hosts
from experiments.support.records import read_run

SMALL = {
    "dataset": "digits",
    "num_train": 96,
    "num_test": 40,
    "depth": 2,
    "width": 64,
    "solver": "cg",
    "cg_tolerance": 1e-13,
    "cg_rank": 32,
}
SECONDS = 240
PROGRAM = ("-m", "experiments.deep_rfm")
# A process ends where it would log its first layer, as if its machine had failed.
DYING = """
import os, signal, sys
from experiments.support.layer_files import LayerFiles
LayerFiles.log = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
import runpy
runpy.run_module("experiments.deep_rfm", run_name="__main__", alter_sys=True)
"""
# The same where it would compare its options with the others'.
TERMINATED = """
import os, signal
from experiments.support import hosts
hosts.check_same = lambda *_: os.kill(os.getpid(), signal.SIGTERM)
import runpy
runpy.run_module("experiments.deep_rfm", run_name="__main__", alter_sys=True)
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def start(workdirs, *flags, first=PROGRAM, second=PROGRAM) -> list[subprocess.Popen]:
    """Starts two processes of one run."""
    port = free_port()
    sizes = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    two_devices = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    started = []
    for number, (workdir, program) in enumerate(zip(workdirs, (first, second), strict=True)):
        of_hosts = [f"--coordinator=localhost:{port}", "--num-processes=2", f"--process-id={number}"]
        flags_of_run = [*sizes, "--seeds", "0", "--distributed", *of_hosts, f"--workdir={workdir}", *flags]
        command = [sys.executable, *program, *flags_of_run]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, env=os.environ | two_devices, **pipes))
    return started


def ended(processes: list[subprocess.Popen]) -> list[tuple[int, str, str]]:
    """What became of processes: exit status, output, errors."""
    try:
        outputs = [process.communicate(timeout=SECONDS) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, *output) for process, output in zip(processes, outputs, strict=True)]


def config_of(workdir, **changes) -> deep_rfm.Config:
    return deep_rfm.Config(**SMALL | {"seeds": (0,), "devices": 1, "workdir": workdir} | changes)


def assert_same_records(workdir, reference, rtol):
    (_, rows), (_, expected) = read_run(workdir), read_run(reference)
    assert [{**row, "value": 0} for row in rows] == [{**row, "value": 0} for row in expected]
    exact = {"num_steps", "residual", "largest_residual", "condition_estimate", "within_class_rounding"}
    pairs = [
        (r["value"], e["value"]) for r, e in zip(rows, expected, strict=True) if r["metric"] not in exact
    ]
    np.testing.assert_allclose(*zip(*pairs, strict=True), rtol=rtol, atol=1e-12)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The records of one process and one device."""
    folder = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context():
        deep_rfm.main(config_of(folder / "run"))
    return folder / "run"


def test_two_processes_of_two_devices_give_the_records_of_one(alone, tmp_path):
    first, second = ended(start((tmp_path / "run", tmp_path / "other")))
    assert (first[0], second[0]) == (0, 0), first[2] + second[2]
    assert "NC1 went from" in first[1]
    assert second[1] == ""
    assert not (tmp_path / "other").exists()
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert (environment["num_processes"], environment["num_devices"]) == (2, 4)
    assert_same_records(tmp_path / "run", alone, rtol=1e-9)


def test_the_death_of_a_process_ends_the_other_and_one_device_goes_on(alone, tmp_path, capsys):
    workdir = tmp_path / "run"
    first, second = ended(start((workdir, tmp_path / "other"), second=("-c", DYING)))
    assert second[0] == -signal.SIGKILL
    assert first[0] == 1
    assert "another process of this run has ended" in first[2]
    assert "Finished layers are kept" in first[2]
    capsys.readouterr()
    deep_rfm.main(config_of(workdir))
    assert "loaded" in capsys.readouterr().out
    assert_same_records(workdir, alone, rtol=1e-9)


@pytest.mark.parametrize(
    ("flags", "of_first", "of_second"),
    [
        (["--ridge=0.5"], "", "ridge 0.5 here, 0.001 there"),
        (["--no-resume"], "", "resume False here, True there"),
        (["--data-dir=nowhere"], "because of an error in process 1: see what it printed", "got nowhere"),
    ],
    ids=["ridge", "resume", "data"],
)
def test_processes_with_other_options_all_end_and_are_told_why(flags, of_first, of_second, tmp_path):
    first, second = ended(start((tmp_path / "run", tmp_path / "other"), second=(*PROGRAM, *flags)))
    assert (first[0], second[0]) == (1, 1)
    assert of_first in first[2]
    assert of_second in second[2]
    assert not (tmp_path / "run").exists()


def test_the_death_of_the_first_process_ends_the_other_too(tmp_path):
    first, second = ended(start((tmp_path / "run", tmp_path / "other"), first=("-c", DYING)))
    assert first[0] == -signal.SIGKILL
    # Within an exchange the other hears of it; between two, the runtime ends it.
    if second[0] == 1:
        assert "another process of this run has ended" in second[2]
    else:
        assert second[0] == -signal.SIGABRT
        assert "coordination service" in second[2]


def test_a_process_that_is_told_to_end_does_and_so_does_the_other(tmp_path):
    first, second = ended(start((tmp_path / "run", tmp_path / "other"), second=("-c", TERMINATED)))
    assert second[0] == -signal.SIGTERM
    assert first[0] == 1
    assert "another process of this run has ended" in first[2]


def test_memory_of_several_processes_is_counted_with_32_bits_too(tmp_path):
    flags = ("--dry-run", "--precision=float32")
    first, second = ended(start((tmp_path / "run", tmp_path / "other"), *flags))
    assert (first[0], second[0]) == (0, 0), first[2] + second[2]
    assert "on all 4 devices together" in first[1]
    assert re.search(r", [\d.]+ [GM]iB free", first[1])


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"coordinator": "localhost:1"}, "--coordinator"),
        ({"num_processes": 2, "process_id": 0}, "--num-processes, --process-id"),
    ],
)
def test_options_of_several_processes_need_distributed(given, text, tmp_path):
    with pytest.raises(ValueError, match=f"{text} needs --distributed"):
        deep_rfm.main(config_of(tmp_path / "run", **given))


@pytest.mark.parametrize("given", ["node1", "node1:port", "node1:0", "node1:70000"])
def test_a_coordinator_needs_a_port(given, tmp_path):
    with pytest.raises(ValueError, match=f"coordinator must be HOST:PORT.*: got {given}$"):
        deep_rfm.main(config_of(tmp_path / "run", distributed=True, coordinator=given))


def test_every_process_needs_devices_of_its_own(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(devices.DeviceError, match=r"each of the 2 processes must have devices.*first 8 of 8"):
        devices.make_mesh(8, 16)


def test_one_process_alone_is_the_first_and_has_all_rows():
    assert hosts.is_first()
    assert not hosts.are_several()
    assert hosts.least(3) == 3
    assert hosts.from_first(lambda: None) is None
    hosts.check_same({"num_train": 3})
