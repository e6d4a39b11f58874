"""Checkpoints of training, written by orbax: the state after an epoch, and all rows recorded until then."""

import shutil
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from experiments.support.atomic import make_folder, write_error
from experiments.support.checkpoint import CheckpointError
from experiments.support.records import Row

# So many of the last are kept: the one before the last stands in for a damaged one.
KEPT = 2


def save_epoch(folder: Path, epoch: int, state: PyTree, rows: list[Row], owner: str) -> None:
    """Writes what training continues from after an epoch; older checkpoints but one are removed.

    Raises:
        WriteError: If the disk is full or the folder cannot be written; older checkpoints stay.
    """
    make_folder(folder)
    path = (folder / f"epoch_{epoch:05d}").absolute()
    shutil.rmtree(path, ignore_errors=True)
    arguments = ocp.args.Composite(
        state=ocp.args.StandardSave(_arrays(state)),
        records=ocp.args.JsonSave({"epoch": epoch, "owner": owner, "rows": rows}),
    )
    try:
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
            checkpointer.save(path, args=arguments)
    except OSError as error:
        raise write_error(path, error) from error
    for old in saved_epochs(folder)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def load_epoch(path: Path, state: PyTree, owner: str) -> tuple[int, PyTree, list[Row]]:
    """Returns the epoch, the state and the rows of a checkpoint; the given state tells shapes and dtypes.

    Raises:
        CheckpointError: If it is damaged, incomplete, or of another run or seed.
    """
    arguments = ocp.args.Composite(
        state=ocp.args.StandardRestore(_arrays(state)), records=ocp.args.JsonRestore()
    )
    try:
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
            found = checkpointer.restore(path.absolute(), args=arguments)
        records: dict[str, Any] = found["records"]
        epoch, rows, stored_owner = records["epoch"], records["rows"], records["owner"]
        restored = jax.tree.unflatten(jax.tree.structure(state), list(found["state"].values()))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path} is damaged: {first_line}") from error
    if stored_owner != owner:
        raise CheckpointError(f"{path} is of {stored_owner}, expected {owner}")
    return epoch, restored, rows


def saved_epochs(folder: Path) -> list[Path]:
    """Returns the checkpoints of a folder, first to last; those that were cut off have another name."""
    found = [path for path in folder.glob("epoch_*") if path.name.removeprefix("epoch_").isdigit()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("epoch_")))


def _arrays(state: PyTree) -> dict[str, jax.Array]:
    # Flat and by number: the structure is the code's, the file holds arrays only.
    return {f"{index:04d}": leaf for index, leaf in enumerate(jax.tree.leaves(state))}
