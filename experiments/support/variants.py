"""Trainings that differ in one option, run one after the other into folders of one run."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from experiments.support import command
from experiments.support.plotting.training_drawing import Records
from experiments.support.plotting.training_figures import read_records
from experiments.support.records import Run, open_run

# A metric has fallen at this share of its first value: NC2 of means at random weights is below 1 already.
FALLEN = {"nc1": 0.1, "nc2": 0.5, "nc3": 0.5, "nc4": 0.1}


class Comparable(Protocol):
    """Options of a training that variants change."""

    @property
    def dataset(self) -> str:
        """Name of the dataset."""
        ...

    @property
    def workdir(self) -> Path | None:
        """Folder of the records."""
        ...

    @property
    def resume(self) -> bool:
        """Whether to continue."""
        ...

    @property
    def dry_run(self) -> bool:
        """Whether to stop before any work."""
        ...


Base = TypeVar("Base")


def narrowed(config: Any, base: type[Base], **changes: object) -> Base:  # noqa: ANN401
    """Returns the options that a base class declares, with changes."""
    names = [field.name for field in dataclasses.fields(base)]  # pyright: ignore[reportArgumentType]
    return base(**{name: getattr(config, name) for name in names} | changes)


def run_variants(
    name: str,
    config: Comparable,
    settings: Mapping[str, Any],
    trainings: Mapping[str, Callable[[Path], Path | None]],
) -> tuple[Run, dict[str, Records]] | None:
    """Returns the open run and the records of each training by name; None for a dry run.

    Each training takes the folder of its own records, below the workdir.
    """
    workdir = config.workdir or Path("runs") / command.run_name(name, config.dataset, settings)
    if config.dry_run:
        for label, train in trainings.items():
            train(workdir / label)
        return None
    run = open_run(workdir, {"command": name, **settings}, {"runs": list(trainings)}, config.resume)
    with command.resumable(workdir, f"experiments.{name}"):
        for label, train in trainings.items():
            train(workdir / label)
    return run, {label: read_records(workdir / label) for label in trainings}


def mean_at(records: Records, metric: str, epoch: int) -> float | None:
    """Returns the mean over seeds of a metric at an epoch, None where it was not measured.

    Of what the head receives, and of the whole network.
    """
    wanted = {"metric": metric, "epoch": epoch, "layer": max(records.layers) + 1}
    stages = ("input", "network")
    found = [row["value"] for row in records.rows if wanted.items() <= row.items() and row["stage"] in stages]
    return sum(found) / len(found) if found else None


def last_epoch(records: Records) -> int:
    """Returns the last epoch of a run."""
    return max(row["epoch"] for row in records.rows)


def log_ends(run: Run, label: str, records: Records, metrics: Sequence[str]) -> None:
    """Logs the means over seeds at the first and the last epoch, for one training."""
    for epoch in (0, last_epoch(records)):
        values = {metric: mean_at(records, metric, epoch) for metric in metrics}
        run.log(
            {"run": label, "epoch": epoch, "metric": metric, "value": value}
            for metric, value in values.items()
            if value is not None
        )
