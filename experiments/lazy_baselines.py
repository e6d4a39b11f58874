"""Methods that learn no features, "lazy" ones, beside RFM and Deep RFM: one table on one set of images.

    python -m experiments.lazy_baselines --dataset=fashion_mnist_mini

A linear SVM, kernel regression with a polynomial, a Gaussian, a Laplace and the neural tangent kernel, RFM
and Deep RFM. Each is tuned on validation points over the grid that is printed, refitted on training and
validation points together with what was chosen, and tested once. Pixels are scaled to [0, 1] and standardized
by the points that are fitted, targets are -1 and +1, as in Deep RFM. A seed draws all points, and the random
features of Deep RFM. Run again in the same workdir to continue.
"""

import dataclasses
import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import jax.numpy as jnp
import numpy as np
import tyro

from dnc_jax.cost import LayerSize
from experiments.support import checkpoint, command, data, devices, estimate, options, sizes
from experiments.support.console import say, say_settings
from experiments.support.data.catalog import describe
from experiments.support.lazy_data import Trial, check_counts, draw
from experiments.support.lazy_grids import DEEP_RFM, GRIDS, TITLES, MethodName, num_fits
from experiments.support.lazy_methods import run_method
from experiments.support.lazy_table import MethodTable, closing_table, to_rows
from experiments.support.plotting.lazy_figure import draw_accuracies
from experiments.support.records import Row, Run, open_run

# Options that change where or how a run goes, but no number of it.
UNRECORDED = ("preset", "workdir", "data_dir", "resume", "dry_run")


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of the run; those that decide its numbers are kept in its config.json."""

    preset: tyro.conf.Suppress[Literal["default"]] = "default"
    dataset: Annotated[str, tyro.conf.arg(metavar="{" + ",".join(get_args(data.Name)) + "}")] = (
        "fashion_mnist_mini"
    )
    """images to classify"""
    num_train: int = 1000
    """images that are fitted while a method is tuned, stratified by class"""
    num_validation: int = 500
    """images that choose, of the same split; the chosen point is refitted on these too"""
    num_test: int | None = None
    """held-out images; None takes up to 1000"""
    methods: tuple[MethodName, ...] = get_args(MethodName)
    """methods to compare"""
    seeds: tuple[int, ...] = (0, 1, 2)
    """one draw of all images, and of the random features of Deep RFM, per seed"""
    precision: devices.Precision = "float64"
    """of the fits; the linear SVM is always solved in float64"""
    data_dir: Path | None = None
    """folder of original files or of prepared TFDS datasets"""
    workdir: Path | None = None
    """folder of the records; None is runs/lazy_baselines-<dataset>-<hash of the options>"""
    resume: bool = True
    """load the finished methods of the workdir; --no-resume removes them and starts over"""
    dry_run: bool = False
    """print the options and the grids with an estimate of memory and time, and stop"""


@dataclasses.dataclass(frozen=True)
class Session:
    """Everything that the seeds of a run share."""

    config: Config
    run: Run
    table: MethodTable


def main(config: Config) -> Path | None:
    """Runs the comparison and returns the folder of its records, or None for a dry run."""
    check_options(config)
    dtype = devices.set_precision(config.precision)
    is_planned = config.dry_run and sizes.needs_files(config.dataset, config.data_dir)
    images = None if is_planned else data.load(config.dataset, data_dir=config.data_dir)
    trials = [draw_trial(config, images, seed, dtype) for seed in config.seeds] if images else []
    size = size_of(config, trials)
    settings = recorded(config, size, [trial.sha256 for trial in trials])
    workdir = config.workdir or Path("runs") / command.run_name("lazy_baselines", config.dataset, settings)
    shown = {name: value for name, value in settings.items() if name != "grids"}
    say_settings("lazy_baselines", shown | {"workdir": workdir})
    for name, grid in settings["grids"].items():
        say_settings(f"grid of {TITLES[name]}", grid)
    mesh = devices.make_mesh(1, config.num_train)
    say(cost(config, size, dtype, devices.free_bytes(mesh)))
    if config.dry_run or images is None:
        return None
    run = open_run(workdir, settings, devices.describe(mesh) | {"data_source": images.source}, config.resume)
    session = Session(config, run, MethodTable())
    with command.resumable(workdir, "experiments.lazy_baselines"):
        rows = [row for trial in trials for row in run_seed(session, trial)]
    draw_accuracies(workdir / "figures", settings, rows)
    say(closing_table(settings, rows))
    say(f"Records and figures are in {workdir}")
    return workdir


def run_seed(session: Session, trial: Trial) -> list[Row]:
    """Tunes and tests, or loads, and records every method of one seed; returns all rows."""
    seed = trial.seed
    session.table.header(seed)
    rows: list[Row] = []
    for method in session.config.methods:
        start = time.perf_counter()
        loaded = load(session, seed, method) if session.config.resume else None
        new_rows = loaded or fit(session, trial, method)
        seconds = time.perf_counter() - start
        session.run.log(new_rows)
        timing = {"seed": seed, "method": method, "seconds": seconds}
        session.run.log_timing(timing | {"loaded": loaded is not None})
        session.table.method(new_rows, "loaded" if loaded else f"{seconds:.1f}")
        rows += new_rows
    return rows


def fit(session: Session, trial: Trial, method: MethodName) -> list[Row]:
    """Returns the rows of a method, tuned, refitted and tested, and keeps them."""
    rows = to_rows(trial.seed, method, run_method(method, trial))
    path, owner = place_of(session.run, trial.seed, method)
    checkpoint.save_arrays(path, {"rows": np.asarray(json.dumps(rows))}, owner)
    return rows


def load(session: Session, seed: int, method: MethodName) -> list[Row] | None:
    """Returns the rows of a finished method, or None if it has to be fitted."""
    path, owner = place_of(session.run, seed, method)
    if not path.exists():
        return None
    try:
        return json.loads(str(checkpoint.load_arrays(path, owner)["rows"]))
    except checkpoint.CheckpointError as error:
        say(f"{error}; fitting it again")
        return None


def place_of(run: Run, seed: int, method: MethodName) -> tuple[Path, str]:
    """Returns the file of a finished method, and whose it is."""
    return run.epochs(seed) / f"{method}.npz", f"{method} of {run.owner(seed)}"


def draw_trial(config: Config, images: data.Images, seed: int, dtype: jnp.dtype) -> Trial:
    """Returns the images of one seed; raises DataError if they cannot be had or trained on."""
    return draw(
        images,
        num_train=config.num_train,
        num_validation=config.num_validation,
        num_test=config.num_test,
        seed=seed,
        dtype=dtype,
    )


def size_of(config: Config, trials: list[Trial]) -> sizes.RunSizes:
    """Returns the sizes of a refit: of the images that were read, else of what is known of the dataset."""
    if trials:
        return sizes.of_prepared(trials[0].final)
    description = describe(config.dataset)
    counts = description.sizes[0], len(description.class_names), config.num_train, config.num_validation
    check_counts(config.dataset, *counts)
    together = dataclasses.replace(config, num_train=config.num_train + config.num_validation)
    return sizes.of_catalog(together)


def cost(config: Config, size: sizes.RunSizes, dtype: jnp.dtype, free: int) -> str:
    """Returns two lines on the memory and the time of the run.

    Raises:
        MemoryEstimateError: If more memory is needed than is free.
    """
    whole = size.first_layer(int(DEEP_RFM["width"]) if "deep_rfm" in config.methods else 0)
    fits = [dataclasses.replace(whole, num_train=config.num_train)] * sum(map(num_fits, config.methods))
    took = f"time: about {estimate.duration(estimate.run_seconds(fits, len(config.seeds), dtype))}"
    return estimate.plan(
        estimate.peak_bytes(whole, dtype.itemsize),
        estimate.largest_matrix(whole, dtype.itemsize),
        dtype,
        free,
        took,
        lambda: what_fits(config, whole, dtype.itemsize, free),
    )


def what_fits(config: Config, whole: LayerSize, itemsize: int, free: int) -> list[str]:
    """Returns the changes of sizes that make a run fit, if there are any: both by about the same factor."""

    def needed(num_train: int) -> int:
        return estimate.peak_bytes(dataclasses.replace(whole, num_train=num_train), itemsize)

    number = estimate.largest_fitting(needed, whole.num_train, free)
    num_train = number * config.num_train // whole.num_train
    is_enough = num_train >= whole.num_outputs and number - num_train >= whole.num_outputs
    return [f"--num-train={num_train} with --num-validation={number - num_train}"] * is_enough


def check_options(config: Config) -> None:
    """Raises ValueError, naming the flag, for options that no run can use."""
    options.check_sizes(num_train=config.num_train, num_validation=config.num_validation)
    options.check_seeds(config.seeds)
    known = get_args(MethodName)
    if not config.methods or len(set(config.methods)) < len(config.methods) or set(config.methods) - {*known}:
        raise ValueError(
            f"--methods must be one or more different ones of {', '.join(known)}: got {config.methods}"
        )


def recorded(config: Config, size: sizes.RunSizes, digests: list[str]) -> dict[str, Any]:
    """Returns what decides the numbers of a run, with sizes as they were resolved."""
    kept = {name: value for name, value in dataclasses.asdict(config).items() if name not in UNRECORDED}
    found = {"seeds": list(config.seeds), "methods": list(config.methods), "num_test": size.num_test}
    found |= {"num_classes": size.num_classes, "image_shape": list(size.image_shape)}
    grids = {name: {key: list(values) for key, values in GRIDS[name].items()} for name in config.methods}
    fixed = {"deep_rfm": DEEP_RFM} if "deep_rfm" in config.methods else {}
    return {"command": "lazy_baselines"} | kept | found | fixed | {"grids": grids, "data_sha256": digests}


if __name__ == "__main__":
    sys.exit(command.run(partial(main, command.parse(Config, {}, sys.argv[1:]))))
