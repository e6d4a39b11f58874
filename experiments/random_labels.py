"""Does a network collapse on labels that mean nothing? One training for each fraction of permuted labels.

    python -m experiments.random_labels --fractions 0 0.5 1

NC1 to NC4 at the input of the classifier, and accuracy, by epoch; a training counts as collapsed only where
all four fall: NC1 and NC4 to a tenth of their value before the first step, NC2 and NC3 to a half. With all
labels permuted among the images, classes share nothing that a held-out image could have.
"""

import dataclasses
import sys
from functools import partial
from pathlib import Path
from typing import Literal

import tyro

from experiments import train_network
from experiments.support import command
from experiments.support.console import say
from experiments.support.plotting.training_drawing import Records
from experiments.support.plotting.variant_figures import draw_variants
from experiments.support.variants import FALLEN, last_epoch, log_ends, mean_at, narrowed, run_variants


@dataclasses.dataclass(frozen=True)
class Config(train_network.Config):
    """Options of the run; those of a training hold for every fraction."""

    fractions: tuple[float, ...] = (0.0, 0.5, 1.0)
    """fractions of the training labels that are permuted among themselves"""
    preset: tyro.conf.Suppress[Literal["default"]] = "default"
    label_noise: tyro.conf.Suppress[float] = 0.0
    num_train: int | None = 2000
    """training images, stratified by class; None takes the whole split"""
    init_gain: float = 1.0
    """factor of the Xavier-uniform initialization of dense layers"""
    learning_rate: float = 3e-4
    """step size of the optimizer"""
    epochs: int = 150
    """passes over the training images"""
    seeds: tuple[int, ...] = (0,)
    """one run of all epochs per seed of the weights and of the order of images"""


def main(config: Config) -> Path | None:
    """Runs the experiment and returns the folder of its records, or None for a dry run."""
    check_fractions(config.fractions)
    trainings = {folder_of(fraction): partial(train, config, fraction) for fraction in config.fractions}
    settings = train_network.options_of(config) | {"fractions": list(config.fractions)}
    done = run_variants("random_labels", config, settings, trainings)
    if done is None:
        return None
    run, records = done
    labels = [f"{fraction:.0%} of labels permuted" for fraction in config.fractions]
    headline = "Collapse with permuted labels"
    draw_variants(run.workdir / "figures", "random_labels", headline, records, labels)
    for label, (folder, found) in zip(labels, records.items(), strict=True):
        log_ends(run, folder, found, ("train_accuracy", "test_accuracy", *FALLEN))
        say(verdict(label, found))
    say(f"Records and figures are in {run.workdir}")
    return run.workdir


def train(config: Config, fraction: float, workdir: Path) -> Path | None:
    """Returns the folder of the records of the training with one fraction of permuted labels."""
    say(f"\n{fraction:.0%} of the labels permuted")
    changes = {"label_noise": fraction, "workdir": workdir}
    return train_network.main(narrowed(config, train_network.Config, **changes))


def verdict(label: str, records: Records) -> str:
    """Returns what became of the four metrics, and whether that is collapse: all four must have fallen."""
    parts, missing, last = [], [], last_epoch(records)
    for metric, share in FALLEN.items():
        first, end = (mean_at(records, metric, epoch) for epoch in (0, last))
        if first is None or end is None:
            missing.append(f"{metric.upper()} is not known")
            continue
        parts.append(f"{metric.upper()} {first:.3g} -> {end:.3g}")
        if end > share * first:
            missing.append(f"{metric.upper()} has not fallen to {share:g} of its first value")
    accuracy = mean_at(records, "train_accuracy", last) or 0.0
    text = f"{label}: training accuracy {accuracy:.1%}; {', '.join(parts)}: "
    return text + (f"not collapsed, {'; '.join(missing)}" if missing else "collapsed")


def check_fractions(fractions: tuple[float, ...]) -> None:
    """Raises ValueError unless fractions are distinct numbers between 0 and 1."""
    if not fractions or len(set(fractions)) < len(fractions) or not all(0 <= f <= 1 for f in fractions):
        raise ValueError(f"--fractions must be distinct numbers from 0 to 1, at least one: got {fractions}")


def folder_of(fraction: float) -> str:
    """Returns the name of the folder of a fraction's records."""
    return f"permuted_{fraction:g}"


if __name__ == "__main__":
    sys.exit(command.run(partial(main, command.parse(Config, {}, sys.argv[1:]))))
