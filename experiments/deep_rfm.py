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
import numpy as np
import tyro
from jax.sharding import Mesh

from dnc_jax import DeepRFMLayer, Gaussian, Laplace, unit_rows
from dnc_jax.cost import LayerMethod
from dnc_jax.deep_rfm import fit_deep_rfm_layer_with_diagnostics
from dnc_jax.matrix_free import ConjugateGradients, Keep
from dnc_jax.solvers import Solver
from dnc_jax.types import FeatureSampler
from experiments.support import command, data, devices, estimate, floor, hosts, layers, options, sizes
from experiments.support.console import LayerTable
from experiments.support.feature_maps import FeatureName, sampler_of
from experiments.support.layer_files import LayerFiles, open_files
from experiments.support.preprocess import Prepared, check_solvable, prepare
from experiments.support.records import Row, to_lines
from experiments.support.solving import SolverName, solver_of
from experiments.support.story import closing_line

KERNELS = {"laplace": Laplace, "gaussian": Gaussian}
# Options that change where or how a run goes, but no number of it.
SHARED = ("resume", "devices", "dry_run", "on_floor")
UNRECORDED = (*SHARED, "preset", "workdir", "data_dir", *hosts.OPTIONS)


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
    precision: devices.LayerPrecision = "float64"
    """float32 reaches its floor after some layers, see --on-floor; mixed: float64, products in float32"""
    on_floor: floor.OnFloor = "stop"
    """at the first layer below the float floor: stop, or warn and mark every affected number"""
    solver: SolverName = "cholesky"
    """eigh computes the condition number, ten times slower; cg, conjugate gradients, keeps no whole matrix"""
    cg_tolerance: float | None = None
    """largest residual of an output relative to its targets; None is 1e-12"""
    cg_rank: int | None = None
    """pivots of the preconditioner, a partial Cholesky factor; None is 512"""
    cg_keep: Keep | None = None
    """of half of the kernel matrix: its precision, or nothing and compute it again; None is float64"""
    agop_size: int | None = None
    """training points whose gradients enter each AGOP, drawn for each layer; None takes all"""
    devices: int | None = None
    """devices that share the rows of the data; None takes all visible ones"""
    distributed: bool = False
    """this process is one of several, started alike, that share the run; only the first prints and writes"""
    coordinator: str | None = None
    """host:port of the first process; None, as in the next two, asks the scheduler that started this one"""
    num_processes: int | None = None
    """processes that share the run"""
    process_id: int | None = None
    """number of this process, from 0"""
    data_dir: Path | None = None
    """folder of original files or of prepared TFDS datasets"""
    workdir: Path | None = None
    """folder of the records; None is runs/deep_rfm-<dataset>-<hash of the options>"""
    resume: bool = True
    """continue what the workdir holds; --no-resume removes it and starts over"""
    dry_run: bool = False
    """print the resolved options with an estimate of memory and time, and stop"""


# The other values of the paper are the defaults.
PRESETS = {
    "paper": Config(preset="paper", dataset="cifar10", num_train=50_000, own_statistics=True, depth=20),
}


@dataclasses.dataclass(frozen=True)
class Session:
    """Everything that the layers of a run share."""

    config: Config
    files: LayerFiles
    table: LayerTable
    train: layers.Points
    test: layers.Points
    labels: np.ndarray
    solver: Solver | ConjugateGradients
    sample_features: FeatureSampler
    mesh: Mesh


@hosts.together()
def main(config: Config) -> Path | None:
    """Runs the experiment and returns the folder of its records, or None for a dry run."""
    options.check_sizes(depth=config.depth, width=config.width, num_iters=config.num_iters)
    options.check_positive(bandwidth=config.bandwidth, feature_bandwidth=config.feature_bandwidth)
    options.check_ridge(config.ridge)
    of_cg = {"tolerance": config.cg_tolerance, "rank": config.cg_rank, "keep": config.cg_keep}
    mixed = config.precision == "mixed"
    solver = solver_of(config.solver, config.ridge, mixed=mixed, **of_cg)
    sample_features = sampler_of(config.feature_map, config.width, config.feature_bandwidth)
    options.check_seeds(config.seeds)
    hosts.start(config.distributed, config.coordinator, config.num_processes, config.process_id)
    dtype = devices.set_precision(config.precision)
    needs_files = sizes.needs_files(config.dataset, config.data_dir)
    prepared = None if config.dry_run and needs_files else hosts.agreed(partial(read, config))
    size = sizes.of_prepared(prepared) if prepared else sizes.of_catalog(config)
    options.check_agop_size(config.agop_size, size.num_train)
    mesh = devices.make_mesh(config.devices, size.num_train)
    settings = recorded(config, size, prepared)
    hosts.check_same(settings | {name: getattr(config, name) for name in SHARED})
    workdir = config.workdir or Path("runs") / command.run_name("deep_rfm", config.dataset, settings)
    places = {"source": prepared.source, "workdir": workdir} if prepared else {"source": "not read"}
    table = LayerTable(config.depth)
    table.settings("deep_rfm", settings | places)
    num_runs, free = len(config.seeds) * (1 + floor.has_twin(dtype)), devices.free_bytes(mesh)
    method = LayerMethod(solver, config.agop_size, config.num_iters, mesh.size, mixed)
    plan = partial(estimate.cost, is_deep=True, num_in_one=devices.num_in_one_memory(mesh))
    table.say(planned := plan(size.first_layer(config.width), config.depth, num_runs, dtype, free, method))
    if config.dry_run or prepared is None:
        return None
    environment = devices.describe(mesh) | {"data_source": prepared.source}
    files = hosts.agreed(partial(open_files, workdir, settings, environment, resume=config.resume))
    train = layers.place(prepared.train, partial(devices.shard_rows, mesh), dtype)
    test = layers.place(prepared.test, partial(devices.replicate, mesh), dtype)
    session = Session(config, files, table, train, test, prepared.train.labels, solver, sample_features, mesh)
    with command.resumable(workdir, "experiments.deep_rfm"), files.figures(), estimate.compared(planned):
        rows = [row for seed in config.seeds for row in run_seed(session, seed)]
    table.say(closing_line(rows, workdir))
    return workdir


def read(config: Config) -> Prepared:
    """Returns the data of the run; raises DataError if it cannot be had or trained on."""
    prepared = prepare(
        data.load(config.dataset, data_dir=config.data_dir),
        num_train=config.num_train,
        num_test=config.num_test,
        seed=config.data_seed,
        label_noise=config.label_noise,
        own_statistics=config.own_statistics,
    )
    check_solvable(prepared.train, config.ridge)
    return prepared


def run_seed(session: Session, seed: int) -> list[Row]:
    """Fits or loads, measures and records every layer of one seed; returns all rows."""
    config, table = session.config, session.table
    inputs = floor.with_twin(session.train.x, session.test.x)
    table.header(seed)
    rows: list[Row] = []
    can_load, is_below = config.resume, False
    for number in range(1, config.depth + 1):
        start = time.perf_counter()
        with table.working(seed, number):
            loaded = load(session, seed, number, inputs) if can_load else None
            can_load = loaded is not None
            fitted, new_rows = loaded or fit(session, seed, number, inputs, is_below)
            if seed == config.seeds[0]:
                session.files.save_shown(seed, number, fitted[0], inputs[0][0], session.labels)
            inputs = [
                (layers.jitted_stages(layer, x).nonlinear, layers.jitted_stages(layer, test_x).nonlinear)
                for layer, (x, test_x) in zip(fitted, inputs, strict=True)
            ]
            jax.block_until_ready(inputs)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        timing = {"seed": seed, "layer": number, "seconds": seconds, "peak_rss_kib": peak}
        session.files.log(new_rows, timing | {"loaded": can_load})
        table.layer(number, new_rows, "loaded" if can_load else f"{seconds:.1f}")
        rows += new_rows
        is_below = any(row.get("below_floor") for row in new_rows)
    return rows


def fit(
    session: Session, seed: int, number: int, inputs: list[layers.Pair], is_below: bool
) -> tuple[list[DeepRFMLayer], list[Row]]:
    """Fits, measures and saves one layer, and its twin; is_below says that its input is below the floor."""
    (layer, values, reason), *twins = (fit_one(session, seed, number, *pair) for pair in inputs)
    dtype = session.train.x.dtype
    reason = reason or floor.spread_reason(values, [twin_values for _, twin_values, _ in twins], dtype)
    if reason and session.config.on_floor == "stop":
        raise floor.floor_error(number, session.config.depth, reason, dtype)
    if reason and not is_below:
        session.table.say(f"below the floor of {dtype} from here on (marked ~): {reason}")
    rows = layers.to_rows(seed, number, values, floor.stages_below(is_below, bool(reason)))
    to_lines(rows)  # raises before anything that cannot be recorded is kept
    fitted = [layer, *(twin for twin, _, _ in twins)]
    session.files.save(seed, number, fitted, rows)
    return fitted, rows


def fit_one(
    session: Session, seed: int, number: int, x: jax.Array, test_x: jax.Array
) -> tuple[DeepRFMLayer, dict[str, dict[str, float]], str | None]:
    """Returns a fitted layer, what is measured of it, and why it lies below the float floor, if it does."""
    config, train = session.config, session.train
    layer, diagnostics = fit_deep_rfm_layer_with_diagnostics(
        layers.layer_key(seed, number),
        x,
        train.targets,
        kernel=KERNELS[config.kernel](config.bandwidth),
        ridge=config.ridge,
        sample_features=session.sample_features,
        num_iters=config.num_iters,
        solver=session.solver,
        agop_size=config.agop_size,
        # The compiler divides what other solvers do.
        mesh=session.mesh if config.solver == "cg" else None,
        mixed=config.precision == "mixed",
        where=f"layer {number} of {config.depth}",
    )
    received = dataclasses.replace(train, x=x), dataclasses.replace(session.test, x=test_x)
    values = layers.measure(layer, diagnostics, received[0], received[1], config.ridge)
    reason = floor.floor_reason(values[layers.MACHINE]["within_class_rounding"], diagnostics, x.dtype)
    return layer, values, reason


def load(
    session: Session, seed: int, number: int, inputs: list[layers.Pair]
) -> tuple[list[DeepRFMLayer], list[Row]] | None:
    """Returns a finished layer, its twin and its rows, or None if it has to be fitted."""
    arrays = session.files.load(seed, number)
    if arrays is None:
        return None
    drawn = session.sample_features(layers.layer_key(seed, number), inputs[0][0].shape[1])
    kernel = KERNELS[session.config.kernel](session.config.bandwidth)
    put = partial(devices.replicate, session.mesh)
    fitted, rows = layers.layers_from_arrays(arrays, kernel, [unit_rows(x) for x, _ in inputs], drawn, put)
    if session.config.on_floor == "stop" and any(row.get("below_floor") for row in rows):
        raise floor.floor_error(number, session.config.depth, "as recorded", session.train.x.dtype)
    return fitted, rows


def recorded(config: Config, size: sizes.RunSizes, prepared: Prepared | None) -> dict[str, Any]:
    """Returns what decides the numbers of a run, with sizes as they were resolved."""
    options = {k: v for k, v in dataclasses.asdict(config).items() if k not in UNRECORDED}
    found = {"seeds": list(config.seeds), **size._asdict(), "image_shape": list(size.image_shape)}
    return {"command": "deep_rfm"} | options | found | {"data_sha256": prepared and prepared.sha256}


if __name__ == "__main__":
    sys.exit(hosts.leave(command.run(partial(main, command.parse(Config, PRESETS, sys.argv[1:])))))
