"""The iterates of a recursive feature machine: fitted, measured, recorded, saved, resumed after any kill."""

import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from dnc_jax import (
    RFM,
    Gaussian,
    Kernel,
    Laplace,
    Polynomial,
    by_max,
    by_trace,
    fit_rfm,
    psd_power,
    rfm_iterates,
)
from experiments.support import checkpoint, rfm_measures
from experiments.support.modular import random_circulant
from experiments.support.records import Row, Run, to_lines
from experiments.support.rfm_measures import Points
from experiments.support.rfm_options import (
    Cell,
    Settings,
    TaskName,
    cell_name,
    draw,
    num_updates,
    operation_of,
)
from experiments.support.rfm_table import IterationTable
from experiments.support.snapshots import iterate_arrays

RESCALES = {"none": None, "max": by_max, "trace": by_trace}


@dataclasses.dataclass(frozen=True)
class Session:
    """Everything that the seeds of a run share."""

    task: TaskName
    settings: Settings
    run: Run
    table: IterationTable
    dtype: jnp.dtype
    resume: bool


def run_cell(session: Session, seed: int, cell: Cell) -> list[Row]:
    """Fits, measures and records all iterates of one seed and target, or loads them; returns all rows."""
    run, place = session.run, {"seed": seed} | cell
    path, owner = checkpoint_path(run, seed, cell), owner_of(run, seed, cell)
    session.table.header(place)
    loaded = load(path, owner, session.table.say) if session.resume else None
    if loaded is None:
        rows, arrays = fit_cell(session, seed, cell)
        checkpoint.save_arrays(path, arrays | {"rows": np.asarray(json.dumps(rows))}, owner)
    else:
        rows, arrays = loaded
        arrays = with_spectra(arrays)
        run.log(rows)
        session.table.rows(rows)
    if seed == session.settings["seeds"][0]:
        shown = arrays_path(run, cell)
        if not has_spectra(shown, owner):
            checkpoint.save_arrays(shown, arrays, owner)
    return rows


def fit_cell(session: Session, seed: int, cell: Cell) -> tuple[list[Row], dict[str, np.ndarray]]:
    """Returns the rows of one seed and target, and what is kept: every M, its spectrum, true directions."""
    place = {"seed": seed} | cell
    points = place_points(session, seed, cell)
    operation = operation_of(session.task)
    rows, matrices, began = [], [], time.perf_counter()
    for iteration, rfm in enumerate(
        islice(iterates(session, seed, points), num_updates(session.settings) + 1)
    ):
        values = rfm_measures.measure(rfm, points, operation, iteration)
        new_rows = rfm_measures.to_rows(place, iteration, values)
        session.run.log(new_rows)
        seconds = time.perf_counter() - began
        session.run.log_timing(place | {"iteration": iteration, "seconds": seconds})
        session.table.rows(new_rows, seconds)
        rows += new_rows
        matrices.append(np.asarray(rfm.feature_matrix))
        began = time.perf_counter()
    stacked = np.stack(matrices)
    if operation is not None:
        found = rfm_measures.alignments_with_last(stacked)
        late = [row for i, values in enumerate(found) for row in rfm_measures.to_rows(place, i, values)]
        session.run.log(late)
        rows += late
    to_lines(rows)  # raises before anything that cannot be recorded is kept
    directions = {} if points.directions is None else {"directions": np.asarray(points.directions)}
    return rows, iterate_arrays(stacked) | directions


def with_spectra(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the arrays of a target with the spectra of its M, which older checkpoints lack."""
    return arrays if "spectra" in arrays else arrays | iterate_arrays(arrays["feature_matrices"])


def has_spectra(path: Path, owner: str) -> bool:
    """Returns whether a file of arrays is whole, of its owner, and not of an older run."""
    try:
        return "spectra" in checkpoint.load_arrays(path, owner)
    except checkpoint.CheckpointError:
        return False


def iterates(session: Session, seed: int, points: Points) -> Iterator[RFM]:
    """Returns the plain machine and those after it, by their AGOPs or, once, by a random M."""
    settings = session.settings
    kernel, x, targets = kernel_of(settings), points.train_x, points.train_targets
    if settings.get("features") == "random_circulant":
        operation = operation_of(session.task)
        assert operation is not None
        drawn = jnp.asarray(random_circulant(seed, settings["prime"], operation), session.dtype)
        fixed = (jnp.eye(x.shape[1], dtype=x.dtype), psd_power(drawn, settings["power"]))
        fit = partial(fit_rfm, kernel, x, targets, ridge=settings["ridge"], num_iters=0)
        return (fit(feature_matrix=matrix) for matrix in fixed)
    return rfm_iterates(
        kernel,
        x,
        targets,
        ridge=settings["ridge"],
        centered=settings["gradients"] == "centered",
        power=settings["power"],
        rescale=RESCALES[settings["rescale"]],
    )


def kernel_of(settings: Settings) -> Kernel:
    """Returns the kernel of the options."""
    if settings["kernel"] == "quadratic":
        return Polynomial(2, offset=0.0)
    return {"laplace": Laplace, "gaussian": Gaussian}[settings["kernel"]](settings["bandwidth"])


def place_points(session: Session, seed: int, cell: Cell) -> Points:
    """Returns the points of one seed and target, in the precision of the run."""
    problem = draw(session.task, session.settings, seed, cell)
    place = partial(jnp.asarray, dtype=session.dtype)
    return Points(
        place(problem.train_x),
        place(problem.train_targets),
        place(problem.test_x),
        place(problem.test_targets),
        None if problem.directions is None else place(problem.directions),
        problem.has_classes,
    )


def load(
    path: Path, owner: str, say: Callable[[str], None]
) -> tuple[list[Row], dict[str, np.ndarray]] | None:
    """Returns what was kept for an owner, rows and arrays, or None if it has to be fitted.

    say is told of a file that cannot be used.
    """
    if not path.exists():
        return None
    try:
        arrays = checkpoint.load_arrays(path, owner)
    except checkpoint.CheckpointError as error:
        say(f"{error}; fitting it again")
        return None
    return json.loads(str(arrays.pop("rows"))), arrays


def checkpoint_path(run: Run, seed: int, cell: Cell) -> Path:
    """Returns the file of a finished seed and target."""
    return run.epochs(seed) / f"{cell_name(cell)}.npz"


def arrays_path(run: Run, cell: Cell) -> Path:
    """Returns the file of what figures show of a target, of the first seed."""
    return run.workdir / "arrays" / f"{cell_name(cell)}.npz"


def owner_of(run: Run, seed: int, cell: Cell) -> str:
    """Returns whose a checkpoint is."""
    return f"{cell_name(cell)} of {run.owner(seed)}"
