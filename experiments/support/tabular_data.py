"""Reads the collection of Fernandez-Delgado et al. (2014) in its original layout, one folder per task.

    <task>/<task>_R.dat                              a heading, then number, features and class, tab separated
    <task>/<task>_train_R.dat, <task>_test_R.dat     instead of it, where a test set was given
    <task>/conxuntos.dat                             tuning split: two lines of 0-based rows, train and test
    <task>/conxuntos_kfold.dat                       eight lines: train and test of four folds, whose
                                                     test rows are random quarters that overlap

References:
    Fernandez-Delgado, Cernadas, Barro and Amorim (2014), JMLR 15.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

TUNING, FOLDS = "conxuntos.dat", "conxuntos_kfold.dat"
SUFFIX = "_R.dat"
NUM_FOLDS = 4
CLASS_HEADINGS = ("clase", "estado")
# A column standardized with either divisor, n or n - 1, and written with six digits passes.
MEAN_TOLERANCE, STD_TOLERANCE = 1e-2, 0.1


class TaskError(ValueError):
    """A folder of the collection that is no whole task: a file is missing, truncated or not understood."""


class Split(NamedTuple):
    """Rows to fit on, and rows to predict."""

    train: Int[np.ndarray, "n"]
    test: Int[np.ndarray, "m"]


@dataclass(frozen=True)
class Task:
    """A classification task: labels count from 0, evaluation is four folds or the one given test set.

    notes say what was remarkable about the files; digest is the sha256 of all that was read.
    """

    name: str
    x: Float[np.ndarray, "n d"]
    labels: Int[np.ndarray, "n"]
    num_classes: int
    tuning: Split
    evaluation: tuple[Split, ...]
    notes: tuple[str, ...]
    digest: str


@dataclass(frozen=True)
class Collection:
    """The folders of a collection: whole tasks with their numbers of rows, and why the others are none."""

    num_rows: dict[str, int]
    problems: dict[str, str]


def find_tasks(data_dir: Path) -> Collection:
    """Returns the tasks of a folder, found by the names and lengths of their files.

    Raises:
        TaskError: If there is no such folder, or not one whole task in it.
    """
    if not data_dir.is_dir():
        raise TaskError(f"{data_dir} is no folder: give the unpacked collection with --data-dir")
    num_rows, problems = {}, {}
    for path in sorted(data_dir.iterdir()):
        if not path.is_dir():
            problems[path.name] = "a file beside the folders of the tasks"
            continue
        try:
            num_rows[path.name] = sum(_count_rows(file) for file in data_files(path))
            _check_present(path, TUNING, FOLDS)
        except TaskError as error:
            num_rows.pop(path.name, None)
            problems[path.name] = str(error)
    if not num_rows:
        reasons = "".join(f"\n  {name}: {reason}" for name, reason in problems.items())
        raise TaskError(f"{data_dir} holds no whole task <task>/<task>{SUFFIX}:{reasons or ' it is empty'}")
    return Collection(num_rows, problems)


def data_files(folder: Path) -> tuple[Path, ...]:
    """Returns the one file of a task, or its training and test file.

    A single file of another name is taken where none is named after the task.

    Raises:
        TaskError: If a file is missing, or several could be meant.
    """
    whole = folder / f"{folder.name}{SUFFIX}"
    train, test = (folder / f"{folder.name}_{part}{SUFFIX}" for part in ("train", "test"))
    if whole.exists():
        return (whole,)
    if train.exists() or test.exists():
        _check_present(folder, train.name, test.name)
        return train, test
    others = sorted(folder.glob(f"*{SUFFIX}"))
    if len(others) != 1:
        found = ", ".join(path.name for path in others) or "none"
        raise TaskError(f"{whole.name} is missing, other files {SUFFIX}: {found}")
    return (others[0],)


def read_task(folder: Path, *, standardize: bool) -> Task:
    """Returns the task of a folder.

    Args:
        standardize: Give the columns of a file that are not standardized mean 0 and variance 1, by their own
            statistics, as all other files of the collection were; a note says so.

    Raises:
        TaskError: If a file is missing, truncated, or not of the layout; it names the file and the line.
    """
    paths = data_files(folder)
    tables = [_read_table(path) for path in paths]
    if len({table.shape[1] for table in tables}) > 1:
        raise TaskError(f"{paths[0].name} and {paths[1].name} differ in their numbers of columns")
    features, notes = [], _foreign_files(folder, paths)
    for path, table in zip(paths, tables, strict=True):
        if standardize and not is_standardized(table[:, :-1]):
            notes.append(f"{path.name} was not standardized, now is by its own statistics")
            table = np.concatenate([standardized(table[:, :-1]), table[:, -1:]], axis=1)
        features.append(table[:, :-1])
    classes, labels = np.unique(np.concatenate([table[:, -1] for table in tables]), return_inverse=True)
    _check_present(folder, TUNING, FOLDS)
    num_train = len(tables[0])
    tuning = _read_splits(folder / TUNING, num_train, 1)
    folds = _read_splits(folder / FOLDS, num_train, NUM_FOLDS)
    given = (Split(np.arange(num_train), np.arange(num_train, len(labels))),)
    evaluation = folds if len(tables) == 1 else given
    _check_classes(labels, (*tuning, *evaluation))
    digest = _digest((*paths, folder / TUNING, folder / FOLDS))
    x = np.concatenate(features)
    return Task(folder.name, x, labels, len(classes), tuning[0], evaluation, tuple(notes), digest)


def is_standardized(x: Float[np.ndarray, "n d"]) -> bool:
    """Returns whether every column that varies has mean 0 and variance 1, up to rounding and the divisor."""
    varying = x.std(axis=0) > 0
    means, stds = x.mean(axis=0)[varying], x.std(axis=0)[varying]
    return bool(np.all(np.abs(means) <= MEAN_TOLERANCE) and np.all(np.abs(stds - 1) <= STD_TOLERANCE))


def standardized(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Returns x with columns of mean 0 and variance 1; a constant column becomes 0."""
    std = x.std(axis=0)
    return (x - x.mean(axis=0)) / np.where(std > 0, std, 1.0)


def _read_table(path: Path) -> Float[np.ndarray, "n w"]:
    lines = _lines(path)
    width = len(lines[0].split("\t")) if lines else 0
    if lines and lines[0].split("\t")[-1].strip().strip('"') not in CLASS_HEADINGS:
        raise TaskError(
            f"{path.name} has no column of classes: the heading must end with one of {CLASS_HEADINGS}"
        )
    if len(lines) < 2 or width < 3:
        raise TaskError(f"{path.name} has {len(lines)} lines of {width} columns: expected a heading and rows")
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        fields = line.split("\t")
        if len(fields) != width:
            raise TaskError(f"{path.name}, line {number}: {len(fields)} columns, the heading has {width}")
        try:
            rows.append([float(field) for field in fields[1:]])
        except ValueError as error:
            raise TaskError(f"{path.name}, line {number}: {error}") from error
    table = np.asarray(rows)
    if not np.all(np.isfinite(table)):
        line = 2 + int(np.flatnonzero(~np.isfinite(table).all(axis=1))[0])
        raise TaskError(f"{path.name}, line {line}: a value is not finite")
    if not np.all(table[:, -1] == np.round(table[:, -1])):
        line = 2 + int(np.flatnonzero(table[:, -1] != np.round(table[:, -1]))[0])
        raise TaskError(f"{path.name}, line {line}: the class {table[line - 2, -1]:g} is no whole number")
    return table


def _read_splits(path: Path, num_rows: int, count: int) -> tuple[Split, ...]:
    try:
        rows = [np.asarray([int(field) for field in line.split()], dtype=int) for line in _lines(path)]
    except ValueError as error:
        raise TaskError(f"{path.name}: {error}") from error
    if len(rows) != 2 * count or not all(len(row) for row in rows):
        raise TaskError(f"{path.name} has {len(rows)} lines of rows: expected {2 * count}, none empty")
    splits = tuple(Split(*rows[2 * i : 2 * i + 2]) for i in range(count))
    for number, split in enumerate(splits, start=1):
        both = np.concatenate(split)
        if both.min() < 0 or both.max() >= num_rows:
            raise TaskError(
                f"{path.name}, split {number}: rows {both.min()}..{both.max()}, but the task has 0.."
                f"{num_rows - 1}; is the file of its data truncated?"
            )
        if len(set(both.tolist())) < len(both):
            raise TaskError(f"{path.name}, split {number}: a row occurs twice, or in both halves")
    return splits


def _check_present(folder: Path, *names: str) -> None:
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        raise TaskError(f"{' and '.join(missing)} is missing")


def _check_classes(labels: Int[np.ndarray, "n"], splits: tuple[Split, ...]) -> None:
    for split in splits:
        if len(set(labels[split.train].tolist())) < 2:
            raise TaskError("the training rows of a split are all of one class")


def _foreign_files(folder: Path, paths: tuple[Path, ...]) -> list[str]:
    known = {*(path.name for path in paths), TUNING, FOLDS}
    notes = [
        f"{path.name} is read as the task's file" for path in paths if not path.name.startswith(folder.name)
    ]
    foreign = sorted(path.name for path in folder.iterdir() if path.name not in known)
    return notes + [f"{name} is not of the task's name and not read" for name in foreign]


def _count_rows(path: Path) -> int:
    return max(len(_lines(path)) - 1, 0)


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"{path.name} cannot be read: {error}") from error


def _digest(paths: tuple[Path, ...]) -> str:
    state = hashlib.sha256()
    for path in paths:
        content = path.read_bytes()
        state.update(f"{path.name} {len(content)}\n".encode() + content)
    return state.hexdigest()
