"""What the tabular benchmark prints and saves: a line per task, and the summary over all of them."""

import csv
import io
from collections.abc import Iterable, Sequence

from experiments.support.atomic import write_atomically
from experiments.support.console import say
from experiments.support.records import Row, Run
from experiments.support.tabular_summary import Standing, Table, losses, summarize
from experiments.support.tabular_work import Outcome

OWN_METHOD, MARGIN = "rfm", 0.03
NAME_WIDTH, CELL_WIDTH = 30, 17


class TaskTable:
    """Prints the tasks of a run as they end, accuracies in percent."""

    def __init__(self, methods: Sequence[str], num_tasks: int) -> None:
        """Takes the methods, one to a column, and how many tasks there will be."""
        self._methods, self._num_tasks, self._count = methods, num_tasks, 0
        say(f"\n{'task':<{NAME_WIDTH}} {'n':>6} {'d':>4} {'k':>4} {_cells(methods)} {'seconds':>9}")

    def task(self, outcome: Outcome) -> None:
        """Prints a task, with what was remarkable about its files."""
        self._count += 1
        if outcome.problem:
            say(f"{outcome.name:<{NAME_WIDTH}} has no result: {outcome.problem}")
        else:
            means = mean_accuracies(outcome.rows)
            n, d, k = outcome.sizes
            cells = _cells(f"{100 * means[method]:.2f}" for method in self._methods)
            seconds = "loaded" if outcome.loaded else f"{sum(outcome.seconds.values()):.1f}"
            counter = f"{self._count}/{self._num_tasks}"
            say(f"{outcome.name:<{NAME_WIDTH}} {n:>6} {d:>4} {k:>4} {cells} {seconds:>9} {counter:>8}")
        for note in outcome.notes:
            say(f"  {outcome.name}: {note}")


def mean_accuracies(rows: Iterable[Row]) -> dict[str, float]:
    """Returns the mean accuracy of each method from the rows of one task."""
    return {row["method"]: row["value"] for row in rows if row["metric"] == "test_mean_accuracy"}


def finish(run: Run, outcomes: Sequence[Outcome]) -> None:
    """Records the rows of all tasks and their summary, saves both tables, and prints the summary."""
    for outcome in outcomes:
        run.log(outcome.rows)
    table = {outcome.name: mean_accuracies(outcome.rows) for outcome in outcomes if not outcome.problem}
    if not table:
        return
    standings = summarize(table)
    run.log(
        {"method": standing.method, "metric": metric, "value": value}
        for standing in standings
        for metric, value in standing._asdict().items()
        if metric != "method"
    )
    _save(run, table, standings)
    say_summary(table, standings)
    say_seconds(outcomes)
    say(f"Records and tables are in {run.workdir}")


def say_summary(table: Table, standings: Sequence[Standing]) -> None:
    """Prints the statistics of all methods, and the tasks that RFM loses."""
    header = ("average accuracy", "P90", "P95", "PMA", "Friedman rank")
    say(f"\n{len(table)} tasks\n{'method':<{NAME_WIDTH}} {_cells(header)}")
    for method, *shares, rank in standings:
        say(f"{method:<{NAME_WIDTH}} {_cells([*(f'{100 * share:.2f}%' for share in shares), f'{rank:.2f}'])}")
    if OWN_METHOD not in next(iter(table.values())):
        return
    found = losses(table, OWN_METHOD, MARGIN)
    say(f"\nTasks where {OWN_METHOD} loses by more than {100 * MARGIN:g} points: {len(found)}")
    for loss in found:
        say(
            f"  {loss.task:<{NAME_WIDTH}} {100 * loss.accuracy:.2f}, {loss.best_method} "
            f"{100 * loss.best_accuracy:.2f}"
        )


def say_seconds(outcomes: Sequence[Outcome]) -> None:
    """Prints the seconds that each method took over all tasks, those of loaded tasks included."""
    methods = {method: 0.0 for outcome in outcomes for method in outcome.seconds}
    for method in methods:
        methods[method] = sum(outcome.seconds.get(method, 0.0) for outcome in outcomes)
    say(
        "\nseconds of one thread (what methods share counts for the first of them): "
        + ", ".join(f"{name} {total:.1f}" for name, total in methods.items())
    )


def _save(run: Run, table: Table, standings: Sequence[Standing]) -> None:
    methods = list(next(iter(table.values())))
    accuracies = [["task", *methods], *([task, *row.values()] for task, row in table.items())]
    _write_csv(run, "tabular_accuracies.csv", accuracies)
    _write_csv(run, "tabular_summary.csv", [Standing._fields, *standings])


def _write_csv(run: Run, name: str, lines: Iterable[Sequence[object]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    write_atomically(run.workdir / "figures" / name, lambda file: file.write(text.getvalue().encode()))


def _cells(values: Iterable[str]) -> str:
    return " ".join(f"{value:>{CELL_WIDTH}}" for value in values)
