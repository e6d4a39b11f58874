"""What a training run prints: one line for every measured epoch, of the last hidden layer and the head."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from experiments.support.console import say, say_settings
from experiments.support.records import Row

# Heading, width, and the row that it shows; the layer is counted from the head, -1 the last hidden one.
COLUMNS = (
    ("loss", 8, (0, "network", "train_loss")),
    ("train acc", 9, (0, "network", "train_accuracy")),
    ("test acc", 8, (0, "network", "test_accuracy")),
    ("NC1 first", 9, (None, "input", "nc1")),
    ("NC1 last", 8, (-1, "nonlinear", "nc1")),
    ("NC2 last", 8, (-1, "nonlinear", "nc2")),
    ("NC3", 8, (0, "input", "nc3")),
    ("NC4", 8, (0, "input", "nc4")),
    ("test NC4", 8, (0, "input", "test_nc4")),
    ("NFA last", 8, (-1, "weights", "nfa_correlation_root")),
)


class EpochTable:
    """Prints measured epochs as they end; plain lines when the output is not a terminal."""

    def __init__(self) -> None:
        """Opens the output."""
        self._console = Console(highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """Prints a line of text as it is."""
        say(text)

    def settings(self, title: str, values: Mapping[str, Any]) -> None:
        """Prints names and values, one pair to a line."""
        say_settings(title, values)

    def header(self, seed: int) -> None:
        """Prints the names of the columns above the epochs of a seed."""
        self.say(f"\nseed {seed}")
        names = " ".join(f"{name:>{width}}" for name, width, _ in COLUMNS)
        self._console.print(Text(f"epoch {names}  seconds", style="bold"))

    def rows(self, rows: Sequence[Row], seconds: float | None = None) -> None:
        """Prints the measured epochs among rows; seconds is what one epoch and its measurement took."""
        cells: dict[int, dict[tuple[int, str, str], float]] = {}
        for row in rows:
            place = row["layer"], row["stage"], row["metric"]
            cells.setdefault(row["epoch"], {})[place] = row["value"]
        for epoch, values in cells.items():
            if not any(metric == "nc1" for _, _, metric in values):
                continue
            line = " ".join(f"{_cell(values, place):>{width}}" for _, width, place in COLUMNS)
            self.say(f"{epoch:>5} {line}  {'loaded' if seconds is None else f'{seconds:7.1f}'}")


def _cell(values: Mapping[tuple[int, str, str], float], place: tuple[int | None, str, str]) -> str:
    offset, stage, metric = place
    head = max(layer for layer, _, _ in values)
    value = values.get((1 if offset is None else head + offset, stage, metric))
    if value is None:
        return "-"
    if metric.endswith("accuracy"):
        return f"{100 * value:.1f}%"
    return f"{value:.4f}" if metric.endswith("nc4") else f"{value:.3g}"
