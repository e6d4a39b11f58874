"""The runs that claims are read from: small ordinary runs of the experiments, each in a folder of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import geometric_mean, mean
from typing import Literal

from experiments import deep_rfm, etf_head, random_labels, rfm, train_network
from experiments.support.data import Name
from experiments.support.feature_maps import FeatureName
from experiments.support.records import Row, read_run

KernelName = Literal["laplace", "gaussian"]


@dataclass(frozen=True)
class Runs:
    """Runs on one dataset below one folder; each is made when it is first asked for, or continued."""

    folder: Path
    dataset: Name
    data_dir: Path | None
    num_train: int
    resume: bool

    @cache  # noqa: B019
    def deep_rfm(
        self, kernel: KernelName, feature_map: FeatureName, feature_bandwidth: float = 10.0
    ) -> list[Row]:
        """Returns the records of a Deep RFM."""
        name = f"deep_rfm-{kernel}-{feature_map}-{feature_bandwidth:g}"
        config = deep_rfm.Config(
            dataset=self.dataset,
            data_dir=self.data_dir,
            num_train=self.num_train,
            num_test=500,
            depth=10,
            width=512,
            kernel=kernel,
            bandwidth=2.0,
            feature_map=feature_map,
            feature_bandwidth=feature_bandwidth,
            seeds=(0,),
            devices=1,
            workdir=self.folder / name,
            resume=self.resume,
        )
        return self._rows(name, deep_rfm.main(config))

    @cache  # noqa: B019
    def mlp(self) -> list[Row]:
        """Returns the records of a trained MLP, in the feature-learning regime."""
        config = train_network.Config(
            dataset=self.dataset,
            data_dir=self.data_dir,
            num_train=self.num_train,
            num_test=500,
            width=256,
            epochs=300,
            measure_every=300,
            num_measured=self.num_train,
            seeds=(0,),
            workdir=self.folder / "mlp",
            resume=self.resume,
        )
        return self._rows("mlp", train_network.main(config))

    @cache  # noqa: B019
    def random_labels(self) -> list[Row]:
        """Returns the records of a network that was trained on permuted labels."""
        config = random_labels.Config(
            dataset=self.dataset,
            data_dir=self.data_dir,
            num_train=self.num_train,
            num_test=500,
            width=256,
            depth=3,
            fractions=(1.0,),
            measure_every=150,
            workdir=self.folder / "random_labels",
            resume=self.resume,
        )
        workdir = random_labels.main(config)
        return self._rows("random_labels", workdir and workdir / random_labels.folder_of(1.0))

    @cache  # noqa: B019
    def etf_heads(self) -> dict[str, list[Row]]:
        """Returns the records of a network with a learned head, and with a simplex for its head."""
        config = etf_head.Config(
            dataset=self.dataset,
            data_dir=self.data_dir,
            num_train=self.num_train,
            num_test=500,
            width=256,
            depth=3,
            epochs=100,
            measure_every=100,
            workdir=self.folder / "etf_head",
            resume=self.resume,
        )
        workdir = etf_head.main(config)
        return {head: self._rows(head, workdir and workdir / head) for head in etf_head.HEADS}

    @cache  # noqa: B019
    def low_rank(self) -> list[Row]:
        """Returns the records of a recursive feature machine on a function of few directions."""
        config = rfm.Config(
            task="low_rank",
            num_train=1000,
            seeds=(0, 1, 2),
            workdir=self.folder / "rfm_low_rank",
            resume=self.resume,
        )
        return self._rows("rfm", rfm.main(config))

    @staticmethod
    def _rows(name: str, workdir: Path | None) -> list[Row]:
        if workdir is None:
            raise ValueError(f"the run {name} left no records")
        return read_run(workdir)[1]


def values(rows: Sequence[Row], metric: str, **place: object) -> list[float]:
    """Returns the values of a metric at a place, all of them."""
    wanted = {"metric": metric, **place}
    return [row["value"] for row in rows if wanted.items() <= row.items()]


def at_end(rows: Sequence[Row]) -> list[Row]:
    """Returns the rows of the last epoch."""
    last = max(row["epoch"] for row in rows)
    return [row for row in rows if row["epoch"] == last]


def by_layer(rows: Sequence[Row], metric: str, stage: str) -> list[float]:
    """Returns the mean over seeds of a metric at a stage, layer by layer; geometric for NC1."""
    average = geometric_mean if metric.startswith("nc1") else mean
    layers = sorted({row["layer"] for row in rows if row["metric"] == metric and row["stage"] == stage})
    return [average(values(rows, metric, stage=stage, layer=layer)) for layer in layers]
