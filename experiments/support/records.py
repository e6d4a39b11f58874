"""What a run writes: its configuration, its numbers as tidy rows, its timings, its environment.

metrics.jsonl holds deterministic numbers only, so that two runs of one configuration can be compared byte
by byte; everything that a clock or a machine decides goes to timings.jsonl and environment.json.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.support.atomic import append_durably, make_folder, write_atomically

Row = dict[str, Any]
OWN_FILES = (
    *("config.json", "metrics.jsonl", "timings.jsonl", "environment.json", "terminal_phase.jsonl"),
    *("report.html", "report.md"),
)
OWN_FOLDERS = ("checkpoints", "figures", "arrays")


class RecordsError(ValueError):
    """A record of a run is missing, unreadable, or belongs to another configuration."""


@dataclass(frozen=True)
class Run:
    """An open run: the folder that its records go to."""

    workdir: Path

    @property
    def metrics(self) -> Path:
        """The tidy rows of deterministic numbers."""
        return self.workdir / "metrics.jsonl"

    def checkpoint(self, seed: int, layer: int) -> Path:
        """Returns the file of a finished layer, counted from 1."""
        return self.workdir / "checkpoints" / f"seed_{seed}" / f"layer_{layer:02d}.npz"

    def arrays(self, layer: int) -> Path:
        """Returns the file of what figures show of a layer of the first seed, counted from 1."""
        return self.workdir / "arrays" / f"layer_{layer:02d}.npz"

    def epoch_arrays(self, epoch: int) -> Path:
        """Returns the file of what figures show of a measured epoch of the first seed."""
        return self.workdir / "arrays" / f"epoch_{epoch:05d}.npz"

    def epochs(self, seed: int) -> Path:
        """Returns the folder of the checkpoints of a network's training."""
        return self.workdir / "checkpoints" / f"seed_{seed}"

    def owner(self, seed: int, layer: int | None = None) -> str:
        """Returns whose a checkpoint is: this configuration's, this seed's and, if given, this layer's."""
        config = hashlib.sha256((self.workdir / "config.json").read_bytes()).hexdigest()
        return ("" if layer is None else f"layer {layer} of ") + f"seed {seed} of the run {config[:16]}"

    def log(self, rows: Iterable[Row]) -> None:
        """Appends rows to metrics.jsonl and flushes them to the disk."""
        append_durably(self.metrics, to_lines(rows))

    def write_lines(self, name: str, rows: Iterable[Row]) -> None:
        """Writes rows as a file of their own, atomically."""
        write_atomically(self.workdir / name, lambda file: file.write(to_lines(rows).encode()))

    def log_timing(self, row: Row) -> None:
        """Appends a row to timings.jsonl."""
        append_durably(self.workdir / "timings.jsonl", to_lines([row]))


def open_run(workdir: Path, config: Mapping[str, Any], environment: Mapping[str, Any], resume: bool) -> Run:
    """Returns the run of a workdir, new or continued; without resume the records of an old one are removed.

    metrics.jsonl starts empty: the caller logs the rows of every layer again, loaded or fitted.

    Raises:
        RecordsError: If the workdir holds a run of another configuration, or files of someone else.
        WriteError: If the workdir cannot be written.
    """
    run = Run(workdir)
    make_folder(workdir)
    if not (workdir / "config.json").exists():
        _check_free(workdir)
    elif resume:
        _check_same(workdir / "config.json", config)
    else:
        _discard(workdir)
    write_json(workdir / "config.json", config)
    write_json(workdir / "environment.json", environment)
    _drop_torn_line(workdir / "timings.jsonl")
    for folder in OWN_FOLDERS:
        make_folder(workdir / folder)
    write_atomically(run.metrics, lambda _: None)
    return run


def to_lines(rows: Iterable[Row]) -> str:
    """Returns rows as JSON lines.

    Raises:
        RecordsError: If a value is not a finite number: such a value is never recorded.
    """
    lines = []
    for row in rows:
        bad = [name for name, value in row.items() if isinstance(value, float) and not math.isfinite(value)]
        if bad:
            raise RecordsError(
                f"a record holds a value that is not finite: {row}; raise the ridge, take float64 or a "
                "larger width, or check that each class has points that differ"
            )
        lines.append(json.dumps(row) + "\n")
    return "".join(lines)


def read_run(workdir: Path) -> tuple[dict[str, Any], list[Row]]:
    """Returns the configuration and the rows of a run.

    Raises:
        OSError, ValueError: If a file is missing or damaged.
    """
    config = json.loads((workdir / "config.json").read_text(encoding="utf-8"))
    lines = (workdir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return config, [json.loads(line) for line in lines]


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes an indented JSON file atomically."""
    write_atomically(path, lambda file: file.write((json.dumps(content, indent=2) + "\n").encode()))


def _check_same(path: Path, config: Mapping[str, Any]) -> None:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(stored, dict):
            raise ValueError(f"it holds a {type(stored).__name__}, not an object")
        names = sorted(set(stored) | set(config))
    except (ValueError, TypeError) as error:
        raise RecordsError(
            f"{path} is damaged: {error}; start over with --no-resume, which removes this run"
        ) from error
    now = json.loads(json.dumps(dict(config)))
    changed = [name for name in names if stored.get(name) != now.get(name)]
    if changed:
        differences = "\n".join(
            f"  {name}: {stored.get(name)} there, {now.get(name)} now" for name in changed
        )
        raise RecordsError(
            f"{path.parent} holds a run of another configuration:\n{differences}\n"
            "choose another --workdir, or start over with --no-resume, which removes that run"
        )


def _drop_torn_line(path: Path) -> None:
    """Removes half of a last row, which a kill leaves: the next row would go on in its line."""
    found = path.read_bytes() if path.exists() else b""
    if found and not found.endswith(b"\n"):
        write_atomically(path, lambda file: file.write(found[: found.rfind(b"\n") + 1]))


def _check_free(workdir: Path) -> None:
    found = [name for name in (*OWN_FILES, *OWN_FOLDERS) if (workdir / name).exists()]
    if found:
        raise RecordsError(
            f"{workdir} has no config.json but already holds {', '.join(found)}, which no run has written; "
            "choose another --workdir, or move these away"
        )


def _discard(workdir: Path) -> None:
    # config.json last: while it is there, the rest is known to be a run's.
    for name in OWN_FOLDERS:
        shutil.rmtree(workdir / name, ignore_errors=True)
    for name in reversed(OWN_FILES):
        (workdir / name).unlink(missing_ok=True)
