"""Recursive feature machines on tasks whose features are known: does M find them, and does it help?

    python -m experiments.rfm --task=low_rank
    python -m experiments.rfm --task=modular_addition --kernel=quadratic

Iteration 0 is the plain kernel (M = I); every later one takes M from the AGOP of the one before. Errors on
training and on held-out points, and how M looks at the true directions, are measured at each. tutorial and
low_rank are published tasks with published values (Radhakrishnan, Beaglehole, Pandit and Belkin, Science
2024); polynomial, multi_index and parity are tasks of this project in growing rank and degree; modular_* is
the grokking protocol of Mallinar and others (ICML 2025). Options that are not given take the values of the
task. Run again in the same workdir to continue.
"""

import dataclasses
import sys
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp
import tyro

from dnc_jax.cost import LayerSize
from experiments.support import command, devices, estimate, rfm_options
from experiments.support.console import say_settings
from experiments.support.plotting import rfm_figures
from experiments.support.records import open_run
from experiments.support.rfm_options import Settings, TaskName
from experiments.support.rfm_runs import Session, run_cell
from experiments.support.rfm_table import IterationTable, closing_lines

# Options that are no option of a task.
OF_RUN = ("preset", "task", "precision", "workdir", "resume", "dry_run")


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of the run; None takes the value of the task, and what the task does not have is refused."""

    preset: tyro.conf.Suppress[Literal["default"]] = "default"
    task: TaskName = "low_rank"
    """what is learned"""
    num_train: int | None = None
    """training points; half of all pairs in modular arithmetic"""
    num_test: int | None = None
    """held-out points; in modular arithmetic those are all other pairs"""
    dim: int | None = None
    """coordinates of a point"""
    ranks: tuple[int, ...] | None = None
    """of polynomial and multi_index: numbers of true directions, one target for each"""
    degrees: tuple[int, ...] | None = None
    """of polynomial and parity: degrees, one target for each"""
    prime: int | None = None
    """of modular arithmetic: the modulus"""
    features: Literal["learned", "random_circulant"] | None = None
    """of modular arithmetic: random_circulant takes a random block-circulant M once, and learns none"""
    num_iters: int | None = None
    """updates of M after the plain kernel"""
    kernel: Literal["laplace", "gaussian", "quadratic"] | None = None
    """quadratic is (x M z)^2"""
    bandwidth: float | None = None
    """bandwidth of the kernel; quadratic has none"""
    ridge: float | None = None
    """added to the diagonal of the kernel matrix"""
    gradients: Literal["raw", "centered"] | None = None
    """centered subtracts the mean gradient of each output before the outer product"""
    power: float | None = None
    """M is the AGOP to this power"""
    rescale: Literal["none", "max", "trace"] | None = None
    """what M is divided by after each update; none keeps the mean over points"""
    seeds: tuple[int, ...] | None = None
    """one draw of points and directions, or one split of the pairs, per seed"""
    precision: devices.Precision = "float64"
    """of the fits and of what is measured"""
    workdir: Path | None = None
    """folder of the records; None is runs/rfm-<task>-<hash of the options>"""
    resume: bool = True
    """continue what the workdir holds, after its last whole seed; --no-resume removes it and starts over"""
    dry_run: bool = False
    """print the resolved options with an estimate of memory and time, and stop"""


def main(config: Config) -> Path | None:
    """Runs the experiment and returns the folder of its records, or None for a dry run."""
    given = {n: v for n, v in dataclasses.asdict(config).items() if n not in OF_RUN}
    settings = rfm_options.resolved(config.task, given)
    dtype = devices.set_precision(config.precision)
    recorded = record(config, settings)
    workdir = config.workdir or Path("runs") / command.run_name("rfm", config.task, recorded)
    table, mesh = IterationTable(config.task), devices.make_mesh(1, settings["num_train"])
    say_settings("rfm", recorded | {"workdir": workdir})
    table.say(cost(settings, dtype, devices.free_bytes(mesh)))
    if config.dry_run:
        return None
    run = open_run(workdir, recorded, devices.describe(mesh), config.resume)
    session = Session(config.task, settings, run, table, dtype, config.resume)
    with command.resumable(workdir, "experiments.rfm"):
        rows = [
            row
            for seed in settings["seeds"]
            for cell in rfm_options.cells(settings)
            for row in run_cell(session, seed, cell)
        ]
    rfm_figures.draw_figures(workdir)
    table.say(closing_lines(config.task, settings, rows, workdir))
    return workdir


def record(config: Config, settings: Settings) -> dict[str, Any]:
    """Returns what decides the numbers of a run."""
    known = {name: list(v) if isinstance(v, tuple) else v for name, v in settings.items()}
    return {"command": "rfm", "task": config.task} | known | {"precision": config.precision}


def cost(settings: Settings, dtype: jnp.dtype, free: int) -> str:
    """Returns two lines on the memory and the time of the run.

    Raises:
        MemoryEstimateError: If more memory is needed than is free.
    """
    prime = settings.get("prime", 0)
    num_test = settings.get("num_test", prime**2 - settings["num_train"])
    in_dim = settings.get("dim", 2 * prime)
    size = LayerSize(settings["num_train"], num_test, in_dim, in_dim, prime or 1)
    num_runs = len(settings["seeds"]) * len(rfm_options.cells(settings))
    return estimate.cost(size, rfm_options.num_updates(settings) + 1, num_runs, dtype, free)


if __name__ == "__main__":
    sys.exit(command.run(partial(main, command.parse(Config, {}, sys.argv[1:]))))
