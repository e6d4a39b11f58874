"""Attributes of faces by a Laplace kernel, before and after one AGOP update: what does M look at?

    python -m experiments.celeba --data-dir=DIR

DIR holds CelebA as TensorFlow Datasets prepares it (`celeb_a`, array_record). For each attribute as many
images with it as without are drawn from the training split, 80% to fit and 20% to validate, and others from
the test split to measure; images are squeezed to 96 x 96 by Pillow's bilinear filter, flattened and scaled to
unit norm. The settings are those of Radhakrishnan, Beaglehole, Pandit and Belkin (Science 2024) and their
released code: bandwidth 10, ridge 1e-3, targets one-hot in {0, 1}, the AGOP the mean over 20,000 training
images. The released code takes the first images of a split, and draws those 20,000 with replacement: here
both are drawn without, by the seed. At 96 x 96, M has 27,648 rows: 3 GB in float32. Run again in the same
workdir to continue: finished attributes are loaded.
"""

import dataclasses
import sys
from functools import partial
from pathlib import Path
from typing import Any, Literal

import tyro

from experiments.support import celeba_cost, celeba_runs, command, devices, options
from experiments.support.celeba_rows import MIN_PER_CLASS
from experiments.support.celeba_table import AttributeTable
from experiments.support.console import say_settings
from experiments.support.data.celeba import check_attributes, open_faces
from experiments.support.plotting import celeba_figures
from experiments.support.records import open_run

# Options that change where or how a run goes, but no number of it.
UNRECORDED = ("preset", "workdir", "data_dir", "resume", "dry_run")


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of the run; those that decide its numbers are kept in its config.json."""

    preset: tyro.conf.Suppress[Literal["default"]] = "default"
    data_dir: Path | None = None
    """folder with celeb_a as TensorFlow Datasets prepares it; None is the folder that it uses by itself"""
    attributes: tuple[str, ...] = (
        "5_o_Clock_Shadow",
        "Eyeglasses",
        "Rosy_Cheeks",
        "Smiling",
        "Wearing_Lipstick",
        "Wearing_Necktie",
    )
    """names of attributes, one binary task for each"""
    image_size: int = 96
    """images are squeezed to so many pixels in height and width"""
    num_per_class: int = 25_000
    """images drawn of each class, fewer where an attribute is rarer: 80% to fit, 20% to validate"""
    num_iters: int = 1
    """updates of M after the plain kernel"""
    bandwidth: float = 10.0
    """bandwidth of the Laplace kernel"""
    ridge: float = 1e-3
    """added to the diagonal of the kernel matrix"""
    agop_size: int = 20_000
    """training images whose gradients enter an AGOP, all where there are fewer"""
    seeds: tuple[int, ...] = (0,)
    """one draw of the images per seed"""
    precision: devices.Precision = "float64"
    """of the fits; the published ones are in float32"""
    workdir: Path | None = None
    """folder of the records; None is runs/celeba-attributes-<hash of the options>"""
    resume: bool = True
    """load the finished attributes of the workdir; --no-resume removes them and starts over"""
    dry_run: bool = False
    """print the resolved options with an estimate of memory and time, and stop"""


def main(config: Config) -> Path | None:
    """Runs the experiment and returns the folder of its records, or None for a dry run."""
    check_options(config)
    dtype = devices.set_precision(config.precision)
    settings = recorded(config)
    workdir = config.workdir or Path("runs") / command.run_name("celeba", "attributes", settings)
    table = AttributeTable(config.num_iters)
    size = celeba_cost.largest_size(config.image_size, config.num_per_class)
    mesh = devices.make_mesh(1, size.num_train)
    say_settings("celeba", settings | {"data_dir": config.data_dir, "workdir": workdir})
    num_fits = len(config.seeds) * len(config.attributes) * (config.num_iters + 1)
    table.say(
        celeba_cost.cost(config.image_size, config.num_per_class, num_fits, dtype, devices.free_bytes(mesh))
    )
    if config.dry_run:
        return None
    faces = open_faces(config.data_dir, config.attributes)
    counts = f"{faces.train.num_images:,} + {faces.test.num_images:,}"
    table.say(f"{counts} images of {faces.source}; their attributes are read")
    run = open_run(workdir, settings | {"data_sha256": faces.sha256}, devices.describe(mesh), config.resume)
    session = celeba_runs.Session(settings, faces, run, table, dtype, config.resume)
    rows = []
    with command.resumable(workdir, "experiments.celeba"):
        for seed in config.seeds:
            table.header(seed)
            for attribute in config.attributes:
                rows += celeba_runs.run_attribute(session, seed, attribute)
    table.closing(rows)
    celeba_figures.draw_figures(workdir)
    table.say(f"Records, checkpoints and figures are in {workdir}")
    return workdir


def check_options(config: Config) -> None:
    """Raises ValueError for options that no run can use."""
    check_attributes(config.attributes)
    sizes = {name: getattr(config, name) for name in ("image_size", "num_iters", "agop_size")}
    options.check_sizes(**sizes)
    if config.num_per_class < MIN_PER_CLASS:
        raise ValueError(
            f"--num-per-class must be at least {MIN_PER_CLASS}, which are split 80/20: got "
            f"{config.num_per_class}"
        )
    options.check_positive(bandwidth=config.bandwidth)
    options.check_ridge(config.ridge)
    options.check_seeds(config.seeds)


def recorded(config: Config) -> dict[str, Any]:
    """Returns what decides the numbers of a run, but for the data."""
    kept = {k: v for k, v in dataclasses.asdict(config).items() if k not in UNRECORDED}
    listed = {name: list(value) for name, value in kept.items() if isinstance(value, tuple)}
    return {"command": "celeba"} | kept | listed


if __name__ == "__main__":
    sys.exit(command.run(partial(main, command.parse(Config, {}, sys.argv[1:]))))
