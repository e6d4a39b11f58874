"""What `experiments.lazy_baselines` records and prints: a line for every method, and the table over seeds."""

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from experiments.support.console import say
from experiments.support.lazy_grids import TITLES, MethodName
from experiments.support.lazy_methods import Result
from experiments.support.records import Row

CHOSEN = "chosen_"
NAME_WIDTH = max(len(title) for title in TITLES.values())


def to_rows(seed: int, method: MethodName, result: Result) -> list[Row]:
    """Returns a result as tidy rows: both accuracies, and every chosen value."""
    values = {"validation_accuracy": result.validation_accuracy, "test_accuracy": result.test_accuracy}
    values |= {f"{CHOSEN}{name}": value for name, value in result.values.items()}
    return [
        {"seed": seed, "method": method, "metric": name, "value": value} for name, value in values.items()
    ]


class MethodTable:
    """Prints the methods of a seed as they end, accuracies in percent."""

    def header(self, seed: int) -> None:
        """Prints the seed and the names of the columns."""
        say(f"\nseed {seed}\n{'method':<{NAME_WIDTH}}  validation    test  seconds  chosen")

    def method(self, rows: Sequence[Row], seconds: str) -> None:
        """Prints a method with what it chose."""
        values = {row["metric"]: row["value"] for row in rows}
        accuracies = f"{values['validation_accuracy']:>10.2%}  {values['test_accuracy']:>6.2%}"
        say(f"{TITLES[rows[0]['method']]:<{NAME_WIDTH}}  {accuracies}  {seconds:>7}  {chosen_text(rows)}")


def closing_table(settings: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """Returns the table over all seeds: means, standard deviations (n - 1), and what each seed chose."""
    num_seeds = len(settings["seeds"])
    counts = (
        f"{settings['num_train']} training, {settings['num_validation']} validation and "
        f"{settings['num_test']} test images"
    )
    spread = "mean and standard deviation over" if num_seeds > 1 else "of"
    lines = [
        f"\n{settings['dataset']}, {counts}; accuracies in percent, {spread} "
        f"{num_seeds} seed{'s' * (num_seeds > 1)}",
        f"{'method':<{NAME_WIDTH}}  {'test':>12}  {'validation':>12}  chosen by seed "
        f"{', '.join(map(str, settings['seeds']))}",
    ]
    for method in settings["methods"]:
        of_method = [row for row in rows if row["method"] == method]
        test, validation = (
            spread_text(of_method, metric) for metric in ("test_accuracy", "validation_accuracy")
        )
        lines.append(
            f"{TITLES[method]:<{NAME_WIDTH}}  {test:>12}  {validation:>12}  {chosen_text(of_method)}"
        )
    return "\n".join(lines)


def spread_text(rows: Sequence[Row], metric: str) -> str:
    """Returns the mean over seeds in percent, with the standard deviation where there are several."""
    found = [100 * row["value"] for row in rows if row["metric"] == metric]
    return f"{mean(found):.2f} ± {stdev(found):.2f}" if len(found) > 1 else f"{found[0]:.2f}"


def chosen_text(rows: Sequence[Row]) -> str:
    """Returns what the seeds among rows chose; a value that all of them chose is named once."""
    chosen: dict[str, list[str]] = {}
    for row in rows:
        if row["metric"].startswith(CHOSEN):
            chosen.setdefault(row["metric"].removeprefix(CHOSEN), []).append(_value_text(row["value"]))
    named = {name: values[:1] if len(set(values)) == 1 else values for name, values in chosen.items()}
    return "; ".join(f"{name} {', '.join(values)}" for name, values in named.items())


def _value_text(value: float | bool) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else f"{value:g}"
