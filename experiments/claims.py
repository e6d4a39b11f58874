"""The check behind each scientific claim, at laptop size, as a table: expected, found, verdict.

    python -m experiments.claims

Theorems are checked by optima and trajectories, observations by small runs of the other experiments, whose
records stay in the workdir. A verdict says what these numbers say: holds, in part (of several conditions), or
fails; none is a proof, and one that fails here may hold at another size. A check that cannot be made is in
the table as not run, with its reason, and the command then ends with an error.
"""

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, BinaryIO, get_args

import tyro

from experiments import conv_rfm, deep_rfm, etf_head, ood_detection, random_labels, rfm, train_network
from experiments.support import command, data, devices, options
from experiments.support.atomic import write_atomically
from experiments.support.claims import observed, reading, theory, uses
from experiments.support.claims.findings import Finding, Verdict, comma_separated, markdown, not_run
from experiments.support.console import say
from experiments.support.feature_maps import FeatureName
from experiments.support.records import Row, open_run, read_run

OBSERVED: Mapping[str, Callable[[reading.Runs], list[Finding]]] = {
    "deep_rfm": observed.deep_rfm_collapses,
    "exponential": observed.decrease_is_exponential,
    "linear_stage": observed.linear_stage_dominates,
    "etf_by_layer": observed.etf_by_layer,
    "ansatz": observed.ansatz,
    "networks": observed.networks_collapse,
    "rfm": uses.rfm_beats_its_kernel,
    "patches": uses.patches_beat_their_kernel,
    "fixed_etf": uses.fixed_etf,
    "unknown_images": uses.unknown_images,
}
THEOREMS: Mapping[str, Callable[[], list[Finding]]] = {
    "optimal_kernel": theory.optimal_kernel,
    "same_nc1": theory.same_nc1,
    "deep_linear": theory.deep_linear,
    "stationarity": theory.stationarity,
    "egop": theory.expected_gradients,
}
NAMES = (*OBSERVED, *THEOREMS)


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of the run."""

    preset: tyro.conf.Suppress[str] = "default"
    only: tuple[str, ...] = NAMES
    """checks to run, by name; all of them by default"""
    dataset: Annotated[data.Name, tyro.conf.arg(metavar="{" + ",".join(get_args(data.Name)) + "}")] = (
        "fashion_mnist_mini"
    )
    """images of the runs"""
    num_train: int = 1000
    """training images of the runs, stratified by class"""
    num_test: int = 1000
    """held-out images of the runs"""
    data_dir: Path | None = None
    """folder of original files or of prepared TFDS datasets"""
    workdir: Path | None = None
    """folder of the table and of the runs; None is runs/claims-<dataset>-<hash of the options>"""
    resume: bool = True
    """read what the workdir holds and go on; --no-resume removes it and starts over"""


class ClaimsError(ValueError):
    """Some checks could not be made."""


@dataclasses.dataclass(frozen=True)
class Runs:
    """Runs on one dataset below one folder; each is made when it is first asked for, or continued."""

    folder: Path
    dataset: data.Name
    data_dir: Path | None
    num_train: int
    num_test: int
    resume: bool

    @property
    def foreign(self) -> data.Name:
        """The dataset of images that a network on the other has not seen."""
        return "fashion_mnist_mini" if self.dataset in ("mnist", "mnist_5k") else "mnist_5k"

    @cache  # noqa: B019
    def deep_rfm(
        self, kernel: reading.KernelName, feature_map: FeatureName, feature_bandwidth: float = 10.0
    ) -> list[Row]:
        """Returns the records of a Deep RFM."""
        name = f"deep_rfm-{kernel}-{feature_map}-{feature_bandwidth:g}"
        config = deep_rfm.Config(
            **self._on_images(name),
            depth=10,
            width=512,
            kernel=kernel,
            bandwidth=2.0,
            feature_map=feature_map,
            feature_bandwidth=feature_bandwidth,
            seeds=(0,),
            devices=1,
        )
        return self._rows(name, deep_rfm.main(config))

    @cache  # noqa: B019
    def mlp(self, regime: reading.Regime) -> list[Row]:
        """Returns the records of an MLP, trained from small weights, or from large ones with weight decay."""
        config = train_network.Config(
            **self._on_images(f"mlp-{regime}"),
            width=256,
            epochs=300,
            measure_every=300,
            num_measured=self.num_train,
            seeds=(0,),
        )
        if regime == "weight_decay":
            config = dataclasses.replace(
                config, init_gain=1.0, optimizer="adamw", learning_rate=1e-3, weight_decay=1.0
            )
        return self._rows("mlp", train_network.main(config))

    @cache  # noqa: B019
    def random_labels(self) -> list[Row]:
        """Returns the records of a network that was trained on permuted labels."""
        config = random_labels.Config(
            **self._on_images("random_labels"),
            width=256,
            depth=3,
            fractions=(1.0,),
            measure_every=150,
        )
        workdir = random_labels.main(config)
        return self._rows("random_labels", workdir and workdir / random_labels.folder_of(1.0))

    @cache  # noqa: B019
    def etf_heads(self) -> dict[str, list[Row]]:
        """Returns the records of a network with a learned head, and with a simplex for its head."""
        config = etf_head.Config(
            **self._on_images("etf_head"),
            width=256,
            depth=3,
            epochs=100,
            measure_every=100,
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

    @cache  # noqa: B019
    def stars(self) -> list[Row]:
        """Returns the records of a convolutional recursive feature machine on stars in noise."""
        config = conv_rfm.Config(
            dataset="stars",
            num_validation=0,
            num_test=500,
            num_iters=1,
            seeds=(0, 1, 2),
            workdir=self.folder / "conv_rfm_stars",
            resume=self.resume,
        )
        return self._rows("conv_rfm", conv_rfm.main(config))

    @cache  # noqa: B019
    def unknown_images(self) -> dict[str, list[Row]]:
        """Returns the records of scores that tell foreign images, and of the network that they are of."""
        config = ood_detection.Config(
            **self._on_images("ood_detection"),
            ood_dataset=self.foreign,
            width=256,
            loss="squared",
            epochs=200,
            measure_every=200,
            optimizer="adamw",
            learning_rate=1e-3,
            weight_decay=1.0,
        )
        workdir = ood_detection.main(config)
        rows = self._rows("ood_detection", workdir)
        return {"scores": rows, "training": self._rows("training", workdir and workdir / "training")}

    def _on_images(self, folder: str) -> dict[str, Any]:
        return {
            "dataset": self.dataset,
            "data_dir": self.data_dir,
            "num_train": self.num_train,
            "num_test": self.num_test,
            "workdir": self.folder / folder,
            "resume": self.resume,
        }

    @staticmethod
    def _rows(name: str, workdir: Path | None) -> list[Row]:
        if workdir is None:
            raise ValueError(f"the run {name} left no records")
        return read_run(workdir)[1]


def main(config: Config) -> Path:
    """Runs the checks, prints the table and returns the folder of it and of its runs."""
    unknown = [name for name in config.only if name not in NAMES]
    if unknown or not config.only:
        raise ValueError(f"--only must be some of {', '.join(NAMES)}: got {', '.join(unknown) or 'none'}")
    options.check_sizes(num_train=config.num_train, num_test=config.num_test)
    settings = {"command": "claims"} | {n: getattr(config, n) for n in ("dataset", "num_train", "num_test")}
    workdir = config.workdir or Path("runs") / command.run_name("claims", config.dataset, settings)
    run = open_run(workdir, settings, devices.describe(devices.make_mesh(1, 1)), config.resume)
    runs = Runs(workdir, config.dataset, config.data_dir, config.num_train, config.num_test, config.resume)
    with command.resumable(workdir, "experiments.claims"):
        findings = [finding for name in NAMES if name in config.only for finding in check(name, runs)]
    table = run.workdir / table_name(config.only)
    for ending, text in ((".md", markdown(findings)), (".csv", comma_separated(findings))):
        write_atomically(table.with_suffix(ending), partial(write_text, text))
    say("\n" + "\n\n".join(shown(finding) for finding in findings))
    counts = {verdict: sum(f.verdict == verdict for f in findings) for verdict in get_args(Verdict)}
    say("\n" + ", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    say(f"The table is in {table.with_suffix('.md')} and {table.with_suffix('.csv')}")
    if missing := [finding.claim for finding in findings if finding.verdict == "not run"]:
        raise ClaimsError(f"checks that were not run: {', '.join(missing)}; the table says why")
    return workdir


def table_name(names: Sequence[str]) -> str:
    """Returns the name of the files of a table: that of all checks is not written over by one of some."""
    return "-".join(["claims", *(name for name in NAMES if name in names and set(names) != set(NAMES))])


def check(name: str, runs: reading.Runs) -> list[Finding]:
    """Returns what a check found, in float64 where it is a theorem, or why it could not be made."""
    say(f"\n=== {name}")
    try:
        if name in OBSERVED:
            return OBSERVED[name](runs)
        devices.set_precision("float64")
        return THEOREMS[name]()
    except (ValueError, ArithmeticError, OSError) as error:
        say(f"not run: {error}")
        return [not_run(name, error)]


def shown(finding: Finding) -> str:
    """Returns a finding in lines of text."""
    if finding.verdict == "not run":
        return f"[{finding.claim}] {finding.found}"
    lines = [f"[{finding.verdict}] {finding.claim} ({finding.source})"]
    lines += [f"    expected: {finding.expected}", f"    found:    {finding.found}"]
    return "\n".join(lines)


def write_text(text: str, file: BinaryIO) -> None:
    """Writes text to a binary file."""
    file.write(text.encode())


if __name__ == "__main__":
    sys.exit(command.run(partial(main, command.parse(Config, {}, sys.argv[1:]))))
