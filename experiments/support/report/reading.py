"""Finds and reads the records of runs for a report, or says which file or line is at fault."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.support.console import say
from experiments.support.data.catalog import CATALOG
from experiments.support.plotting.reading import check_types, parse_object, read_text
from experiments.support.records import RecordsError, Row

# What counts the steps of a run, and the option that says how many there are.
STEPS = {
    "deep_rfm": ("layer", "depth"),
    "train_network": ("epoch", "epochs"),
    "rfm": ("iteration", "num_iters"),
    "conv_rfm": ("iteration", "num_iters"),
}
# Options that a report of the experiment cannot do without, but for the number of steps.
_CONFIG_TYPES: dict[str, dict[str, type | tuple[type, ...]]] = {
    "deep_rfm": {"seeds": list},
    "train_network": {"seeds": list},
    "rfm": {"seeds": list, "task": str, "kernel": str},
    "conv_rfm": {"seeds": list, "class_names": list},
}
_ROW_TYPES: dict[str, type | tuple[type, ...]] = {"seed": int, "stage": str, "metric": str}
# Fields of a row that do not say what was measured.
OF_NUMBER = ("value", "below_floor")
_DELETE = "delete that line and resume the run"


@dataclass(frozen=True)
class RunRecords:
    """What the folder of a run holds but its arrays; rows without a finite value are left out."""

    folder: Path
    config: dict[str, Any]
    environment: dict[str, Any]
    rows: list[Row]
    timings: list[Row]

    @property
    def command(self) -> str:
        """The experiment that wrote the records."""
        return self.config["command"]

    @property
    def step(self) -> str:
        """What counts the steps: layer, epoch or iteration."""
        return STEPS[self.command][0]

    @property
    def num_steps(self) -> int:
        """The last step of a finished run; a random M makes one iteration, as no number is given."""
        return self.config.get(STEPS[self.command][1], 1)

    @property
    def seeds(self) -> list[int]:
        """The seeds of the configuration."""
        return self.config["seeds"]


def read_runs(folders: Sequence[Path]) -> list[RunRecords]:
    """Returns the records of every run that the folders hold, in their order.

    Raises:
        RecordsError: If a folder holds no run, the same run is named twice, a record is damaged, or the runs
            are of different experiments.
    """
    found = [place for folder in folders for place in find_runs(folder)]
    for place in found:
        if found.count(place) > 1:
            raise RecordsError(f"{place} is named twice: name every run once")
    runs = [read_run_records(place) for place in found]
    commands = {run.command: run.folder for run in reversed(runs)}
    if len(commands) > 1:
        named = ", ".join(f"{folder} is of {command}" for command, folder in commands.items())
        raise RecordsError(f"runs of different experiments have no common curves: {named}; name those of one")
    return runs


def find_runs(folder: Path) -> list[Path]:
    """Returns the folders of the records that lie in a folder, or in one folder below it.

    A run that consists of trainings, as those of random_labels do, stands for all of these with a number.
    """
    if (folder / "config.json").exists():
        trainings = _object(folder / "environment.json").get("runs")
        if not isinstance(trainings, list):
            return [folder.resolve()]
        names = [name for name in trainings if isinstance(name, str) and Path(name).name == name]
        return _begun(folder, names)
    below = sorted(path.parent for path in folder.glob("*/config.json")) if folder.is_dir() else []
    if len(below) == 1:
        return find_runs(below[0])
    if below:
        names = ", ".join(path.name for path in below[:8]) + (", ..." if len(below) > 8 else "")
        raise RecordsError(
            f"{folder} holds {len(below)} runs ({names}), but is none: name those to compare, one by one"
        )
    what = "has no config.json" if folder.is_dir() else "is no folder"
    raise RecordsError(
        f"{folder} is no run: it {what}; name the workdir that an experiment printed as it began"
    )


def _begun(folder: Path, names: Sequence[str]) -> list[Path]:
    files = {name: folder / name / "metrics.jsonl" for name in names}
    begun = [name for name, file in files.items() if file.exists() and file.stat().st_size]
    missing = ", ".join(name for name in names if name not in begun)
    if not begun:
        raise RecordsError(f"{folder} has no number yet of its trainings ({missing}): resume it")
    if missing:
        say(f"{folder} has no number yet of {missing}: the report leaves that out, until the run is resumed")
    return [(folder / name).resolve() for name in begun]


def read_run_records(folder: Path) -> RunRecords:
    """Returns the records of one run; raises RecordsError where they are missing, damaged or not drawable."""
    config = _config(folder / "config.json")
    step = STEPS[config["command"]][0]
    counted: dict[str, type | tuple[type, ...]] = {step: int}
    if step == "epoch":
        counted["layer"] = int
    path, rows = folder / "metrics.jsonl", {}
    for place, fields in _lines(path):
        check_types(fields, _ROW_TYPES | counted, place)
        if _finite(fields.get("value"), place):
            # A number that was measured again after a resume replaces the old one.
            rows[json.dumps({k: v for k, v in fields.items() if k not in OF_NUMBER}, sort_keys=True)] = fields
    if not rows:
        raise RecordsError(f"{path} holds no number yet: the run has no finished {step}; resume it")
    timings = folder / "timings.jsonl"
    return RunRecords(
        folder,
        config,
        _object(folder / "environment.json"),
        list(rows.values()),
        _timings(timings, step) if timings.exists() else [],
    )


def _timings(path: Path, step: str) -> list[Row]:
    """Returns how long steps took; raises RecordsError for what is no seed, no step or no number."""
    found = []
    for place, fields in _lines(path):
        check_types(fields, {name: int for name in ("seed", step) if name in fields}, place)
        for name, value in fields.items():
            is_number = name.endswith("seconds") or name == "peak_rss_kib"
            if is_number and value is not None and not _finite(value, place, name):
                raise RecordsError(f"{place} is damaged: got {name} {value}, expected a number; {_DELETE}")
        found.append(fields)
    return found


def _config(path: Path) -> dict[str, Any]:
    config = _object(path, required=True)
    command = config.get("command")
    if not isinstance(command, str) or command not in STEPS:
        raise RecordsError(
            f"{path} is of an experiment without a report: got command {command!r}, expected "
            f"one of {', '.join(STEPS)}; figures of the others are in the folder figures/ of their run"
        )
    check_types(config, _CONFIG_TYPES[command], str(path))
    for name in ("seeds", *(name for name in ("ranks", "degrees") if name in config)):
        _check_items(config[name], name, path, int, "whole numbers")
    shape = config.get("image_shape")
    if shape is not None:
        _check_items(shape, "image_shape", path, int, "three whole numbers")
        if len(shape) != 3 or min(shape) < 1:
            raise RecordsError(
                f"image_shape in {path} is malformed: got {shape}, expected [height, width, channels], each "
                "of at least 1; correct the record"
            )
    if command == "conv_rfm":
        _check_items(config["class_names"], "class_names", path, str, "names")
    # A random M is no iteration: its number is not recorded.
    if config.get("features") != "random_circulant":
        name, least = STEPS[command][1], 0 if STEPS[command][0] == "iteration" else 1
        check_types(config, {name: int}, str(path))
        if config[name] < least:
            raise RecordsError(
                f"{name} in {path} is out of range: got {config[name]}, expected at least {least}; correct "
                "the record"
            )
    return config


def _check_items(values: object, name: str, path: Path, kind: type, expected: str) -> None:
    """Returns nothing; raises RecordsError unless there is a list of at least one item, all of a kind."""
    items = values if isinstance(values, list) else []
    if not items or not all(isinstance(item, kind) and not isinstance(item, bool) for item in items):
        raise RecordsError(
            f"{name} in {path} are malformed: got {values!r}, expected {expected}; correct the record"
        )


def _object(path: Path, *, required: bool = False) -> dict[str, Any]:
    if not required and not path.exists():
        return {}
    return parse_object(read_text(path), str(path), "restore it, or run the experiment again")


def _lines(path: Path) -> list[tuple[str, dict[str, Any]]]:
    lines = read_text(path).split("\n")
    if _is_torn(lines[-1]):
        lines.pop()
    numbered = enumerate(lines, start=1)
    places = ((f"{path}, line {number}", line) for number, line in numbered if line.strip())
    return [(place, parse_object(line, place, _DELETE)) for place, line in places]


def _is_torn(line: str) -> bool:
    """Returns whether a last line, which no line break ends, is half of a row: a kill leaves such a one."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return bool(line.strip())
    return False


def _finite(value: object, place: str, name: str = "value") -> bool:
    """Returns whether there is a value to show; raises RecordsError for what is no number."""
    if value is None:
        return False
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RecordsError(f"{place} is damaged: got {name} {value!r}, expected a number; {_DELETE}")
    # A whole number may be larger than any float.
    return abs(value) < math.inf and (isinstance(value, float) or abs(value) < 2**1000)


def class_names_of(run: RunRecords) -> list[str]:
    """Returns the names of a run's classes, by number; none where neither run nor catalog knows them."""
    names = run.config.get("class_names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        dataset = run.config.get("dataset")
        known = CATALOG.get(dataset) if isinstance(dataset, str) else None
        names = list(known.class_names) if known else []
    return names if run.config.get("num_classes", len(names)) == len(names) else []


def differences(runs: Sequence[RunRecords]) -> dict[str, list[Any]]:
    """Returns the options that are not the same in all runs, each with its value in every run."""
    configs: list[Mapping[str, Any]] = [run.config for run in runs]
    names = dict.fromkeys(name for config in configs for name in config)
    found = {name: [config.get(name) for config in configs] for name in names}
    return {name: values for name, values in found.items() if any(value != values[0] for value in values)}
