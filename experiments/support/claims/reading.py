"""What claims are read from: the runs that a check may ask for, and numbers in their records."""

from collections.abc import Sequence
from statistics import geometric_mean, mean
from typing import Literal, Protocol

from experiments.support.feature_maps import FeatureName
from experiments.support.records import Row

KernelName = Literal["laplace", "gaussian"]
Regime = Literal["small_start", "weight_decay"]


class Runs(Protocol):
    """Records of small runs, each made when it is first asked for."""

    @property
    def num_test(self) -> int:
        """The number of held-out images of a run."""
        ...

    @property
    def foreign(self) -> str:
        """The dataset of images that a network has not seen."""
        ...

    def deep_rfm(
        self, kernel: KernelName, feature_map: FeatureName, feature_bandwidth: float = 10.0, /
    ) -> list[Row]:
        """Returns those of a Deep RFM."""
        ...

    def mlp(self, regime: Regime, /) -> list[Row]:
        """Returns those of an MLP, trained from small weights, or from large ones with weight decay."""
        ...

    def random_labels(self) -> list[Row]:
        """Returns those of a network that was trained on permuted labels."""
        ...

    def etf_heads(self) -> dict[str, list[Row]]:
        """Returns those of networks with a learned head, and with a simplex for their head."""
        ...

    def low_rank(self) -> list[Row]:
        """Returns those of a recursive feature machine on a function of few directions."""
        ...

    def stars(self) -> list[Row]:
        """Returns those of a convolutional recursive feature machine on stars in noise."""
        ...

    def unknown_images(self) -> dict[str, list[Row]]:
        """Returns those of scores that tell foreign images, and those of the network that they are of."""
        ...


def values(rows: Sequence[Row], metric: str, **place: object) -> list[float]:
    """Returns the values of a metric at a place, all of them."""
    wanted = {"metric": metric, **place}
    return [row["value"] for row in rows if wanted.items() <= row.items()]


def at_end(rows: Sequence[Row]) -> list[Row]:
    """Returns the rows of the last epoch."""
    last = max(row["epoch"] for row in rows)
    return [row for row in rows if row["epoch"] == last]


def by_update(rows: Sequence[Row], metric: str) -> list[float]:
    """Returns the mean over seeds of a metric, of the plain kernel and after each update of M."""
    updates = sorted({row["iteration"] for row in rows})
    return [mean(values(rows, metric, iteration=at)) for at in updates]


def at_head(rows: Sequence[Row], metric: str) -> float:
    """Returns the mean over seeds of a metric at what the last layer of a network receives."""
    head = max(row["layer"] for row in rows if row["stage"] == "input")
    return mean(values(rows, metric, layer=head, stage="input"))


def accuracy(rows: Sequence[Row]) -> str:
    """Returns the share of training images that a network has right."""
    return f"{mean(values(rows, 'train_accuracy')):.1%} of training images right"


def by_layer(rows: Sequence[Row], metric: str, stage: str) -> list[float]:
    """Returns the mean over seeds of a metric at a stage, layer by layer; geometric for NC1."""
    average = geometric_mean if metric.startswith("nc1") else mean
    layers = sorted({row["layer"] for row in rows if row["metric"] == metric and row["stage"] == stage})
    return [average(values(rows, metric, stage=stage, layer=layer)) for layer in layers]
