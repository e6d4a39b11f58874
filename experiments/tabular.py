"""RFM beside kernels, forests, SVMs and boosting on the tabular tasks of Fernandez-Delgado et al. (2014).

    python -m experiments.tabular --data-dir=DIR

DIR is the unpacked collection in its original layout. Each method's grid is searched by accuracy on the
tuning split of a task, then the choice is evaluated on four folds, or on the test set where one is given.
Protocol and RFM's grid: Radhakrishnan, Beaglehole, Pandit and Belkin (Science 2024). Run again in the same
workdir to continue: finished tasks are loaded.
"""

import dataclasses
import difflib
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import tyro

from experiments.support import command, options, tabular_table
from experiments.support.console import say, say_settings
from experiments.support.records import Run, open_run
from experiments.support.tabular_data import Collection, TaskError, find_tasks
from experiments.support.tabular_methods import GRIDS, FeatureMatrix, MethodName
from experiments.support.tabular_work import Job, Outcome, run_jobs, use_one_thread

# Options that change where or how a run goes, but no number of it.
UNRECORDED = ("preset", "workdir", "data_dir", "resume", "jobs", "dry_run")


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of the run; those that decide its numbers are kept in its config.json."""

    preset: tyro.conf.Suppress[Literal["default"]] = "default"
    data_dir: Path | None = None
    """folder of the unpacked collection, one folder per task"""
    tasks: tuple[str, ...] = ()
    """names of tasks; none takes all whole tasks of the collection"""
    methods: tuple[MethodName, ...] = get_args(MethodName)
    """methods to run, each tuned on the same split"""
    max_n: int = 5000
    """leaves out tasks of more points, training and test together"""
    feature_matrix: FeatureMatrix = "of_each_fold"
    """of_tuning_split keeps RFM's M of the tuning split for all folds, as published"""
    standardize: bool = True
    """standardize the few files of the collection that are not, by their own statistics"""
    jobs: int | None = None
    """processes that share the tasks, one thread each; None is one per processor"""
    workdir: Path | None = None
    """folder of the records; None is runs/tabular-<hash of the options>"""
    resume: bool = True
    """load the finished tasks of the workdir; --no-resume removes them and starts over"""
    dry_run: bool = False
    """print the tasks and the grids, and stop"""


def main(config: Config) -> Path | None:
    """Runs the benchmark and returns the folder of its records, or None for a dry run.

    Raises:
        TaskError: If there is no collection, a named task is not in it or not whole, or, after all others
            are done and recorded, if a task failed.
    """
    check_options(config)
    use_one_thread()
    assert config.data_dir is not None
    collection = find_tasks(config.data_dir)
    names = chosen_tasks(config, collection)
    settings = recorded(config, names)
    workdir = config.workdir or Path("runs") / command.run_name("tabular", "uci", settings)
    num_processes = min(config.jobs or num_processors(), len(names))
    places = {"data_dir": config.data_dir, "workdir": workdir, "jobs": num_processes}
    say_settings("tabular", settings | {"tasks": f"{len(names)}: {' '.join(names)}"} | places)
    for name, grid in settings["grids"].items():
        say_settings(f"grid of {name}", grid)
    for name, reason in collection.problems.items():
        say(f"not run: {name}: {reason}")
    if config.dry_run:
        return None
    run = open_run(workdir, settings, {"num_processes": num_processes}, config.resume)
    with command.resumable(workdir, "experiments.tabular"):
        outcomes = run_tasks(config, run, names, collection, num_processes)
    tabular_table.finish(run, outcomes)
    problems = "".join(f"\n  {o.name}: {o.problem}" for o in outcomes if o.problem)
    if problems:
        raise TaskError(f"some tasks have no result, and are missing from the summary:{problems}")
    return workdir


def check_options(config: Config) -> None:
    """Raises ValueError for options that no run can use."""
    if config.data_dir is None:
        raise TaskError("--data-dir is needed: the folder of the unpacked collection, one folder per task")
    if not config.methods or len(set(config.methods)) < len(config.methods):
        raise ValueError(f"--methods must be one or more different methods: got {config.methods}")
    if len(set(config.tasks)) < len(config.tasks):
        raise ValueError(f"--tasks must be different tasks: got {config.tasks}")
    options.check_sizes(max_n=config.max_n, jobs=1 if config.jobs is None else config.jobs)


def chosen_tasks(config: Config, collection: Collection) -> list[str]:
    """Returns the names of the tasks of a run, sorted.

    Raises:
        TaskError: If a named task is unknown, not whole or too large, or no task is left.
    """
    for name in config.tasks:
        if name in collection.problems:
            raise TaskError(f"task {name} cannot be run: {collection.problems[name]}")
        if name not in collection.num_rows:
            near = difflib.get_close_matches(name, collection.num_rows, n=1)
            hint = f"did you mean {near[0]}?" if near else "its tasks are the folders of --data-dir"
            raise TaskError(f"task {name} is not in the collection: {hint}")
        if collection.num_rows[name] > config.max_n:
            raise TaskError(
                f"task {name} has {collection.num_rows[name]} points, more than --max-n={config.max_n}"
            )
    sizes = {name: size for name, size in collection.num_rows.items() if size <= config.max_n}
    names = sorted(config.tasks or sizes)
    if not names:
        smallest = min(collection.num_rows.values())
        raise TaskError(f"no task has at most --max-n={config.max_n} points: the smallest has {smallest}")
    return names


def run_tasks(
    config: Config, run: Run, names: list[str], collection: Collection, num_processes: int
) -> list[Outcome]:
    """Runs the tasks, the largest first, and returns their outcomes sorted by name, as they are recorded."""
    assert config.data_dir is not None
    jobs = [
        Job(
            config.data_dir / name,
            config.methods,
            config.feature_matrix,
            config.standardize,
            run.workdir / "checkpoints" / f"{name}.npz",
            run.owner(0),
        )
        for name in sorted(names, key=lambda name: (-collection.num_rows[name], name))
    ]
    table = tabular_table.TaskTable(config.methods, len(jobs))
    outcomes = []
    for outcome in run_jobs(jobs, num_processes):
        table.task(outcome)
        for method, seconds in outcome.seconds.items():
            timing = {"task": outcome.name, "method": method, "seconds": seconds}
            run.log_timing(timing | {"loaded": outcome.loaded})
        outcomes.append(outcome)
    return sorted(outcomes, key=lambda outcome: outcome.name)


def recorded(config: Config, names: list[str]) -> dict[str, Any]:
    """Returns what decides the numbers of a run."""
    kept = {k: v for k, v in dataclasses.asdict(config).items() if k not in UNRECORDED}
    grids = {name: {key: list(values) for key, values in GRIDS[name].items()} for name in config.methods}
    return {"command": "tabular"} | kept | {"tasks": names, "methods": list(config.methods), "grids": grids}


def num_processors() -> int:
    """Returns how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    sys.exit(command.run(partial(main, command.parse(Config, {}, sys.argv[1:]))))
