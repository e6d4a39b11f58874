"""One page, or one text, of a run or of several to compare, made of their records alone.

    python -m experiments.report RUN
    python -m experiments.report RUN OTHER_RUN --output=comparison.html

The page is one file that needs no network. Its slider goes through the layers of Deep RFM, and moves the Gram
matrix, class means, spectrum and eigenvectors together; through the epochs of a network, and moves cosines of
points and class means, their simplex and the metrics by layer; or through the iterations of an RFM, and moves
the feature matrix, its spectrum and eigenvectors. Reads the records of deep_rfm, train_network, rfm and
conv_rfm, and of the trainings of random_labels and etf_head.
"""

import dataclasses
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import tyro

from experiments.support import command
from experiments.support.atomic import WriteError, write_atomically
from experiments.support.console import say
from experiments.support.records import RecordsError
from experiments.support.report.markdown import markdown
from experiments.support.report.page import page
from experiments.support.report.reading import read_runs


@dataclasses.dataclass(frozen=True)
class Config:
    """Which runs, and where the report goes."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]")] = ()
    """folders of the runs, or folders that hold one run each"""
    output: Path | None = None
    """file to write; None is report.html, or report.md, in the first run"""
    markdown: bool = False
    """write text with tables, for papers and threads, rather than a page"""
    preset: tyro.conf.Suppress[Literal["default"]] = "default"


def main(config: Config) -> Path:
    """Writes the report and returns its path.

    Raises:
        RecordsError: If a folder holds no run, records are damaged, or runs cannot be compared.
        WriteError: If the file cannot be written.
    """
    if not config.runs:
        raise RecordsError("no run is named: python -m experiments.report RUN, RUN the folder of its records")
    runs = read_runs(config.runs)
    text = markdown(runs) if config.markdown else page(runs)
    path = config.output or config.runs[0] / ("report.md" if config.markdown else "report.html")
    try:
        # Half of a surrogate pair, which JSON can hold, is no text that a file could.
        write_atomically(path, lambda file: file.write(text.encode("utf-8", "replace")))
    except WriteError as error:
        reason = error.__cause__ or error
        raise WriteError(f"could not write {path}: {reason}; choose another file with --output") from error
    say(f"{path} ({path.stat().st_size / 1e6:.2g} MB)")
    return path


if __name__ == "__main__":
    sys.exit(command.run(partial(main, command.parse(Config, {}, sys.argv[1:]))))
