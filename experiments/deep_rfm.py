"""Deep neural collapse in a deep recursive feature machine, layer by layer, on real images.

    python -m experiments.deep_rfm --dataset=svhn

Each layer fits a kernel machine, takes its average gradient outer product M, and passes phi(M^(1/2) x) on.
NC1, NC2 and NC4 are measured at the three stages of every layer, on training and on held-out points.
Setting: Beaglehole, Sukenik, Mondelli and Belkin (NeurIPS 2024), Deep RFM figures; --preset=paper takes
their sizes. Run again in the same workdir to continue.
"""

import dataclasses
import resource
import sys
import time
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import jax
import tyro

from dnc_jax import (
    Gaussian,
    Laplace,
    features,
    stages,
    unit_rows,
)
from dnc_jax.deep_rfm import fit_deep_rfm_layer_with_diagnostics
from dnc_jax.linalg import cholesky_solve, eigh_solve
from dnc_jax.types import FeatureSampler
from experiments.support import (
    checkpoint,
    command,
    data,
    devices,
    estimate,
    floor,
    layers,
    options,
    plotting,
    snapshots,
)
from experiments.support.console import LayerTable
from experiments.support.preprocess import Prepared, check_solvable, prepare
from experiments.support.records import Row, Run, open_run, to_lines
from experiments.support.story import closing_line

KERNELS = {"laplace": Laplace, "gaussian": Gaussian}
SOLVERS = {"cholesky": cholesky_solve, "eigh": eigh_solve}
# Options that change where or how a run goes, but no number of it.
UNRECORDED = ("preset", "workdir", "data_dir", "resume", "devices", "dry_run", "on_floor")
FeatureName = Literal["relu", "gaussian_fourier", "laplace_fourier", "product_laplace_fourier"]


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of the run; those that decide its numbers are kept in its config.json."""

    preset: Literal["default", "paper"] = "default"
    """paper: 50,000 CIFAR-10 images, 20 layers, own statistics; other options given beside it win"""
    dataset: Annotated[str, tyro.conf.arg(metavar="{" + ",".join(get_args(data.Name)) + "}")] = (
        "fashion_mnist_mini"
    )
    """images to fit"""
    num_train: int | None = 1000
    """training images, stratified by class; None takes the whole split"""
    num_test: int | None = None
    """held-out images; None takes up to 1000"""
    data_seed: int = 0
    """draws the subsets and the label noise; the same for all seeds"""
    label_noise: float = 0.0
    """fraction of training labels that are permuted; 1.0 is the random-label experiment"""
    own_statistics: bool = False
    """standardize held-out images by their own statistics, as the released code does"""
    depth: int = 12
    """number of layers"""
    width: int = 1024
    """random features per layer"""
    kernel: Literal["laplace", "gaussian"] = "laplace"
    """kernel of every layer's machine"""
    bandwidth: float = 2.0
    """bandwidth of the kernel"""
    ridge: float = 1e-3
    """added to the diagonal of the kernel matrix; the released code uses 1e-3 whatever it is told"""
    num_iters: int = 1
    """updates of M within a layer"""
    feature_map: FeatureName = "relu"
    """random features phi; product_laplace_fourier is what the released code calls Laplace features"""
    feature_bandwidth: float = 10.0
    """bandwidth of Fourier features, 1/gamma of the released code (10 for CIFAR and SVHN, 20 for MNIST)"""
    seeds: tuple[int, ...] = (0, 1, 2)
    """one run of all layers per seed of the random features"""
    precision: devices.Precision = "float64"
    """float32 reaches its floor after some layers; see --on-floor"""
    on_floor: floor.OnFloor = "stop"
    """at the first layer below the float floor: stop, or warn and mark every affected number"""
    solver: Literal["cholesky", "eigh"] = "cholesky"
    """cholesky estimates the condition number; eigh computes it, ten times slower"""
    devices: int | None = None
    """devices that share the rows of the data; None takes all visible ones"""
    data_dir: Path | None = None
    """folder of original files or of prepared TFDS datasets"""
    workdir: Path | None = None
    """folder of the records; None is runs/deep_rfm-<dataset>-<hash of the options>"""
    resume: bool = True
    """continue what the workdir holds; --no-resume removes it and starts over"""
    dry_run: bool = False
    """print the resolved options with an estimate of memory and time, and stop"""


PRESETS = {
    "paper": Config(
        preset="paper",
        dataset="cifar10",
        num_train=50_000,
        own_statistics=True,
        depth=20,
        width=1024,
        bandwidth=2.0,
        ridge=1e-3,
        seeds=(0, 1, 2),
    )
}


@dataclasses.dataclass(frozen=True)
class Session:
    """Everything that the layers of a run share."""

    config: Config
    run: Run
    table: LayerTable
    train: layers.Points
    test: layers.Points
    num_classes: int


def main(config: Config) -> Path | None:
    """Runs the experiment and returns the folder of its records, or None for a dry run."""
    options.check_sizes(depth=config.depth, width=config.width, num_iters=config.num_iters)
    options.check_positive(bandwidth=config.bandwidth, feature_bandwidth=config.feature_bandwidth)
    options.check_ridge(config.ridge)
    options.check_seeds(config.seeds)
    dtype = devices.set_precision(config.precision)
    images = data.load(config.dataset, data_dir=config.data_dir)
    prepared = prepare(
        images,
        num_train=config.num_train,
        num_test=config.num_test,
        seed=config.data_seed,
        label_noise=config.label_noise,
        own_statistics=config.own_statistics,
    )
    check_solvable(prepared.train, config.ridge)
    mesh = devices.make_mesh(config.devices, len(prepared.train.labels))
    settings = recorded(config, prepared)
    workdir = config.workdir or Path("runs") / command.run_name("deep_rfm", config.dataset, settings)
    table = LayerTable(config.depth)
    table.settings("deep_rfm", settings | {"source": images.source, "workdir": workdir})
    size = estimate.LayerSize(
        num_train=len(prepared.train.labels),
        num_test=len(prepared.test.labels),
        in_dim=prepared.train.inputs.shape[1],
        width=config.width,
        num_outputs=prepared.num_classes,
    )
    table.say(estimate.cost(size, config.depth, len(config.seeds), dtype, devices.free_bytes(mesh)))
    if config.dry_run:
        return None
    environment = devices.describe(mesh) | {"data_source": images.source}
    run = open_run(workdir, settings, environment, config.resume)
    train = layers.place(prepared.train, partial(devices.shard_rows, mesh), dtype)
    test = layers.place(prepared.test, partial(devices.replicate, mesh), dtype)
    session = Session(config, run, table, train, test, prepared.num_classes)
    with command.resumable(workdir, "experiments.deep_rfm"):
        rows = [row for seed in config.seeds for row in run_seed(session, seed)]
        plotting.draw_figures(workdir)
    table.say(closing_line(rows, workdir))
    return workdir


def run_seed(session: Session, seed: int) -> list[Row]:
    """Fits or loads, measures and records every layer of one seed; returns all rows."""
    config, run, table = session.config, session.run, session.table
    x, test_x = session.train.x, session.test.x
    table.header(seed)
    rows: list[Row] = []
    can_load, is_below = config.resume, False
    for number in range(1, config.depth + 1):
        start = time.perf_counter()
        with table.working(seed, number):
            loaded = load(session, seed, number, x) if can_load else None
            can_load = loaded is not None
            layer, new_rows = loaded or fit(session, seed, number, x, test_x, is_below)
            train_stages = jitted_stages(layer, x)
            if seed == config.seeds[0] and not checkpoint.is_whole(run.arrays(number)):
                arrays = snapshots.layer_arrays(
                    layer, train_stages, jax.device_get(session.train.labels), session.num_classes
                )
                checkpoint.save_arrays(run.arrays(number), arrays)
            x, test_x = train_stages.nonlinear, jitted_stages(layer, test_x).nonlinear
            jax.block_until_ready((x, test_x))
        seconds = time.perf_counter() - start
        run.log(new_rows)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        timing = {"seed": seed, "layer": number, "seconds": seconds, "peak_rss_kib": peak}
        run.log_timing(timing | {"loaded": can_load})
        table.layer(number, new_rows, "loaded" if can_load else f"{seconds:.1f}")
        rows += new_rows
        is_below = any(row.get("below_floor") for row in new_rows)
    return rows


def fit(
    session: Session, seed: int, number: int, x: jax.Array, test_x: jax.Array, is_below: bool
) -> tuple[Any, list[Row]]:
    """Fits and measures one layer and saves it; is_below says that its input is below the float floor."""
    config, train, test = session.config, session.train, session.test
    layer, diagnostics = fit_deep_rfm_layer_with_diagnostics(
        layer_key(seed, number),
        x,
        train.targets,
        kernel=KERNELS[config.kernel](config.bandwidth),
        ridge=config.ridge,
        sample_features=sampler(config),
        num_iters=config.num_iters,
        solver=SOLVERS[config.solver],
        where=f"layer {number} of {config.depth}",
    )
    train_stages = jitted_stages(layer, x)
    logits = layers.fitted_values(layer, train.targets, config.ridge)
    values = layers.measure_train(train_stages, train.labels, logits, session.num_classes)
    test_stages = jitted_stages(layer, test_x)
    test_logits = layers.predict(layer, test_stages.input)
    held_out = layers.measure_test(
        test_stages, train_stages, test.labels, train.labels, test_logits, session.num_classes
    )
    values = layers.joined(values, held_out, {layers.MACHINE: layers.diagnostic_values(diagnostics)})
    reason = floor.floor_reason(values[layers.MACHINE]["within_class_rounding"], diagnostics, x.dtype)
    if reason and config.on_floor == "stop":
        raise floor.floor_error(number, config.depth, reason, x.dtype)
    if reason and not is_below:
        session.table.say(f"below the floor of {x.dtype} from here on (marked ~): {reason}")
    rows = layers.to_rows(seed, number, values, floor.stages_below(is_below, bool(reason)))
    to_lines(rows)  # raises before anything that cannot be recorded is kept
    checkpoint.save_arrays(session.run.checkpoint(seed, number), layers.layer_to_arrays(layer, rows))
    return layer, rows


def load(session: Session, seed: int, number: int, x: jax.Array) -> tuple[Any, list[Row]] | None:
    """Returns a finished layer and its rows, or None if it has to be fitted."""
    path = session.run.checkpoint(seed, number)
    if not path.exists():
        return None
    try:
        arrays = checkpoint.load_arrays(path)
    except checkpoint.CheckpointError as error:
        session.table.say(f"{error}; fitting layers {number} to {session.config.depth} of seed {seed} again")
        return None
    drawn = sampler(session.config)(layer_key(seed, number), x.shape[1])
    kernel = KERNELS[session.config.kernel](session.config.bandwidth)
    return layers.layer_from_arrays(arrays, kernel, unit_rows(x), drawn)


jitted_stages = jax.jit(stages)


def layer_key(seed: int, number: int) -> jax.Array:
    """Returns the key of a layer counted from 1, the one that fit_deep_rfm uses."""
    return jax.random.fold_in(jax.random.key(seed), number - 1)


def sampler(config: Config) -> FeatureSampler:
    """Returns the sampler of the configured feature map."""
    if config.feature_map == "relu":
        return partial(features.relu_features, width=config.width)
    sample = getattr(features, f"{config.feature_map}_features")
    return partial(sample, width=config.width, bandwidth=config.feature_bandwidth)


def recorded(config: Config, prepared: Prepared) -> dict[str, Any]:
    """Returns what decides the numbers of a run, with sizes as they were resolved."""
    options = {k: v for k, v in dataclasses.asdict(config).items() if k not in UNRECORDED}
    return (
        {"command": "deep_rfm"}
        | options
        | {
            "seeds": list(config.seeds),
            "num_train": len(prepared.train.labels),
            "num_test": len(prepared.test.labels),
            "num_classes": prepared.num_classes,
            "image_shape": list(prepared.image_shape),
        }
    )


if __name__ == "__main__":
    sys.exit(command.run(partial(main, command.parse(Config, PRESETS, sys.argv[1:]))))
