"""The text of a report: the story, the numbers by step, the configuration, as tables of Markdown."""

import re
from collections.abc import Sequence

from experiments.support.report import tables
from experiments.support.report.curves import panels_with_points
from experiments.support.report.reading import RunRecords, differences
from experiments.support.report.story import names_of, setting_of, story_of, title_of, unfinished

# What Markdown, or a browser that shows it, could take for more than text.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&$])")
# Where threads make links of plain text, which no backslash prevents: people, issues, addresses.
_LINKED = re.compile(r"(?<=@)|(?<=#)(?=\d)|(?<=\bGH-)(?=\d)|(?<=:)(?=//)|(?<=\bwww)(?=\.)", re.IGNORECASE)
# Of no width.
_BREAK = "\u200b"


def markdown(runs: Sequence[RunRecords]) -> str:
    """Returns the text of a report of runs of one experiment."""
    changed = differences(runs)
    names = names_of(runs, changed)
    parts = [f"# {_plain(title_of(runs))}"]
    if len(runs) > 1:
        parts += _table(tables.differing(names, changed), "## ")
    for run, name in zip(runs, names, strict=True):
        parts += [f"## {_plain(name)}"] if len(runs) > 1 else []
        parts += [_plain(" ".join(story_of(run)))] if story_of(run) else []
        parts += [f"**{_plain(unfinished(run))}**"] if unfinished(run) else []
        parts.append(f"{_plain(setting_of(run))}.")
        if averaged(run):
            parts.append(f"{averaged(run)}; – is not recorded.")
        for table in (*tables.values_by_step(run), tables.configuration(run)):
            parts += _table(table, "### ")
        for table in (tables.environment(run), tables.timings(run)):
            parts += _table(table, "### ")
    return "\n\n".join(parts) + "\n"


def averaged(run: RunRecords) -> str:
    """Returns over how many seeds values are averaged, and which differently; nothing of one seed."""
    number, shown = len({row["seed"] for row in run.rows}), panels_with_points(run)
    if number == 1:
        return ""
    geometric = any(panel.metric.startswith("nc1") for panel in shown)
    return f"Means of {number} seeds{', geometric for NC1' * geometric}"


def _table(table: tables.Table, level: str) -> list[str]:
    """Returns a heading and a table, nothing where it has no rows."""
    if not table.rows:
        return []
    lines = [table.columns, ["---"] * len(table.columns), *table.rows]
    text = [
        f"| {' | '.join(_plain(cell) if i != 1 else cell for cell in row)} |" for i, row in enumerate(lines)
    ]
    return [f"{level}{_plain(table.title)}", "\n".join(text)]


def _plain(text: str) -> str:
    """Returns text that shows as it is, in one line, and becomes no link."""
    return _SPECIAL.sub(r"\\\1", _LINKED.sub(_BREAK, " ".join(text.split())))
