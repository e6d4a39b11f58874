"""Reads the records of a run, or says which file or line is at fault."""

import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from jaxtyping import Num

from experiments.support.checkpoint import reason_of
from experiments.support.devices import LayerPrecision
from experiments.support.records import RecordsError

STAGES = ("input", "linear", "nonlinear")

_CONFIG_TYPES: dict[str, type | tuple[type, ...]] = {
    "dataset": str,
    "num_train": int,
    "kernel": str,
    "bandwidth": (int, float),
    "ridge": (int, float),
    "precision": str,
    "seeds": list,
}
_ROW_TYPES: dict[str, type | tuple[type, ...]] = {
    "seed": int,
    "layer": int,
    "stage": str,
    "metric": str,
    "value": (int, float),
}


@dataclass(frozen=True)
class RunConfig:
    """The part of a run's configuration that its figures mention."""

    dataset: str
    num_train: int
    kernel: str
    bandwidth: float
    ridge: float
    precision: str
    seeds: tuple[int, ...]
    image_shape: tuple[int, int, int] | None


@dataclass(frozen=True)
class MetricRow:
    """One measured number."""

    seed: int
    layer: int
    stage: str
    metric: str
    value: float
    below_floor: bool


def read_config(workdir: Path) -> RunConfig:
    """Returns what the figures need of `config.json`; raises RecordsError where it is not as expected."""
    path = workdir / "config.json"
    fields = parse_object(read_text(path), str(path), "run the experiment again into an empty workdir")
    check_types(fields, _CONFIG_TYPES, str(path))
    if fields["precision"] not in get_args(LayerPrecision):
        raise RecordsError(
            f"precision in {path} is unknown: got {fields['precision']!r}, expected one of "
            f"{', '.join(get_args(LayerPrecision))}; correct the record or run the experiment again"
        )
    if not fields["seeds"]:
        raise RecordsError(f"seeds in {path} is empty: got [], expected at least one; correct the record")
    known = {name: fields[name] for name in _CONFIG_TYPES if name != "seeds"}
    return RunConfig(**known, seeds=tuple(fields["seeds"]), image_shape=_image_shape(fields, path))


def read_metrics(workdir: Path) -> list[MetricRow]:
    """Returns the rows of `metrics.jsonl`; a number measured again after a resume replaces the old one."""
    path = workdir / "metrics.jsonl"
    rows: dict[tuple[int, int, str, str], MetricRow] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if line.strip():
            row = _parse_row(line, f"{path}, line {number}")
            rows[row.seed, row.layer, row.stage, row.metric] = row
    if not rows:
        raise RecordsError(
            f"{path} is empty: got no row, expected one per measured number; run the experiment"
        )
    return list(rows.values())


def recorded_layers(rows: Sequence[MetricRow], seed: int) -> list[int]:
    """Returns the layers measured for one seed, ascending; raises RecordsError where there are none."""
    layers = sorted({row.layer for row in rows if row.seed == seed})
    if not layers:
        raise RecordsError(
            f"metrics.jsonl lacks the first seed: got no row of seed {seed}, expected all of config.json; "
            "resume the run"
        )
    return layers


def places_below_floor(rows: Sequence[MetricRow], seed: int) -> frozenset[tuple[int, str]]:
    """Returns the layers and stages of one seed whose numbers lie below the float floor."""
    return frozenset((row.layer, row.stage) for row in rows if row.seed == seed and row.below_floor)


def read_array(workdir: Path, layer: int, name: str, *, ndim: int) -> Num[np.ndarray, "..."]:
    """Returns an array of `arrays/layer_NN.npz`; raises RecordsError where it is missing or damaged."""
    path = workdir / "arrays" / f"layer_{layer:02d}.npz"
    advice = f"delete {path} and resume the run"
    try:
        # Opened here, since np.load does not close a file that turns out to be damaged.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            array = stored[name]
    except FileNotFoundError as error:
        raise _missing(path) from error
    except KeyError as error:
        raise RecordsError(f"{path} is incomplete: got no array {name!r}, expected one; {advice}") from error
    except (OSError, EOFError, ValueError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise RecordsError(
            f"{path} is damaged: got {reason_of(error)}, expected an npz archive; {advice}"
        ) from error
    if array.dtype.kind not in "fiu" or array.ndim != ndim:
        raise RecordsError(
            f"{name!r} in {path} has the wrong form: got {array.dtype} of shape {array.shape}, "
            f"expected numbers with {ndim} axes; {advice}"
        )
    if not np.isfinite(array).all():
        raise RecordsError(f"{name!r} in {path} is unusable: got NaN or infinity, expected numbers; {advice}")
    return array


def _missing(path: Path) -> RecordsError:
    return RecordsError(
        f"a record is missing: got no file {path}, expected the records of a finished run; "
        "check the workdir or resume the run"
    )


def read_text(path: Path) -> str:
    """Returns the text of a record; raises RecordsError where it is missing or not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _missing(path) from error
    except UnicodeDecodeError as error:
        raise RecordsError(
            f"{path} is damaged: got bytes that are not text, expected UTF-8; restore it or run again"
        ) from error


def parse_object(text: str, place: str, advice: str) -> dict[str, Any]:
    """Returns a JSON object; raises RecordsError, which names the place and ends with the advice."""
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordsError(f"{place} is damaged: got {error}, expected a JSON object; {advice}") from error
    if not isinstance(parsed, dict):
        raise RecordsError(
            f"{place} is damaged: got {type(parsed).__name__}, expected a JSON object; {advice}"
        )
    return parsed


def check_types(fields: dict[str, Any], expected: dict[str, type | tuple[type, ...]], place: str) -> None:
    """Returns nothing; raises RecordsError where a field is missing or of another type."""
    for name, kind in expected.items():
        if name not in fields:
            raise RecordsError(
                f"{place} lacks {name!r}: got {sorted(fields)}, expected it too; correct the record"
            )
        if not isinstance(fields[name], kind) or isinstance(fields[name], bool):
            raise RecordsError(
                f"{name!r} in {place} has the wrong type: got {fields[name]!r}, expected {kind}; "
                "correct the record"
            )


def _parse_row(line: str, place: str) -> MetricRow:
    fields = parse_object(line, place, "delete that line and resume the run")
    check_types(fields, _ROW_TYPES, place)
    named = {name: fields[name] for name in _ROW_TYPES}
    return MetricRow(**named, below_floor=bool(fields.get("below_floor", False)))


def _image_shape(fields: dict[str, Any], path: Path) -> tuple[int, int, int] | None:
    shape = fields.get("image_shape")
    if shape is None:
        return None
    if not (isinstance(shape, list) and len(shape) == 3 and all(isinstance(size, int) for size in shape)):
        raise RecordsError(
            f"image_shape in {path} is malformed: got {shape!r}, expected [height, width, channels] or null; "
            "correct the record"
        )
    return (shape[0], shape[1], shape[2])
