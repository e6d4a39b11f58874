"""What `experiments.rfm` prints: one line for every iteration, and at the end the plain kernel beside RFM."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median

from rich.console import Console
from rich.text import Text

from experiments.support.console import say
from experiments.support.records import Row
from experiments.support.rfm_options import (
    PUBLISHED,
    TASKS,
    Cell,
    Settings,
    TaskName,
    cells,
    operation_of,
)

# Heading, width and metric; a column is printed where the task has its metric.
COLUMNS = (
    ("train R2", 9, "train_r2"),
    ("test R2", 9, "test_r2"),
    ("train acc", 9, "train_accuracy"),
    ("test acc", 9, "test_accuracy"),
    ("train MSE", 10, "train_mean_squared_error"),
    ("test MSE", 10, "test_mean_squared_error"),
    ("alignment", 9, "eigenvector_alignment"),
    ("circulant deviation A, B, C", 27, "circulant_deviation"),
)
# Accuracies whose first iteration is told.
GROKKED = (0.05, 0.99, 1.0)
BLOCKS = ("first", "second", "cross")


class IterationTable:
    """Prints iterations as they end; plain lines when the output is not a terminal."""

    def __init__(self, task: TaskName) -> None:
        """Takes the task, which decides the columns."""
        self._console = Console(highlight=False, soft_wrap=True)
        hidden = set() if has_classes(task) else {"train_accuracy", "test_accuracy"}
        if operation_of(task) is None:
            hidden |= {"circulant_deviation"}
        else:
            hidden |= {"eigenvector_alignment", "train_r2", "test_r2"}
        self._columns = [column for column in COLUMNS if column[2] not in hidden]

    def say(self, text: str) -> None:
        """Prints a line of text as it is."""
        say(text)

    def header(self, place: dict[str, int]) -> None:
        """Prints the seed and the target, and the names of the columns."""
        self.say("\n" + ", ".join(f"{name} {value}" for name, value in place.items()))
        names = " ".join(f"{name:>{width}}" for name, width, _ in self._columns)
        self._console.print(Text(f"iteration {names}  seconds", style="bold"))

    def rows(self, rows: Sequence[Row], seconds: float | None = None) -> None:
        """Prints the iterations among rows; seconds is what fitting and measuring one took."""
        cells_by_iteration: dict[int, dict[str, float]] = {}
        for row in rows:
            cells_by_iteration.setdefault(row["iteration"], {})[row["metric"]] = row["value"]
        for iteration, values in cells_by_iteration.items():
            line = " ".join(f"{_text(values, metric):>{width}}" for _, width, metric in self._columns)
            self.say(f"{iteration:>9} {line}  {'loaded' if seconds is None else f'{seconds:7.1f}'}")


def closing_lines(task: TaskName, settings: Settings, rows: Sequence[Row], workdir: Path) -> str:
    """Returns the plain kernel beside RFM, the published values where there are some, and where files are."""
    num_seeds = len(settings["seeds"])
    name = {"test_accuracy": "accuracy", "test_r2": "R2"}[score_of(task)]
    lines = [f"\ntest {name}, mean of {num_seeds} seed{'s' * (num_seeds > 1)}"]
    lines += [f"  {cell_line(task, settings, cell, rows)}" for cell in cells(settings)]
    lines += published_lines(task, settings, rows) + grokking_lines(task, settings, rows)
    lines.append(f"Records, checkpoints and figures are in {workdir}")
    return "\n".join(lines)


def score_of(task: TaskName) -> str:
    """Returns the metric that a task is judged by."""
    return "test_accuracy" if operation_of(task) else "test_r2"


def cell_line(task: TaskName, settings: Settings, cell: Cell, rows: Sequence[Row]) -> str:
    """Returns the score of the plain kernel beside that of the last iteration, of one target."""
    of_cell = [row for row in rows if cell.items() <= row.items()]
    scores = mean_by_iteration(of_cell, score_of(task))
    name = ", ".join(f"{key} {value}" for key, value in cell.items())
    last = max(scores)
    learned = "random M" if settings.get("features") == "random_circulant" else f"RFM, iteration {last}"
    aligned = mean_by_iteration(of_cell, "eigenvector_alignment").get(last)
    tail = "" if aligned is None else f"; alignment of the top eigenvectors {aligned:.3f}"
    plain = f"plain {settings['kernel']} kernel {scores[0]:.4f}"
    return f"{name}{': ' * bool(name)}{plain}, {learned} {scores[last]:.4f}{tail}"


def published_lines(task: TaskName, settings: Settings, rows: Sequence[Row]) -> list[str]:
    """Returns the published values of a task beside those found, where only the seeds may differ."""
    if task not in PUBLISHED or {**settings, "seeds": 0} != {**TASKS[task].options, "seeds": 0}:
        return []
    metric, values = PUBLISHED[task]
    found = values_by_iteration(rows, metric)
    shown = {f"{metric}, mean by iteration:": [mean(each) for each in found.values()]}
    if len(settings["seeds"]) > 1:
        ways = {"median of the seeds:": median, "lowest seed:": min, "highest seed:": max}
        shown |= {name: [way(each) for each in found.values()] for name, way in ways.items()}
    lines = {**shown, "published:": values}
    width = max(map(len, lines))
    compared = list(zip(("mean", "median"), shown.values(), strict=False))
    differences = [f"{name} {_largest_difference(line, values)}" for name, line in compared]
    return [
        *(f"{name:<{width}} {' '.join(f'{value:.6g}' for value in line)}" for name, line in lines.items()),
        f"largest difference from the published values: {', '.join(differences)}",
    ]


def _largest_difference(found: Sequence[float], values: Sequence[float]) -> str:
    pairs = list(zip(found, values, strict=True))
    return f"{max(abs(a - b) for a, b in pairs):.2g} ({max(abs(a / b - 1) for a, b in pairs):.1%} at most)"


def grokking_lines(task: TaskName, settings: Settings, rows: Sequence[Row]) -> list[str]:
    """Returns when the median accuracy of modular arithmetic leaves 0 and arrives at 100%."""
    if operation_of(task) is None:
        return []
    found = {i: median(each) for i, each in values_by_iteration(rows, "test_accuracy").items()}
    first = {
        limit: next((f"at iteration {i}" for i in found if found[i] >= limit), "never") for limit in GROKKED
    }
    reached = ", ".join(f"{limit:.0%} {at}" for limit, at in first.items())
    return [f"median test accuracy of {len(settings['seeds'])} seeds reaches {reached}"]


def values_by_iteration(rows: Sequence[Row], metric: str) -> dict[int, list[float]]:
    """Returns the values of a metric of all seeds, by iteration."""
    found: dict[int, list[float]] = {}
    for row in rows:
        if row["metric"] == metric:
            found.setdefault(row["iteration"], []).append(row["value"])
    return {iteration: found[iteration] for iteration in sorted(found)}


def mean_by_iteration(rows: Sequence[Row], metric: str) -> dict[int, float]:
    """Returns the mean over seeds of a metric, by iteration."""
    return {iteration: mean(values) for iteration, values in values_by_iteration(rows, metric).items()}


def has_classes(task: TaskName) -> bool:
    """Returns whether a task is measured by its accuracy too."""
    return task == "parity" or operation_of(task) is not None


def _text(values: dict[str, float], metric: str) -> str:
    if metric == "circulant_deviation":
        found = [values.get(f"{metric}_{block}") for block in BLOCKS]
        return "-" if None in found else " ".join(f"{value:.2g}" for value in found)
    value = values.get(metric)
    if value is None:
        return "-"
    if metric.endswith("accuracy"):
        return f"{value:.2%}"
    return f"{value:.3g}" if metric.endswith("error") else f"{value:.5f}"
