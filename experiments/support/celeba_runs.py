"""One attribute of CelebA: a plain Laplace machine, its AGOP updates, what they score and what M looks at."""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.sparse.linalg import eigsh

from dnc_jax import RFM, Laplace, rfm_iterates
from dnc_jax.linalg import unit_rows
from experiments.support import checkpoint, rfm_measures, rfm_runs
from experiments.support.celeba_rows import Parts, choose
from experiments.support.celeba_table import AttributeTable
from experiments.support.data.celeba import ATTRIBUTES, Faces
from experiments.support.records import Row, Run, to_lines
from experiments.support.rfm_measures import FEATURE_MATRIX, MACHINE

Settings = Mapping[str, Any]
Sets = dict[str, tuple[Float[Array, "n d"], Float[Array, "n 2"]]]
"""Points and targets by the prefix of what is measured on them."""


@dataclass(frozen=True)
class Session:
    """Everything that the attributes of a run share."""

    settings: Settings
    faces: Faces
    run: Run
    table: AttributeTable
    dtype: jnp.dtype
    resume: bool


def run_attribute(session: Session, seed: int, attribute: str) -> list[Row]:
    """Fits, measures and records all iterates of one seed and attribute, or loads them; returns all rows."""
    run = session.run
    parts = choose(session.faces, attribute, num_per_class=session.settings["num_per_class"], seed=seed)
    path, owner = run.epochs(seed) / f"{attribute}.npz", f"{attribute} of {run.owner(seed)}"
    began = time.perf_counter()
    loaded = rfm_runs.load(path, owner, session.table.say) if session.resume else None
    if loaded is None:
        rows, arrays = fit_attribute(session, seed, attribute, parts)
        checkpoint.save_arrays(path, arrays | {"rows": np.asarray(json.dumps(rows))}, owner)
    else:
        rows, arrays = loaded
        run.log(rows)
    session.table.attribute(parts, rows, None if loaded else time.perf_counter() - began)
    if seed == session.settings["seeds"][0]:
        shown = arrays_path(run.workdir, attribute)
        if not checkpoint.is_whole(shown, owner):
            checkpoint.save_arrays(shown, arrays, owner)
    return rows


def fit_attribute(
    session: Session, seed: int, attribute: str, parts: Parts
) -> tuple[list[Row], dict[str, np.ndarray]]:
    """Returns the rows of one seed and attribute, and images of the last M and of those who have it."""
    place, began = {"seed": seed, "attribute": attribute}, time.perf_counter()
    sets, mean_image = place_sets(session, parts)
    rows, kept = [], {}
    for iteration, rfm in enumerate(iterates(session, seed, attribute, sets)):
        values = {MACHINE: measure(rfm, sets)}
        if iteration:
            found, kept = look_at(rfm.feature_matrix)
            values |= {FEATURE_MATRIX: found}
        new_rows = rfm_measures.to_rows(place, iteration, values)
        session.run.log(new_rows)
        seconds = time.perf_counter() - began
        session.run.log_timing(place | {"iteration": iteration, "seconds": seconds})
        rows, began = rows + new_rows, time.perf_counter()
    to_lines(rows)  # raises before anything that cannot be recorded is kept
    images = {name: vector.reshape(mean_image.shape) for name, vector in kept.items()}
    return rows, images | {"mean_image": mean_image}


def iterates(session: Session, seed: int, attribute: str, sets: Sets) -> Iterator[RFM]:
    """Returns the plain machine and those after each update of M."""
    settings, (x, targets) = session.settings, sets["train_"]
    key = jax.random.fold_in(jax.random.key(seed), ATTRIBUTES.index(attribute))
    some = settings["agop_size"] < len(x)
    found = rfm_iterates(
        Laplace(settings["bandwidth"]),
        x,
        targets,
        ridge=settings["ridge"],
        agop_size=settings["agop_size"] if some else None,
        key=key if some else None,
    )
    return islice(found, settings["num_iters"] + 1)


def place_sets(session: Session, parts: Parts) -> tuple[Sets, Float[np.ndarray, "h w 3"]]:
    """Returns all points with unit rows, and the mean of the training images that have the attribute.

    The mean is of pixels in 0..1.
    """
    size, sets = session.settings["image_size"], {}
    mean_image = np.zeros((size, size, 3))
    for prefix, part in (("train_", parts.train), ("validation_", parts.validation), ("test_", parts.test)):
        images = part.split.images(part.rows, size)
        if prefix == "train_":
            mean_image = images[part.labels].mean(axis=0, dtype=np.float64) / 255
        sets[prefix] = (_points(images, session.dtype), jnp.asarray(part.one_hot(), session.dtype))
    return sets, mean_image


def measure(rfm: RFM, sets: Sets) -> dict[str, float]:
    """Returns the accuracy and the mean squared error on every set, by the name of the set and metric."""
    found = {}
    for prefix, (x, targets) in sets.items():
        accuracy, _, error = (float(value) for value in rfm_measures.scores(rfm, x, targets))
        found |= {f"{prefix}accuracy": accuracy, f"{prefix}mean_squared_error": error}
    return found


def look_at(feature_matrix: Float[Array, "d d"]) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Returns the share of M's trace in its largest eigenvalue; M's diagonal, and its top eigenvector."""
    matrix = np.asarray(feature_matrix)
    value, vector = top_eigenvector(matrix)
    share = value / float(np.trace(matrix))
    return {"top_eigenvalue_share": share}, {"diagonal": np.diagonal(matrix), "top_eigenvector": vector}


def top_eigenvector(matrix: Float[np.ndarray, "d d"]) -> tuple[float, Float[np.ndarray, "d"]]:
    """Returns the largest eigenvalue of a symmetric matrix, and its eigenvector over its largest entry.

    By Lanczos iteration from a fixed start: a few products, where all eigenvectors take d^3. An eigenvector
    has no sign of its own: this one is divided by its entry of largest size, the first one if several tie,
    which so becomes +1.
    """
    # Irrational phases: a start that no symmetry of the image is orthogonal to.
    start = np.sin(1.0 + np.arange(len(matrix)) ** 2).astype(matrix.dtype)
    values, vectors = eigsh(matrix, k=1, which="LA", v0=start)
    vector = vectors[:, 0]
    return float(values[0]), vector / vector[np.argmax(np.abs(vector))]


def arrays_path(workdir: Path, attribute: str) -> Path:
    """Returns the file of what figures show of an attribute, of the first seed."""
    return workdir / "arrays" / f"{attribute}.npz"


def _points(images: np.ndarray, dtype: jnp.dtype) -> Float[Array, "n d"]:
    return _unit_rows(jnp.asarray(images.reshape(len(images), -1)), dtype)


@partial(jax.jit, static_argnames="dtype")
def _unit_rows(pixels: Array, dtype: jnp.dtype) -> Float[Array, "n d"]:
    return unit_rows(pixels.astype(dtype))
