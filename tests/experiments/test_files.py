"""Atomic files, checkpoints and records under damage and full disks."""

import errno
import json
import os

import numpy as np
import pytest

from experiments.support import atomic, checkpoint, records


def test_arrays_come_back_as_they_were(tmp_path):
    arrays = {"a": np.arange(6.0).reshape(2, 3), "text": np.asarray("é"), "empty": np.zeros((0, 2))}
    checkpoint.save_arrays(tmp_path / "x.npz", arrays)
    loaded = checkpoint.load_arrays(tmp_path / "x.npz")
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded[name], array)


def test_every_single_altered_byte_of_the_data_is_noticed_or_harmless(tmp_path):
    path = tmp_path / "x.npz"
    checkpoint.save_arrays(path, {"a": np.arange(40.0)})
    content = path.read_bytes()
    original = checkpoint.load_arrays(path)["a"]
    noticed = 0
    for position in range(0, len(content), 7):
        altered = bytearray(content)
        altered[position] ^= 0xFF
        path.write_bytes(bytes(altered))
        try:
            np.testing.assert_array_equal(checkpoint.load_arrays(path)["a"], original)
        except checkpoint.CheckpointError:
            noticed += 1
    assert noticed > 40


def test_an_npz_without_a_checksum_is_not_a_checkpoint(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.zeros(3))
    with pytest.raises(checkpoint.CheckpointError, match="its checksum is"):
        checkpoint.load_arrays(tmp_path / "x.npz")


def test_objects_are_never_unpickled(tmp_path):
    np.savez(tmp_path / "x.npz", allow_pickle=True, a=np.array([{}], dtype=object))
    with pytest.raises(checkpoint.CheckpointError, match="damaged"):
        checkpoint.load_arrays(tmp_path / "x.npz")


def test_a_full_disk_leaves_the_old_file_and_says_what_to_do(tmp_path, monkeypatch):
    path = tmp_path / "x.npz"
    checkpoint.save_arrays(path, {"a": np.zeros(3)})
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(atomic.WriteError, match="free some space and run the same command again"):
        checkpoint.save_arrays(path, {"a": np.ones(3)})
    with pytest.raises(atomic.WriteError, match="No space left"):
        atomic.append_durably(tmp_path / "log", "line\n")
    assert path.read_bytes() == before
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_never_recorded(value):
    with pytest.raises(records.RecordsError, match="not finite"):
        records.to_lines([{"metric": "nc1", "value": value}])


def test_files_of_someone_else_are_left_alone(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("mine\n")
    with pytest.raises(records.RecordsError, match=r"already holds metrics\.jsonl"):
        records.open_run(tmp_path, {"a": 1}, {}, resume=True)
    assert (tmp_path / "metrics.jsonl").read_text() == "mine\n"


def test_no_resume_removes_only_what_a_run_has_written(tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "mine.txt").write_text("mine")
    for resume in (True, False):
        with pytest.raises(records.RecordsError, match=r"already holds figures, which no run has written"):
            records.open_run(tmp_path, {"a": 1}, {}, resume=resume)
    assert (tmp_path / "figures" / "mine.txt").read_text() == "mine"
    assert not (tmp_path / "config.json").exists()


@pytest.mark.parametrize("content", ["{", "[]", '["command"]'])
def test_a_damaged_configuration_is_explained(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(records.RecordsError, match=r"config.json is damaged.*--no-resume"):
        records.open_run(tmp_path, {"a": 1}, {}, resume=True)


def test_half_of_a_last_timing_is_dropped_when_a_run_goes_on(tmp_path):
    records.open_run(tmp_path, {"a": 1}, {}, resume=True).log_timing({"layer": 1, "seconds": 2.0})
    with (tmp_path / "timings.jsonl").open("a") as file:
        file.write('{"layer": 2, "sec')
    records.open_run(tmp_path, {"a": 1}, {}, resume=True).log_timing({"layer": 2, "seconds": 3.0})
    expected = [{"layer": 1, "seconds": 2.0}, {"layer": 2, "seconds": 3.0}]
    lines = (tmp_path / "timings.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == expected
