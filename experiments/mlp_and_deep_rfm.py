"""A trained MLP and a Deep RFM on the same images: both collapse, layer by layer, side by side.

    python -m experiments.mlp_and_deep_rfm --dataset=fashion_mnist_mini

Trains the MLP by `experiments.train_network` and fits the Deep RFM, without any backpropagation, by
`experiments.deep_rfm`, on the same subset, and draws NC1 and NC2 of both at the three stages of every layer,
with their accuracies. Every other option of the two keeps its default there.
"""

import dataclasses
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tyro

from experiments import deep_rfm, train_network
from experiments.support import command, data, options
from experiments.support.console import say
from experiments.support.plotting.both_figure import Collapse, draw_both, read_collapse
from experiments.support.records import open_run

# Options that change where or how a run goes, but no number of it.
UNRECORDED = ("preset", "workdir", "data_dir", "resume", "dry_run")
TITLES = {"mlp": "trained MLP", "deep_rfm": "Deep RFM"}


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of the run."""

    preset: tyro.conf.Suppress[Literal["default"]] = "default"
    dataset: Annotated[str, tyro.conf.arg(metavar="{" + ",".join(get_args(data.Name)) + "}")] = (
        "fashion_mnist_mini"
    )
    """images to learn"""
    num_train: int | None = 1000
    """training images, stratified by class; None takes the whole split"""
    num_test: int | None = None
    """held-out images; None takes up to 1000"""
    data_seed: int = 0
    """draws the subsets; the same for all seeds"""
    seeds: tuple[int, ...] = (0, 1, 2)
    """one run of each per seed"""
    mlp_depth: int = 5
    """hidden layers of the MLP"""
    mlp_width: int = 512
    """units of a hidden layer"""
    mlp_init_gain: float = 0.1
    """factor of the Xavier-uniform initialization"""
    mlp_learning_rate: float = 1e-4
    """step size of Adam"""
    mlp_epochs: int = 300
    """passes over the training images"""
    rfm_depth: int = 5
    """layers of the Deep RFM"""
    rfm_width: int = 1024
    """random features of a layer"""
    rfm_bandwidth: float = 2.0
    """of the Laplace kernel"""
    rfm_ridge: float = 1e-3
    """added to the diagonal of the kernel matrix"""
    data_dir: Path | None = None
    """folder of original files or of prepared TFDS datasets"""
    workdir: Path | None = None
    """folder of the records; None is runs/mlp_and_deep_rfm-<dataset>-<hash of the options>"""
    resume: bool = True
    """continue what the workdir holds; --no-resume removes it and starts over"""
    dry_run: bool = False
    """print the resolved options of both, and stop"""


def main(config: Config) -> Path | None:
    """Runs the experiment and returns the folder of its records, or None for a dry run."""
    check_options(config)
    chosen = {name: value for name, value in dataclasses.asdict(config).items() if name not in UNRECORDED}
    settings = {"command": "mlp_and_deep_rfm"} | chosen | {"seeds": list(config.seeds)}
    workdir = config.workdir or Path("runs") / command.run_name("mlp_and_deep_rfm", config.dataset, settings)
    mlp, rfm = mlp_config(config, workdir / "mlp"), rfm_config(config, workdir / "deep_rfm")
    if config.dry_run:
        train_network.main(mlp)
        deep_rfm.main(rfm)
        return None
    run = open_run(workdir, settings, {"runs": list(TITLES)}, config.resume)
    with command.resumable(workdir, "experiments.mlp_and_deep_rfm"):
        train_network.main(mlp)
        deep_rfm.main(rfm)
    found = {name: read_collapse(workdir / name) for name in TITLES}
    for name, collapse in found.items():
        run.log({"run": name} | row for row in collapse.rows)
    draw_both(workdir / "figures", {TITLES[name]: collapse for name, collapse in found.items()})
    say("\n" + "\n".join(line(TITLES[name], collapse) for name, collapse in found.items()))
    say(f"Records and figures are in {workdir}")
    return workdir


def check_options(config: Config) -> None:
    """Raises ValueError, naming the flag, for an option that one of the two cannot use."""
    sizes = ("mlp_depth", "mlp_width", "mlp_epochs", "rfm_depth", "rfm_width")
    options.check_sizes(**{name: getattr(config, name) for name in sizes})
    numbers = ("mlp_init_gain", "mlp_learning_rate", "rfm_bandwidth")
    options.check_positive(**{name: getattr(config, name) for name in numbers})
    options.check_ridge(config.rfm_ridge, "rfm_ridge")
    options.check_seeds(config.seeds)


def line(title: str, collapse: Collapse) -> str:
    """Returns accuracies, and from where to where NC1 fell over the layers."""
    first, last = collapse.mean("nc1", collapse.layers[0], "input"), collapse.nc1_after_last_layer()
    return (
        f"{title:<12} training accuracy {collapse.accuracy('train_accuracy'):.1%}, held-out "
        f"{collapse.accuracy('test_accuracy'):.1%}; NC1 from {first:.3g} to {last:.3g} over "
        f"{len(collapse.layers)} layers"
    )


def mlp_config(config: Config, workdir: Path) -> train_network.Config:
    """Returns the options of the MLP's training."""
    return train_network.Config(
        **shared(config),
        depth=config.mlp_depth,
        width=config.mlp_width,
        init_gain=config.mlp_init_gain,
        learning_rate=config.mlp_learning_rate,
        epochs=config.mlp_epochs,
        measure_every=config.mlp_epochs,
        workdir=workdir,
    )


def rfm_config(config: Config, workdir: Path) -> deep_rfm.Config:
    """Returns the options of the Deep RFM."""
    return deep_rfm.Config(
        **shared(config),
        depth=config.rfm_depth,
        width=config.rfm_width,
        bandwidth=config.rfm_bandwidth,
        ridge=config.rfm_ridge,
        devices=1,
        workdir=workdir,
    )


def shared(config: Config) -> dict[str, Any]:
    """Returns the options that both have."""
    names = ("dataset", "num_train", "num_test", "data_seed", "seeds", "data_dir", "resume", "dry_run")
    return {name: getattr(config, name) for name in names}


if __name__ == "__main__":
    sys.exit(command.run(partial(main, command.parse(Config, {}, sys.argv[1:]))))
