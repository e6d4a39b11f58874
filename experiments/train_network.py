"""Neural collapse in a trained network, layer by layer and epoch by epoch, on real images.

    python -m experiments.train_network --dataset=mnist_5k --network=mlp

Trains a network and measures, before the first step, every few epochs and after the last: NC1 and NC2 at the
three stages of every layer (what it receives, S V^T x, and the activation), every metric at the head, and
how the weights of every layer correlate with the AGOP at its input. Setting: Beaglehole, Sukenik, Mondelli
and Belkin (NeurIPS 2024), figures of trained networks; --preset takes a setting of theirs or of this
project's tables. Run again in the same workdir to continue.
"""

import dataclasses
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import jax.numpy as jnp
import tyro

from dnc_jax.training import (
    OptimizerName,
    cross_entropy,
    make_optimizer,
    squared_error,
)
from experiments.support import command, data, devices, options, sizes
from experiments.support.data.images import pooled
from experiments.support.epoch_table import EpochTable
from experiments.support.layers import Points, place
from experiments.support.network_cost import training_cost
from experiments.support.network_models import (
    HeadName,
    NetworkName,
    input_shape,
    learning_rate,
    make_network,
    optimizer_of,
)
from experiments.support.network_runs import Session, run_seed
from experiments.support.plotting import training_figures
from experiments.support.preprocess import Prepared, prepare
from experiments.support.records import open_run
from experiments.support.reference import reference_lines
from experiments.support.training_story import closing_lines, terminal_phase

LOSSES = {"squared": squared_error, "cross_entropy": cross_entropy}
# Options that change where or how a run goes, but no number of it.
UNRECORDED = ("preset", "workdir", "data_dir", "resume", "devices", "dry_run", "checkpoint_every")


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of the run; those that decide its numbers are kept in its config.json."""

    preset: Literal["default", "mnist", "fashion_mnist", "paper", "paper_resnet18"] = "default"
    """mnist, fashion_mnist: 5000 and 10,000 images; paper, paper_resnet18: all of CIFAR-10"""
    network: NetworkName = "mlp"
    """architecture; convolutions end in an MLP too"""
    head: HeadName = "learned"
    """classifier; etf is a fixed simplex that no step changes"""
    dataset: Annotated[str, tyro.conf.arg(metavar="{" + ",".join(get_args(data.Name)) + "}")] = (
        "fashion_mnist_mini"
    )
    """images to learn"""
    num_train: int | None = None
    """training images, stratified by class; None takes the whole split"""
    num_test: int | None = None
    """held-out images; None takes up to 1000"""
    held_out: bool = True
    """--no-held-out trains on the test split too; nothing is then held out"""
    data_seed: int = 0
    """draws the subsets and the label noise; the same for all seeds"""
    label_noise: float = 0.0
    """fraction of training labels that are permuted; 1.0 is the random-label experiment"""
    depth: int = 5
    """hidden layers, those of the head on convolutions"""
    width: int = 512
    """units of a hidden layer"""
    init_gain: float = 0.1
    """factor of the Xavier-uniform initialization of dense layers; small ones make features be learned"""
    optimizer: OptimizerName = "adam"
    """sgd, adam, or adamw with decoupled weight decay"""
    learning_rate: float = 1e-4
    """step size of the optimizer"""
    schedule: Literal["constant", "cosine"] = "constant"
    """cosine falls to 0 at the last step"""
    warmup_epochs: int = 0
    """epochs over which the cosine schedule first rises from 0"""
    momentum: float = 0.0
    """of sgd"""
    weight_decay: float = 0.0
    """added to the gradient, for adamw taken from the weights"""
    restart_optimizer: bool = False
    """build the optimizer anew every epoch, as the released code does: Adam's moments start again"""
    loss: Literal["squared", "cross_entropy"] = "squared"
    """squared error on targets in {-1, +1}, or cross-entropy"""
    batch_size: int = 128
    """images of a step; the last batch of an epoch may be smaller"""
    epochs: int = 100
    """passes over the training images"""
    measure_every: int = 10
    """epochs between measurements; the first is before any step, the last after all"""
    num_measured: int = 2000
    """training images that collapse is measured on, and AGOPs"""
    checkpoint_every: int = 10
    """epochs between checkpoints; the last epoch has one too"""
    seeds: tuple[int, ...] = (0, 1, 2)
    """one run of all epochs per seed of the weights and of the order of images"""
    precision: devices.Precision = "float32"
    """of training and of what is measured"""
    devices: int | None = 1
    """devices that share the rows of the data; None takes all visible ones"""
    data_dir: Path | None = None
    """folder of original files or of prepared TFDS datasets"""
    workdir: Path | None = None
    """folder of the records; None is runs/train_network-<dataset>-<hash of the options>"""
    resume: bool = True
    """continue what the workdir holds; --no-resume removes it and starts over"""
    dry_run: bool = False
    """print the resolved options with the flops and the memory that they need, and stop"""


PRESETS = {
    "mnist": Config(preset="mnist", dataset="mnist_5k", held_out=False, epochs=200),
    "fashion_mnist": Config(preset="fashion_mnist", dataset="fashion_mnist", num_train=10_000, epochs=120),
    "paper": Config(
        preset="paper",
        dataset="cifar10",
        num_train=50_000,
        learning_rate=5e-5,
        epochs=250,
        restart_optimizer=True,
    ),
    "paper_resnet18": Config(
        preset="paper_resnet18",
        network="resnet18",
        dataset="cifar10",
        num_train=50_000,
        optimizer="sgd",
        learning_rate=0.05,
        init_gain=0.25,
        epochs=500,
    ),
}


def main(config: Config) -> Path | None:
    """Runs the experiment and returns the folder of its records, or None for a dry run."""
    check_options(config)
    dtype = devices.set_precision(config.precision)
    is_planned = config.dry_run and sizes.needs_files(config.dataset, config.data_dir)
    prepared = None if is_planned else read(config)
    size = sizes.of_prepared(prepared) if prepared else sizes.of_catalog(config, held_out=config.held_out)
    size = size if config.held_out else size._replace(num_test=0)
    check_against(config, size)
    mesh = devices.make_mesh(config.devices, size.num_train)
    settings = recorded(config, size, prepared)
    workdir = config.workdir or Path("runs") / command.run_name("train_network", config.dataset, settings)
    table = EpochTable()
    places = {"source": prepared.source, "workdir": workdir} if prepared else {"source": "not read"}
    table.settings("train_network", settings | places)
    if config.dry_run or prepared is None:
        table.say(cost(config, size, dtype))
        return None
    environment = devices.describe(mesh) | {"data_source": prepared.source}
    run = open_run(workdir, settings, environment, config.resume)
    shape = input_shape(config, size)
    train = reshaped(place(prepared.train, partial(devices.shard_rows, mesh), dtype), shape)
    test = reshaped(place(prepared.test, partial(devices.replicate, mesh), dtype), shape)
    rate, optimizer = learning_rate(config, size.num_train), optimizer_of(config, size.num_train)
    loss = LOSSES[config.loss]
    held_out = test if config.held_out else None
    session = Session(config, run, table, train, held_out, size.num_classes, optimizer, loss, rate)
    with command.resumable(workdir, "experiments.train_network"), training_figures.figures_of(run):
        rows = [
            row for seed in config.seeds for row in run_seed(session, seed, *make_network(config, seed, size))
        ]
    run.write_lines("terminal_phase.jsonl", terminal_phase(rows))
    table.say("\n".join([closing_lines(rows, workdir), *reference(config)]))
    return workdir


def reference(config: Config) -> list[str]:
    """Returns what others have got with a preset, where no option but the seeds was changed."""
    preset = PRESETS.get(config.preset)
    is_same = preset and options_of(dataclasses.replace(preset, seeds=config.seeds)) == options_of(config)
    return reference_lines(config.preset) if is_same else []


def check_options(config: Config) -> None:
    """Raises ValueError, naming the flag, for an option that no run can use."""
    counts = ("depth", "width", "epochs", "batch_size", "measure_every", "num_measured", "checkpoint_every")
    options.check_sizes(**{name: getattr(config, name) for name in counts})
    options.check_positive(learning_rate=config.learning_rate, init_gain=config.init_gain)
    options.check_seeds(config.seeds)
    make_optimizer(
        config.optimizer,
        config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
    )
    if config.warmup_epochs and config.schedule != "cosine":
        raise ValueError(f"--warmup-epochs is an option of --schedule=cosine: got {config.warmup_epochs}")
    if not 0 <= config.warmup_epochs < config.epochs:
        raise ValueError(
            f"--warmup-epochs must lie in 0..{config.epochs - 1}, below --epochs: got {config.warmup_epochs}"
        )
    if not config.held_out and config.num_test is not None:
        raise ValueError(f"--no-held-out leaves no held-out images: got --num-test={config.num_test}")
    if config.restart_optimizer and config.schedule == "cosine":
        raise ValueError(
            "--restart-optimizer starts the schedule anew every epoch: leave --schedule=constant"
        )


def check_against(config: Config, size: sizes.RunSizes) -> None:
    """Raises ValueError, naming the flag, for an option that data of this size cannot be used with."""
    if config.head == "etf" and config.width < size.num_classes - 1:
        raise ValueError(
            f"--width must be at least {size.num_classes - 1} with --head=etf, a simplex of "
            f"{size.num_classes} classes: got {config.width}"
        )
    if config.num_measured < 2 * size.num_classes:
        raise ValueError(
            f"--num-measured must be at least {2 * size.num_classes}, two images for each of "
            f"{size.num_classes} classes: got {config.num_measured}"
        )


def cost(config: Config, size: sizes.RunSizes, dtype: jnp.dtype) -> str:
    """Returns what the training must compute and hold, in two lines."""
    network, params, stats = make_network(config, config.seeds[0], size)
    return training_cost(
        network.layers(params, stats),
        params,
        optimizer_of(config, size.num_train).init(params),
        image_shape=input_shape(config, size),
        dtype=dtype,
        num_images=size.num_train,
        batch_size=config.batch_size,
        num_epochs=config.epochs * len(config.seeds),
    )


def read(config: Config) -> Prepared:
    """Returns the data of the run; raises DataError if it cannot be had or trained on."""
    images = data.load(config.dataset, data_dir=config.data_dir)
    return prepare(
        images if config.held_out else pooled(images),
        num_train=config.num_train,
        num_test=config.num_test,
        seed=config.data_seed,
        label_noise=config.label_noise,
    )


def reshaped(points: Points, shape: tuple[int, ...]) -> Points:
    """Returns points whose inputs have the shape that the network takes."""
    return dataclasses.replace(points, x=points.x.reshape(-1, *shape))


def recorded(config: Config, size: sizes.RunSizes, prepared: Prepared | None) -> dict[str, Any]:
    """Returns what decides the numbers of a run, with sizes as they were resolved."""
    found = {"seeds": list(config.seeds), **size._asdict(), "image_shape": list(size.image_shape)}
    known = {"command": "train_network"} | options_of(config) | found
    return known | {"data_sha256": prepared and prepared.sha256}


def options_of(config: Config) -> dict[str, Any]:
    """Returns the options that decide the numbers of a run."""
    return {name: value for name, value in dataclasses.asdict(config).items() if name not in UNRECORDED}


if __name__ == "__main__":
    sys.exit(command.run(partial(main, command.parse(Config, PRESETS, sys.argv[1:]))))
