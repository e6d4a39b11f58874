"""The tables of a report: configuration, environment, timings, what differs, and values by step."""

import json
from collections.abc import Sequence
from statistics import median
from typing import Any, NamedTuple

from experiments.support.console import BELOW_FLOOR
from experiments.support.records import Row
from experiments.support.report.curves import STAGES, curves_of, panels_with_points, views_of
from experiments.support.report.reading import RunRecords
from experiments.support.report.texts import number


class Table(NamedTuple):
    """A table of texts."""

    title: str
    columns: list[str]
    rows: list[list[str]]


def configuration(run: RunRecords) -> Table:
    """Returns the options of a run."""
    return Table("Configuration", ["option", "value"], [[k, as_text(v)] for k, v in run.config.items()])


def environment(run: RunRecords) -> Table:
    """Returns where a run was made."""
    return Table("Environment", ["what", "value"], [[k, as_text(v)] for k, v in run.environment.items()])


def timings(run: RunRecords) -> Table:
    """Returns how long each seed took: in all, and of its steps the median and the longest."""
    columns = ["seed", f"{run.step}s", "total, s", f"median {run.step}, s", "longest, s", "peak memory, MiB"]
    rows = []
    taken = _taken(run.timings)
    for seed in dict.fromkeys(row.get("seed") for row in taken):
        of_seed = [row for row in taken if row.get("seed") == seed]
        seconds = [_seconds(row) for row in of_seed]
        peaks = [row["peak_rss_kib"] for row in of_seed if isinstance(row.get("peak_rss_kib"), int | float)]
        times = [number(value) for value in (sum(seconds), median(seconds), max(seconds))]
        memory = f"{max(peaks) / 1024:,.0f}" if peaks else "–"
        rows.append([as_text(seed), str(len(of_seed)), *times, memory])
    return Table("Timings", columns, rows)


def differing(names: Sequence[str], changed: dict[str, list[Any]]) -> Table:
    """Returns the options that differ between runs, a column per run."""
    rows = [[option, *(as_text(value) for value in values)] for option, values in changed.items()]
    return Table("What differs", ["option", *names], rows)


def values_by_step(run: RunRecords) -> list[Table]:
    """Returns a table per view and panel: its mean over seeds at every step, a column per stage and set."""
    tables = []
    views = views_of(run)
    for view in views:
        for panel in panels_with_points(run):
            if panel.at_head and view is not views[0]:
                continue
            curves = curves_of(run, view, panel)
            steps = sorted({at for curve in curves for at in curve["x"]})
            if not steps:
                continue
            columns = [run.step, *(_name(curve) for curve in curves)]
            rows = [[str(at), *(_at(curve, at) for curve in curves)] for at in steps]
            title = f"{panel.title} ({panel.label})" + (
                f", {view.name}" if view.name and not panel.at_head else ""
            )
            tables.append(Table(title, columns, rows))
    return tables


def as_text(value: object) -> str:
    """Returns a value of a configuration as text: strings as they are, others as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _name(curve: dict[str, Any]) -> str:
    return f"{curve['stage']}, {curve['points']}" if curve["stage"] in STAGES else curve["points"] or "value"


def _at(curve: dict[str, Any], at: int) -> str:
    if at not in curve["x"]:
        return "–"
    i = curve["x"].index(at)
    return (BELOW_FLOOR if curve["below"][i] else "") + number(curve["mean"][i])


def _taken(timings: Sequence[Row]) -> list[Row]:
    """Returns the last row of each step that was computed: a run that went on has some more than once."""
    last = {}
    for row in timings:
        if not row.get("loaded"):
            place = {k: v for k, v in row.items() if k != "peak_rss_kib" and not k.endswith("seconds")}
            last[json.dumps(place, sort_keys=True)] = row
    return list(last.values())


def _seconds(row: Row) -> float:
    """Returns the seconds of a row, all of its parts."""
    found = [value for name, value in row.items() if name.endswith("seconds")]
    return float(sum(value for value in found if isinstance(value, int | float)))
