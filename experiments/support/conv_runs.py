"""The iterates of a convolutional RFM on the images of one seed: fitted, measured, saved, resumed at each."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dnc_jax import (
    ConvNTK,
    ConvRFM,
    KernelMachine,
    effective_rank,
    fit_conv_machine,
    mean_squared_error,
    misclassification,
    update_conv_rfm,
)
from experiments.support import checkpoint, rfm_measures, rfm_runs
from experiments.support.conv_data import ImageSet, ImageSets
from experiments.support.conv_looks import looks
from experiments.support.conv_options import Settings, agop_images, kernel_of
from experiments.support.conv_table import SELECTED, IterationTable
from experiments.support.records import Row, Run, to_lines
from experiments.support.rfm_measures import FEATURE_MATRIX, MACHINE, Measured
from experiments.support.snapshots import block_averages, block_edges


@dataclass(frozen=True)
class Session:
    """Everything that the seeds of a run share."""

    settings: Settings
    run: Run
    table: IterationTable
    dtype: jnp.dtype
    resume: bool


def run_seed(session: Session, seed: int, sets: ImageSets) -> list[Row]:
    """Fits, measures and records all iterates of one seed, or loads those that are done; returns all rows."""
    run = session.run
    session.table.header(seed)
    images = jnp.asarray(sets.train.images, session.dtype)
    targets = jnp.asarray(sets.train.targets(sets.num_classes), session.dtype)
    averages = jnp.asarray(block_averages(sets.train.labels), session.dtype)
    conv, rows, matrices, cosines = None, [], [], []
    for iteration in range(session.settings["num_iters"] + 1):
        began, seconds = time.perf_counter(), None
        loaded = load(session, seed, iteration, images, sets)
        if loaded is None:
            conv = fit(session, seed, iteration, conv, images, targets, averages)
            new_rows = measure_and_save(session, seed, iteration, conv, targets, sets)
            seconds = time.perf_counter() - began
            run.log_timing({"seed": seed, "iteration": iteration, "seconds": seconds})
        else:
            conv, new_rows = loaded
        run.log(new_rows)
        session.table.rows(new_rows, seconds)
        rows += new_rows
        matrices.append(np.asarray(conv.feature_matrix))
        cosines.append(conv.block_cosines)
    selected = select(rows, seed)
    run.log(selected)
    if seed == session.settings["seeds"][0]:
        shown = grams(cosines, sets)
        save_looks(session, sets, np.stack(matrices), selected, shown, _owner(run, seed, sets))
    return rows + selected


def fit(
    session: Session,
    seed: int,
    iteration: int,
    before: ConvRFM | None,
    images: Float[Array, "n h w d"],
    targets: Float[Array, "n k"],
    averages: Float[Array, "n b"],
) -> ConvRFM:
    """Returns the plain machine, or the one after another update of M, with cosines of images by blocks."""
    settings = session.settings
    ridge = settings["ridge"]
    if before is None:
        return fit_conv_machine(kernel_of(settings), images, targets, ridge=ridge, averages=averages)
    size = agop_images(settings, len(images))
    key = None if size is None else jax.random.fold_in(jax.random.key(seed), iteration)
    name = f"iteration {iteration}"
    drawn = {"agop_size": size, "key": key}
    return update_conv_rfm(before, targets, ridge=ridge, averages=averages, name=name, **drawn)


def measure_and_save(
    session: Session,
    seed: int,
    iteration: int,
    conv: ConvRFM,
    targets: Float[Array, "n k"],
    sets: ImageSets,
) -> list[Row]:
    """Returns the rows of an iterate, after both are on the disk."""
    measured = measure(conv, iteration, targets, sets, session.dtype)
    rows = rfm_measures.to_rows({"seed": seed}, iteration, measured)
    to_lines(rows)  # raises before anything that cannot be recorded is kept
    arrays = to_arrays(conv) | {"rows": np.asarray(json.dumps(rows))}
    owner = f"iteration {iteration} of {_owner(session.run, seed, sets)}"
    checkpoint.save_arrays(iteration_path(session.run, seed, iteration), arrays, owner)
    return rows


def load(
    session: Session, seed: int, iteration: int, images: Float[Array, "n h w d"], sets: ImageSets
) -> tuple[ConvRFM, list[Row]] | None:
    """Returns a saved iterate and its rows, or None if it has to be fitted."""
    path = iteration_path(session.run, seed, iteration)
    owner = f"iteration {iteration} of {_owner(session.run, seed, sets)}"
    loaded = rfm_runs.load(path, owner, session.table.say) if session.resume else None
    if loaded is None:
        return None
    rows, arrays = loaded
    return from_arrays(kernel_of(session.settings), images, arrays), rows


def measure(
    conv: ConvRFM, iteration: int, targets: Float[Array, "n k"], sets: ImageSets, dtype: jnp.dtype
) -> Measured:
    """Returns what is known of one iterate; M = I of iteration 0 has no top eigenvectors.

    Predictions at the training images follow from the fit itself, without another Gram matrix.
    """
    fitted = targets - conv.added_ridge * conv.machine.weights
    machine = _scores("train_", fitted, targets)
    for prefix, part in (("validation_", sets.validation), ("test_", sets.test)):
        if part is not None:
            machine |= _held_out(conv, prefix, part, sets.num_classes, dtype)
    if iteration == 0:
        return {MACHINE: machine}
    values = jnp.linalg.eigvalsh(conv.feature_matrix)
    found = {
        "top_eigenvalue_share": float(values[-1] / jnp.sum(values)),
        "effective_rank": float(effective_rank(conv.feature_matrix)),
    }
    return {MACHINE: machine, FEATURE_MATRIX: found}


def select(rows: list[Row], seed: int) -> list[Row]:
    """Returns a row on the iteration that validation picks, none without validation.

    The one of the highest accuracy on validation images; of several, that of the smallest error, then the
    first.
    """
    found = {
        name: {row["iteration"]: row["value"] for row in rows if row["metric"] == f"validation_{name}"}
        for name in ("accuracy", "mean_squared_error")
    }
    if not found["accuracy"]:
        return []
    best = min(found["accuracy"], key=lambda i: (-found["accuracy"][i], found["mean_squared_error"][i], i))
    return rfm_measures.to_rows({"seed": seed}, best, {MACHINE: {SELECTED: best}})


def to_arrays(conv: ConvRFM) -> dict[str, np.ndarray]:
    """Returns the arrays of an iterate, but for the images."""
    arrays = {name: getattr(conv, name) for name in ("feature_matrix", "feature_root", "added_ridge")}
    root = conv.machine.kernel.patch_root  # pyright: ignore[reportAttributeAccessIssue]
    arrays |= {"weights": conv.machine.weights}
    optional = {"patch_root": root, "block_cosines": conv.block_cosines}
    arrays |= {name: array for name, array in optional.items() if array is not None}
    return {name: np.asarray(array) for name, array in arrays.items()}


def from_arrays(
    kernel: ConvNTK, images: Float[Array, "n h w d"], arrays: Mapping[str, np.ndarray]
) -> ConvRFM:
    """Returns the iterate that `to_arrays` took apart."""
    found = {name: jnp.asarray(array) for name, array in arrays.items()}
    machine = KernelMachine(replace(kernel, patch_root=found.get("patch_root")), images, found["weights"])
    of_m = (found["feature_matrix"], found["feature_root"], found["added_ridge"])
    return ConvRFM(machine, *of_m, found.get("block_cosines"))


def grams(cosines: Sequence[Array | None], sets: ImageSets) -> dict[str, np.ndarray]:
    """Returns the cosines of training images by iteration, (t, b, b), and where classes begin.

    Nothing if an iterate lacks them, which one of an older version does.
    """
    known = [np.asarray(found, np.float32) for found in cosines if found is not None]
    if len(known) < len(cosines):
        return {}
    edges = block_edges(sets.train.labels, sets.num_classes)
    return {"gram": np.stack(known), "gram_class_edges": edges}


def save_looks(
    session: Session,
    sets: ImageSets,
    matrices: Float[np.ndarray, "t d d"],
    selected: list[Row],
    more: dict[str, np.ndarray],
    owner: str,
) -> None:
    """Writes what figures show: more, and pictures of the iteration that validation picks, or of the last."""
    path, settings = session.run.workdir / "arrays" / "patches.npz", session.settings
    if checkpoint.is_whole(path, owner):
        return
    shown = selected[0]["iteration"] if selected else settings["num_iters"]
    windows = {name: settings[name] for name in ("patch_size", "padding", "stride")}
    test = sets.test
    arrays = looks(test.images, test.labels, matrices, shown, num_classes=sets.num_classes, **windows)
    checkpoint.save_arrays(path, arrays | more, owner)


def iteration_path(run: Run, seed: int, iteration: int) -> Path:
    """Returns the file of a finished iteration."""
    return run.epochs(seed) / f"iteration_{iteration:02d}.npz"


def _owner(run: Run, seed: int, sets: ImageSets) -> str:
    return f"{run.owner(seed)} on images {sets.sha256[:16]}"


def _held_out(
    conv: ConvRFM, prefix: str, part: ImageSet, num_classes: int, dtype: jnp.dtype
) -> dict[str, float]:
    predictions = conv(jnp.asarray(part.images, dtype))
    return _scores(prefix, predictions, jnp.asarray(part.targets(num_classes), dtype))


def _scores(prefix: str, predictions: Float[Array, "n k"], targets: Float[Array, "n k"]) -> dict[str, float]:
    return {
        f"{prefix}accuracy": float(1 - misclassification(predictions, targets)),
        f"{prefix}mean_squared_error": float(mean_squared_error(predictions, targets)),
    }
