"""A classifier that is a fixed simplex against one that is learned: accuracy and collapse through training.

    python -m experiments.etf_head

Collapse makes the classifier a simplex; so let it be one from the start, turned at random and never changed
(Zhu et al. 2021, Sect. 4.3). Both networks start from the same weights below the head and see the same
batches.
"""

import dataclasses
import sys
from functools import partial
from pathlib import Path
from typing import Literal

import tyro

from experiments import train_network
from experiments.support import command, sizes
from experiments.support.console import say
from experiments.support.network_models import HeadName
from experiments.support.plotting.training_drawing import Records
from experiments.support.plotting.variant_figures import draw_variants
from experiments.support.variants import last_epoch, log_ends, mean_at, narrowed, run_variants

HEADS: dict[HeadName, str] = {"learned": "learned head", "etf": "fixed simplex head"}
METRICS = ("train_accuracy", "test_accuracy", "nc1", "nc2", "nc3", "nc4")


@dataclasses.dataclass(frozen=True)
class Config(train_network.Config):
    """Options of the run; those of a training hold for both heads."""

    preset: tyro.conf.Suppress[Literal["default"]] = "default"
    head: tyro.conf.Suppress[HeadName] = "learned"
    init_gain: float = 1.0
    """factor of the Xavier-uniform initialization of dense layers"""
    learning_rate: float = 3e-4
    """step size of the optimizer"""
    epochs: int = 60
    """passes over the training images"""
    seeds: tuple[int, ...] = (0,)
    """one run of all epochs per seed of the weights and of the order of images"""


def main(config: Config) -> Path | None:
    """Runs the experiment and returns the folder of its records, or None for a dry run."""
    check_fixed_head(config)
    trainings = {head: partial(train, config, head) for head in HEADS}
    done = run_variants("etf_head", config, train_network.options_of(config), trainings)
    if done is None:
        return None
    run, records = done
    headline = "A fixed simplex head against a learned one"
    draw_variants(run.workdir / "figures", "etf_head", headline, records, list(HEADS.values()))
    for head, found in records.items():
        log_ends(run, head, found, METRICS)
    say(comparison(records["learned"], records["etf"]))
    say(f"Records and figures are in {run.workdir}")
    return run.workdir


def check_fixed_head(config: Config) -> None:
    """Raises ValueError before anything is trained if the second head cannot be."""
    train_network.check_options(config)
    if not sizes.needs_files(config.dataset, config.data_dir):
        fixed = narrowed(config, train_network.Config, head="etf")
        train_network.check_against(fixed, sizes.of_prepared(train_network.read(fixed)))


def train(config: Config, head: HeadName, workdir: Path) -> Path | None:
    """Returns the folder of the records of the training with one kind of head."""
    say(f"\n{HEADS[head]}")
    return train_network.main(narrowed(config, train_network.Config, head=head, workdir=workdir))


def comparison(learned: Records, fixed: Records) -> str:
    """Returns both heads' metrics after the last epoch, and by how much accuracies differ."""
    last, lines = last_epoch(learned), [f"\nafter {last_epoch(learned)} epochs:  learned -> fixed simplex"]
    for metric in METRICS:
        a, b = (mean_at(records, metric, last) for records in (learned, fixed))
        if a is None or b is None:
            continue
        if metric.endswith("accuracy"):
            lines.append(f"  {metric:<14}  {a:.2%} -> {b:.2%}, {100 * (b - a):+.2f} points")
        else:
            lines.append(f"  {metric:<14}  {a:.3g} -> {b:.3g}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(command.run(partial(main, command.parse(Config, {}, sys.argv[1:]))))
