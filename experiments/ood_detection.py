"""Can images of another dataset be told by the features of a collapsed network?

    python -m experiments.ood_detection --dataset=fashion_mnist_mini --ood-dataset=mnist_5k

Trains a network on one set and scores its held-out images against those of the other by what the classifier
receives: NECO (the share of a feature inside the simplex; of the feature itself as the paper defines it, or
centered as its code computes it), the distance to the nearest corner of the
simplex, and, as baselines, the largest softmax probability and the energy of the logits. AUROC, and the false
positives where 95% of the known images pass.
"""

import dataclasses
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from sklearn.metrics import roc_auc_score, roc_curve

from dnc_jax import (
    centered_neco_score,
    class_stats,
    nc5,
    neco_score,
    principal_directions,
    simplex_distance_score,
)
from experiments import train_network
from experiments.support import command, data, devices, sizes
from experiments.support.console import say
from experiments.support.network_models import trained_network
from experiments.support.plotting.ood_figure import draw_scores
from experiments.support.records import Row, open_run
from experiments.support.variants import narrowed

# How each score is named in records and in figures.
SCORES = {
    "neco": "NECO",
    "centered_neco": "NECO, centered",
    "simplex_distance": "distance to the simplex",
    "max_softmax": "maximum softmax",
    "energy": "energy",
}
PASSING = 0.95


@dataclasses.dataclass(frozen=True)
class Config(train_network.Config):
    """Options of the run; those of a training hold for the network that scores."""

    preset: tyro.conf.Suppress[Literal["default"]] = "default"
    held_out: tyro.conf.Suppress[bool] = True
    ood_dataset: Annotated[str, tyro.conf.arg(metavar="{" + ",".join(get_args(data.Name)) + "}")] = "mnist_5k"
    """images of classes that the network has not seen"""
    ood_data_dir: Path | None = None
    """folder of original files of that dataset"""
    num_ood: int = 1000
    """images of that dataset"""
    loss: Literal["squared", "cross_entropy"] = "cross_entropy"
    """squared error on targets in {-1, +1}, or cross-entropy"""
    init_gain: float = 1.0
    """factor of the Xavier-uniform initialization of dense layers"""
    learning_rate: float = 3e-4
    """step size of the optimizer"""
    epochs: int = 60
    """passes over the training images"""


def main(config: Config) -> Path | None:
    """Runs the experiment and returns the folder of its records, or None for a dry run."""
    check_options(config)
    dtype = devices.set_precision(config.precision)
    own = {"ood_dataset": config.ood_dataset, "num_ood": config.num_ood}
    settings = {"command": "ood_detection"} | train_network.options_of(config) | own
    workdir = config.workdir or Path("runs") / command.run_name("ood_detection", config.dataset, settings)
    training = narrowed(config, train_network.Config, workdir=workdir / "training")
    if config.dry_run:
        return train_network.main(training)
    prepared = train_network.read(training)
    foreign = data.load(config.ood_dataset, data_dir=config.ood_data_dir)
    unknown = jnp.asarray(prepared.standardized(foreign, config.num_ood), dtype)
    run = open_run(
        workdir, settings, {"data_source": prepared.source, "ood_source": foreign.source}, config.resume
    )
    with command.resumable(workdir, "experiments.ood_detection"):
        train_network.main(training)
    known, train_x = (jnp.asarray(part.inputs, dtype) for part in (prepared.test, prepared.train))
    rows, shown, size = [], {}, sizes.of_prepared(prepared)
    for seed in config.seeds:
        trained = trained_network(training, workdir / "training", seed, size)
        features = [trained.features(x) for x in (train_x, known, unknown)]
        labels = jnp.asarray(prepared.train.labels)
        scores, mean_cosine = score(features, labels, prepared.num_classes, trained.head)
        rows += [*to_rows(seed, scores), {"seed": seed, "metric": "nc5", "value": mean_cosine}]
        shown = shown or scores
    run.log(rows)
    draw_scores(workdir / "figures", SCORES, shown, rows, (config.dataset, config.ood_dataset))
    say(table(rows))
    say(f"Records and figures are in {workdir}")
    return workdir


def score(
    features: list[jax.Array], labels: jax.Array, num_classes: int, head: Callable[[jax.Array], jax.Array]
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], float]:
    """Returns every score of the known and of the unknown points, larger for the known, and NC5.

    Features are those of training points, known points and unknown ones.
    """
    train, *both = features
    directions, center = principal_directions(train, num_classes - 1), jnp.mean(train, axis=0)
    stats = class_stats(train, labels, num_classes)
    functions = {
        "neco": lambda x: neco_score(x, directions),
        "centered_neco": lambda x: centered_neco_score(x, directions, center),
        "simplex_distance": lambda x: -simplex_distance_score(x, stats),
        "max_softmax": lambda x: jnp.max(jax.nn.softmax(head(x), axis=1), axis=1),
        "energy": lambda x: jax.nn.logsumexp(head(x), axis=1),
    }
    scores = {}
    for name, fn in functions.items():
        known, unknown = (np.asarray(fn(x), np.float64) for x in both)
        scores[name] = known, unknown
    return scores, float(nc5(stats, both[1]))


def to_rows(seed: int, scores: dict[str, tuple[np.ndarray, np.ndarray]]) -> list[Row]:
    """Returns AUROC and the false positives at 95% true positives of every score."""
    rows = []
    for name, (known, unknown) in scores.items():
        is_known = np.repeat([1, 0], [len(known), len(unknown)])
        values = np.concatenate([known, unknown])
        false, true, _ = roc_curve(is_known, values)
        fpr = float(false[np.flatnonzero(true >= PASSING)[0]])
        rows += [
            {"seed": seed, "score": name, "metric": "auroc", "value": float(roc_auc_score(is_known, values))},
            {"seed": seed, "score": name, "metric": "fpr_at_95_tpr", "value": fpr},
        ]
    return rows


def table(rows: list[Row]) -> str:
    """Returns the means over seeds as lines of text."""
    seeds = len({row["seed"] for row in rows})
    lines = [f"\nmean of {seeds} seed{'s' * (seeds > 1)}     AUROC   FPR at 95% TPR"]
    for name, title in SCORES.items():
        auroc, fpr = (
            np.mean([r["value"] for r in rows if r.get("score") == name and r["metric"] == metric])
            for metric in ("auroc", "fpr_at_95_tpr")
        )
        lines.append(f"{title:<24} {auroc:.3f}   {fpr:.3f}")
    cosine = np.mean([row["value"] for row in rows if row["metric"] == "nc5"])
    return "\n".join(
        [*lines, f"NC5, mean |cosine| of class means and the mean of unknown features: {cosine:.3f}"]
    )


def check_options(config: Config) -> None:
    """Raises ValueError, naming the flag, for an option that no run can use."""
    if config.ood_dataset == config.dataset:
        raise ValueError(f"--ood-dataset must differ from --dataset: got {config.dataset} for both")
    if config.num_ood < 1:
        raise ValueError(f"--num-ood must be at least 1: got {config.num_ood}")
    train_network.check_options(config)


if __name__ == "__main__":
    sys.exit(command.run(partial(main, command.parse(Config, {}, sys.argv[1:]))))
