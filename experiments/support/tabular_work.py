"""Runs the tasks of the tabular benchmark, in this process or in several, and keeps each as it ends.

A task is computed by one thread wherever it runs, so that its numbers are the same for any number of
processes.
"""

import json
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from dnc_jax.errors import FitError
from experiments.support import checkpoint, devices
from experiments.support.records import Row
from experiments.support.tabular_data import Task, TaskError, read_task
from experiments.support.tabular_methods import FeatureMatrix, MethodName, Session, run_method

ONE_THREAD = "--xla_cpu_multi_thread_eigen=false"


@dataclass(frozen=True)
class Job:
    """One task to run: its folder, what to do with it, and where its result is kept for its owner."""

    folder: Path
    methods: tuple[MethodName, ...]
    feature_matrix: FeatureMatrix
    standardize: bool
    checkpoint: Path
    owner: str


@dataclass(frozen=True)
class Outcome:
    """What became of a task: its rows and seconds by method, or why there are none."""

    name: str
    rows: list[Row]
    seconds: dict[str, float]
    sizes: tuple[int, int, int]
    notes: tuple[str, ...] = ()
    loaded: bool = False
    problem: str | None = None


def run_jobs(jobs: Sequence[Job], num_processes: int) -> Iterator[Outcome]:
    """Yields the outcome of each job as it ends; with one process, of this one, in the order of the jobs."""
    if num_processes == 1:
        yield from map(run_job, jobs)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(num_processes, mp_context=context, initializer=_end_with_parent)
    try:
        for future in as_completed([pool.submit(run_job, job) for job in jobs]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def run_job(job: Job) -> Outcome:
    """Returns the outcome of a task: loaded if it was kept for this owner and these files, else computed."""
    devices.set_precision("float64")
    try:
        task = read_task(job.folder, standardize=job.standardize)
    except TaskError as error:
        return Outcome(job.folder.name, [], {}, (0, 0, 0), problem=str(error))
    owner = f"task {task.name}, data {task.digest[:16]}, of {job.owner}"
    notes = task.notes
    try:
        loaded = load_outcome(job.checkpoint, owner, task)
    except checkpoint.CheckpointError as error:
        loaded, notes = None, (*notes, f"{error}; computed again")
    if loaded is not None:
        return loaded
    session, rows, seconds = Session(task, job.feature_matrix), [], {}
    try:
        with threadpool_limits(1):
            for method in job.methods:
                start = time.perf_counter()
                rows += method_rows(method, session)
                seconds[method] = time.perf_counter() - start
    except FitError as error:
        return Outcome(task.name, [], {}, _sizes(task), notes, problem=str(error))
    kept = {"rows": np.asarray(json.dumps(rows)), "seconds": np.asarray(json.dumps(seconds))}
    checkpoint.save_arrays(job.checkpoint, kept, owner)
    return Outcome(task.name, rows, seconds, _sizes(task), notes)


def load_outcome(path: Path, owner: str, task: Task) -> Outcome | None:
    """Returns the outcome that was kept for an owner, or None if there is none.

    Raises:
        CheckpointError: If it is damaged, or of another run, or of other files.
    """
    if not path.exists():
        return None
    arrays = checkpoint.load_arrays(path, owner)
    rows, seconds = (json.loads(str(arrays[name])) for name in ("rows", "seconds"))
    return Outcome(task.name, rows, seconds, _sizes(task), task.notes, loaded=True)


def method_rows(method: MethodName, session: Session) -> list[Row]:
    """Returns the records of a method on a task: what was chosen, each fold, and their mean."""
    result = run_method(method, session)
    of: dict[str, Any] = {"task": session.task.name, "method": method}
    tuned = of | {"metric": "tuning_accuracy", "value": result.tuning_accuracy, "chosen": result.values}
    folds = [
        of | {"fold": number, "metric": "test_accuracy", "value": value}
        for number, value in enumerate(result.test_accuracies, start=1)
    ]
    mean = of | {"metric": "test_mean_accuracy", "value": float(np.mean(result.test_accuracies))}
    return [tuned, *folds, mean]


def use_one_thread() -> None:
    """Asks JAX for one thread in this process, if it has computed nothing yet, and in those it starts."""
    flags = os.environ.get("XLA_FLAGS", "")
    if ONE_THREAD not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {ONE_THREAD}".strip()


def _sizes(task: Task) -> tuple[int, int, int]:
    return (*task.x.shape, task.num_classes)


def _end_with_parent() -> None:
    # A killed parent cannot stop its processes: each waits for its end itself.
    parent = multiprocessing.parent_process()

    def wait() -> None:
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
