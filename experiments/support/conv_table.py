"""What `experiments.conv_rfm` prints: a line for every iteration, and the plain kernel beside the others."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

from rich.console import Console
from rich.text import Text

from experiments.support.console import say
from experiments.support.conv_published import PUBLISHED
from experiments.support.records import Row
from experiments.support.rfm_table import values_by_iteration

SETS = ("train", "validation", "test")
SELECTED = "selected_iteration"


class IterationTable:
    """Prints iterations as they end; plain lines when the output is not a terminal."""

    def __init__(self, has_validation: bool) -> None:
        """Takes whether there are validation images."""
        self._console = Console(highlight=False, soft_wrap=True)
        self._sets = [name for name in SETS if has_validation or name != "validation"]

    def say(self, text: str) -> None:
        """Prints a line of text as it is."""
        say(text)

    def header(self, seed: int) -> None:
        """Prints the seed and the names of the columns."""
        names = " ".join(f"{name + ' acc':>14} {name + ' MSE':>14}" for name in self._sets)
        self.say(f"\nseed {seed}")
        self._console.print(Text(f"iteration {names} {'top share':>9}  seconds", style="bold"))

    def rows(self, rows: Sequence[Row], seconds: float | None) -> None:
        """Prints one iteration; seconds is what fitting and measuring it took, None if it was loaded."""
        values = {row["metric"]: row["value"] for row in rows}
        cells = " ".join(
            f"{values[f'{name}_accuracy']:>14.2%} {values[f'{name}_mean_squared_error']:>14.4g}"
            for name in self._sets
        )
        share = values.get("top_eigenvalue_share")
        took = "loaded" if seconds is None else f"{seconds:7.1f}"
        self.say(f"{rows[0]['iteration']:>9} {cells} {'-' if share is None else f'{share:.1%}':>9}  {took}")


def closing_lines(dataset: str, rows: Sequence[Row], workdir: Path) -> str:
    """Returns means by iteration, what validation picks, published values, and where the files are."""
    found = values_by_iteration(rows, "test_accuracy")
    errors = values_by_iteration(rows, "test_mean_squared_error")
    num_seeds = len(found[0])
    lines = [f"\ntest accuracy and mean squared error, mean of {num_seeds} seed{'s' * (num_seeds > 1)}"]
    for iteration, values in found.items():
        name = "plain kernel" if iteration == 0 else f"AGOP, {iteration} update{'s' * (iteration > 1)}"
        spread = f" (standard deviation {100 * stdev(values):.2f})" if num_seeds > 1 else ""
        lines.append(f"  {name:<16} {mean(values):.2%}{spread}, {mean(errors[iteration]):.4g}")
    lines += selection_lines(rows)
    lines += published_lines(dataset)
    return "\n".join([*lines, f"Records, checkpoints and figures are in {workdir}"])


def selection_lines(rows: Sequence[Row]) -> list[str]:
    """Returns what validation picks in each seed, and the test accuracy there; nothing without validation."""
    picked = {row["seed"]: row["iteration"] for row in rows if row["metric"] == SELECTED}
    if not picked:
        return []
    scores = [
        row["value"]
        for row in rows
        if row["metric"] == "test_accuracy" and row["iteration"] == picked[row["seed"]]
    ]
    counts = sorted(picked.values())
    chosen = ", ".join(f"{number} in {counts.count(number)}" for number in sorted(set(counts)))
    return [f"  picked by validation {mean(scores):.2%}; the iteration, by number of seeds: {chosen}"]


def published_lines(dataset: str) -> list[str]:
    """Returns what others have got, if anything is known, in which setting."""
    if dataset not in PUBLISHED:
        return []
    published = PUBLISHED[dataset]
    plain, learned = published.slides
    lines = [f"  published, in a setting not known: plain {plain:.2%}, AGOP {learned:.2%}"]
    if published.notebook:
        values = ", ".join(f"{value:.2%}" for value in published.notebook)
        lines.append(f"  published, {published.setting}, by iteration: {values}")
    return lines
