"""A convolutional tangent kernel with and without the AGOP of image patches: which patches does M find?

    python -m experiments.conv_rfm --dataset=stars
    python -m experiments.conv_rfm --dataset=folder --data-dir=DIR

Iteration 0 is the plain kernel of a network of convolutions, ReLUs and one dense layer (ConvNTK); every later
one sees patches through M^(1/2), M the average gradient outer product of the machine before with respect to
its patches (Beaglehole, Radhakrishnan, Pandit and Belkin 2023). The settings of stars and noisy_mnist are
those of the notebooks released with Radhakrishnan, Beaglehole, Pandit and Belkin (Science 2024): targets
one-hot in {0, 1}, the ridge in units of the kernel's largest entry, 20 images for the AGOP; those of other
datasets were not published and are this project's. More updates may hurt: validation images pick one. DIR
holds one folder of images per class, or such folders in train and test. Run again in the same workdir to
continue: finished iterations are loaded.
"""

import dataclasses
import sys
from functools import partial
from pathlib import Path
from typing import Any, Literal

import tyro

from experiments.support import command, conv_cost, conv_options, devices, sizes
from experiments.support.console import say_settings
from experiments.support.conv_data import DatasetName, DigitsName, ImageSets, load_sets
from experiments.support.conv_options import AgopSize, Settings
from experiments.support.conv_runs import Session, run_seed
from experiments.support.conv_table import IterationTable, closing_lines
from experiments.support.plotting import conv_figures
from experiments.support.records import open_run

# Options that are none of a dataset.
OF_RUN = ("preset", "dataset", "data_dir", "precision", "workdir", "resume", "dry_run")


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of the run; None takes the value of the dataset."""

    preset: tyro.conf.Suppress[Literal["default"]] = "default"
    dataset: DatasetName = "stars"
    """stars are drawn; noisy_mnist pastes digits into noise; folder takes your own images"""
    data_dir: Path | None = None
    """folder of the images, original or as TensorFlow Datasets prepares them"""
    num_train: int | None = None
    """training images"""
    num_validation: int | None = None
    """images that pick an iteration; 0 for none"""
    num_test: int | None = None
    """held-out images"""
    digits: DigitsName | None = None
    """of noisy_mnist: where digits come from; mnist_5k, the default, needs no files"""
    image_size: int | None = None
    """of folder: images are squeezed to so many pixels in height and width"""
    patch_size: int | None = None
    """pixels in height and width that a convolution sees"""
    depth: int | None = None
    """number of convolutions"""
    padding: Literal["valid", "same"] | None = None
    """valid convolves inside the image alone, same surrounds it with zeros"""
    stride: int | None = None
    """pixels from one patch to the next"""
    pooling: bool | None = None
    """take the mean over positions before the dense layer: h w times the work"""
    ridge: float | None = None
    """added to the diagonal of the kernel matrix, in units of its largest entry"""
    num_iters: int | None = None
    """updates of M after the plain kernel"""
    agop_size: AgopSize | None = None
    """training images whose gradients enter each AGOP, drawn anew for each, or all"""
    seeds: tuple[int, ...] | None = None
    """one draw of the images per seed"""
    precision: devices.Precision = "float64"
    """of the fits and of what is measured"""
    workdir: Path | None = None
    """folder of the records; None is runs/conv_rfm-<dataset>-<hash of the options>"""
    resume: bool = True
    """load the finished iterations of the workdir; --no-resume removes them and starts over"""
    dry_run: bool = False
    """print the resolved options with an estimate of memory and time, and stop"""


def main(config: Config) -> Path | None:
    """Runs the experiment and returns the folder of its records, or None for a dry run."""
    given = {n: v for n, v in dataclasses.asdict(config).items() if n not in OF_RUN}
    settings = conv_options.resolved(config.dataset, given)
    dtype = devices.set_precision(config.precision)
    table, mesh = IterationTable(settings["num_validation"] > 0), devices.make_mesh(1, 1)
    load, free = partial(load_images, config, settings), devices.free_bytes(mesh)
    expected = conv_cost.expected_sizes(config.dataset, settings)
    # What needs no files is read in a dry run too, so that counts beyond what there is are refused.
    is_planned = sizes.needs_files(settings.get("digits") or config.dataset, config.data_dir)
    if config.dry_run and expected and is_planned:
        say_settings("conv_rfm", {"dataset": config.dataset} | settings)
        table.say(conv_cost.cost(settings, expected, dtype, free))
        return None
    if expected:
        conv_cost.cost(settings, expected, dtype, free)  # refused before images are read
    sets = load(settings["seeds"][0])
    recorded = record(config, settings, sets)
    workdir = config.workdir or Path("runs") / command.run_name("conv_rfm", config.dataset, recorded)
    shown = {name: value for name, value in recorded.items() if name != "class_names"}
    say_settings("conv_rfm", shown | {"data_dir": config.data_dir, "workdir": workdir})
    table.say(f"images: {sets.source}")
    table.say(conv_cost.cost(settings, conv_cost.sizes_of(sets), dtype, free))
    if config.dry_run:
        return None
    run = open_run(workdir, recorded, devices.describe(mesh), config.resume)
    session = Session(settings, run, table, dtype, config.resume)
    with command.resumable(workdir, "experiments.conv_rfm"):
        rows = []
        for seed in settings["seeds"]:
            sets = sets if seed == settings["seeds"][0] else load(seed)
            rows += run_seed(session, seed, sets)
    conv_figures.draw_figures(workdir)
    table.say(closing_lines(config.dataset, rows, workdir))
    return workdir


def load_images(config: Config, settings: Settings, seed: int) -> ImageSets:
    """Returns the images of one seed."""
    return load_sets(
        config.dataset,
        seed=seed,
        data_dir=config.data_dir,
        num_train=settings["num_train"],
        num_validation=settings["num_validation"],
        num_test=settings["num_test"],
        digits=settings.get("digits"),
        image_size=settings.get("image_size"),
    )


def record(config: Config, settings: Settings, sets: ImageSets) -> dict[str, Any]:
    """Returns what decides the numbers of a run, and the names that its figures show."""
    known = {name: list(v) if isinstance(v, tuple) else v for name, v in settings.items()}
    counts = {"num_train": len(sets.train.labels), "num_test": len(sets.test.labels)}
    known |= counts | {"agop_size": conv_options.agop_images(settings, counts["num_train"])}
    of_data = {"title": sets.title, "class_names": list(sets.class_names), "data_sha256": sets.sha256}
    named = {"command": "conv_rfm", "dataset": config.dataset}
    return named | known | {"precision": config.precision} | of_data


if __name__ == "__main__":
    sys.exit(command.run(partial(main, command.parse(Config, {}, sys.argv[1:]))))
