"""The check behind each scientific claim, at laptop size, as a table: expected, found, verdict.

    python -m experiments.claims

Theorems are checked by optima and trajectories, observations by small runs of the other experiments, whose
records stay in the workdir. A verdict says what these numbers say: holds, in part (of several conditions), or
fails; none is a proof, and one that fails here may hold at another size.
"""

import dataclasses
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, BinaryIO, get_args

import tyro

from experiments.support import command, data, devices, options
from experiments.support.atomic import write_atomically
from experiments.support.claims import observed, theory
from experiments.support.claims.findings import Finding, Verdict, comma_separated, markdown
from experiments.support.claims.runs import Runs
from experiments.support.console import say
from experiments.support.records import open_run

OBSERVED: Mapping[str, Callable[[Runs], list[Finding]]] = {
    "deep_rfm": observed.deep_rfm_collapses,
    "exponential": observed.decrease_is_exponential,
    "linear_stage": observed.linear_stage_dominates,
    "etf_by_layer": observed.etf_by_layer,
    "ansatz": observed.ansatz,
    "rfm": observed.rfm_beats_its_kernel,
    "random_labels": observed.random_labels,
    "fixed_etf": observed.fixed_etf,
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
    data_dir: Path | None = None
    """folder of original files or of prepared TFDS datasets"""
    workdir: Path | None = None
    """folder of the table and of the runs; None is runs/claims-<dataset>-<hash of the options>"""
    resume: bool = True
    """read what the workdir holds and go on; --no-resume removes it and starts over"""


def main(config: Config) -> Path:
    """Runs the checks, prints the table and returns the folder of it and of its runs."""
    unknown = [name for name in config.only if name not in NAMES]
    if unknown or not config.only:
        raise ValueError(f"--only must be some of {', '.join(NAMES)}: got {', '.join(unknown) or 'none'}")
    options.check_sizes(num_train=config.num_train)
    settings = {"command": "claims", "dataset": config.dataset, "num_train": config.num_train}
    workdir = config.workdir or Path("runs") / command.run_name("claims", config.dataset, settings)
    run = open_run(workdir, settings, {"runs": list(OBSERVED)}, config.resume)
    runs = Runs(workdir, config.dataset, config.data_dir, config.num_train, config.resume)
    with command.resumable(workdir, "experiments.claims"):
        findings = [finding for name in NAMES if name in config.only for finding in check(name, runs)]
    for name, text in (("claims.md", markdown(findings)), ("claims.csv", comma_separated(findings))):
        write_atomically(run.workdir / name, partial(write_text, text))
    say("\n" + "\n\n".join(shown(finding) for finding in findings))
    counts = {verdict: sum(f.verdict == verdict for f in findings) for verdict in get_args(Verdict)}
    say("\n" + ", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    say(f"The table is in {workdir / 'claims.md'} and {workdir / 'claims.csv'}")
    return workdir


def check(name: str, runs: Runs) -> list[Finding]:
    """Returns what a check found, in float64 where it is a theorem."""
    say(f"\n=== {name}")
    if name in OBSERVED:
        return OBSERVED[name](runs)
    devices.set_precision("float64")
    return THEOREMS[name]()


def shown(finding: Finding) -> str:
    """Returns a finding in lines of text."""
    lines = [f"[{finding.verdict}] {finding.claim} ({finding.source})"]
    lines += [f"    expected: {finding.expected}", f"    found:    {finding.found}"]
    return "\n".join(lines)


def write_text(text: str, file: BinaryIO) -> None:
    """Writes text to a binary file."""
    file.write(text.encode())


if __name__ == "__main__":
    sys.exit(command.run(partial(main, command.parse(Config, {}, sys.argv[1:]))))
