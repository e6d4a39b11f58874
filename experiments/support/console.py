"""What a run prints: a table that grows by a few lines per layer, in color where the output is a terminal."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.text import Text

from experiments.support.records import Row

STAGES = ("input", "linear", "nonlinear")
COLUMNS = (
    ("layer", 5),
    ("stage", 9),
    ("NC1", 8),
    ("NC2", 8),
    ("NC4", 8),
    ("test NC1", 8),
    ("test NC2", 8),
    ("test NC4", 8),
    ("train acc", 9),
    ("test acc", 8),
    ("condition", 9),
    ("seconds", 7),
)
STAGE_COLORS = {"input": "bright_black", "linear": "yellow", "nonlinear": "cyan"}
BELOW_FLOOR = "~"


def say(text: str) -> None:
    """Prints a line of text as it is."""
    Console(highlight=False, soft_wrap=True).print(Text(text))
    sys.stdout.flush()


def say_settings(title: str, values: Mapping[str, Any]) -> None:
    """Prints names and values, one pair to a line."""
    say(title)
    width = max(len(name) for name in values)
    for name, value in values.items():
        say(f"  {name:<{width}}  {value}")


class LayerTable:
    """Prints the layers of a run as they end; plain lines when the output is not a terminal."""

    def __init__(self, depth: int) -> None:
        """Takes the number of layers that each seed will have."""
        self._console = Console(highlight=False, soft_wrap=True)
        self._depth = depth

    def say(self, text: str) -> None:
        """Prints a line of text as it is."""
        say(text)

    def settings(self, title: str, values: Mapping[str, Any]) -> None:
        """Prints names and values, one pair to a line."""
        say_settings(title, values)

    def header(self, seed: int) -> None:
        """Prints the names of the columns above the layers of a seed."""
        self.say(f"\nseed {seed}")
        self._console.print(Text(" ".join(f"{name:>{width}}" for name, width in COLUMNS), style="bold"))

    @contextmanager
    def working(self, seed: int, layer: int) -> Iterator[None]:
        """Shows on a terminal which layer is being fitted."""
        if not self._console.is_terminal:
            yield
            return
        with self._console.status(f"seed {seed}: layer {layer} of {self._depth}"):
            yield

    def layer(self, layer: int, rows: list[Row], seconds: str) -> None:
        """Prints the three stages of a layer; ~ marks a number below the float floor."""
        cells = {(row["stage"], row["metric"]): _format(row) for row in rows}

        def cell(stage: str, metric: str) -> str:
            return cells.get((stage, metric), "-")

        for stage in STAGES:
            names = ("nc1", "nc2", "nc4", "test_nc1", "test_nc2", "test_nc4")
            line = [str(layer) if stage == "input" else "", stage, *(cell(stage, name) for name in names)]
            if stage == "input":
                machine = ("train_accuracy", "test_accuracy", "condition_estimate")
                line += [*(cell("machine", name) for name in machine), seconds]
            pairs = zip(line, COLUMNS, strict=False)
            text = " ".join(f"{value:>{width}}" for value, (_, width) in pairs)
            self._console.print(Text(text, style=STAGE_COLORS[stage]))
        sys.stdout.flush()


def _format(row: Row) -> str:
    value, metric = row["value"], row["metric"]
    if metric.endswith("accuracy"):
        text = f"{100 * value:.1f}%"
    elif metric.endswith("nc4"):
        text = f"{value:.4f}"
    else:
        text = f"{value:.2g}" if 0.01 <= abs(value) < 100 else f"{value:.1e}"
    return (BELOW_FLOOR if row.get("below_floor") else "") + text
