"""What happened in a run, for a report: its name, its setting, how far it is, its story in sentences."""

from collections.abc import Sequence
from statistics import mean
from typing import Any

from experiments.support.conv_table import SELECTED
from experiments.support.records import Row
from experiments.support.report.curves import STAGES, View, rows_at, views_of
from experiments.support.report.reading import RunRecords
from experiments.support.report.texts import in_symbols, number
from experiments.support.rfm_table import cell_line, mean_by_iteration, score_of
from experiments.support.story import change, over_seeds, story_lines
from experiments.support.training_story import (
    average,
    fell_around,
    in_ranges,
    stage_means,
    stage_verdict,
    terminal_epochs,
)

KINDS = {
    "deep_rfm": "Deep RFM",
    "train_network": "Trained network",
    "rfm": "Recursive feature machine",
    "conv_rfm": "Convolutional RFM",
}
# What a setting names where the configuration has it, and how.
SHOWN = {
    "num_train": "{} training points",
    "num_test": "{} held-out",
    "network": "{}",
    "depth": "depth {}",
    "width": "width {}",
    "kernel": "{} kernel",
    "bandwidth": "bandwidth {}",
    "patch_size": "patches of {0} x {0}",
    "ridge": "ridge {}",
    "feature_map": "{} features",
    "optimizer": "{}",
    "learning_rate": "learning rate {}",
    "precision": "{}",
}


def title_of(runs: Sequence[RunRecords]) -> str:
    """Returns the title of a report."""
    kind, first = KINDS[runs[0].command], runs[0].config
    subjects = list(dict.fromkeys(str(r.config.get("dataset", r.config.get("task", "data"))) for r in runs))
    name = " and ".join(subjects) if len(subjects) <= 2 else f"{len(subjects)} datasets"
    if len(runs) > 1:
        return f"{kind} on {name}: {len(runs)} runs compared"
    return f"{kind} on {first.get('title', name)}"


def setting_of(run: RunRecords) -> str:
    """Returns the options that a reader needs first, in one line."""
    parts = []
    for name, form in SHOWN.items():
        value = run.config.get(name)
        if isinstance(value, str) or (isinstance(value, int | float) and not isinstance(value, bool)):
            text = f"{value:,}" if isinstance(value, int) and name.startswith("num_") else str(value)
            parts.append(form.format(number(value, 6) if isinstance(value, float) else text))
    seeds = run.seeds
    return ", ".join([*parts, f"seed {seeds[0]}" if len(seeds) == 1 else f"{len(seeds)} seeds"])


def unfinished(run: RunRecords) -> str:
    """Returns which seeds of a run have not reached its last step, or nothing if all have."""
    reached = {seed: _reached(run, seed) for seed in run.seeds}
    if all(at is not None and at >= run.num_steps for at in reached.values()):
        return ""
    parts = [
        f"seed {seed} has not begun"
        if at is None
        else f"seed {seed} is at {run.step} {at} of {run.num_steps}"
        for seed, at in reached.items()
        if at is None or at < run.num_steps
    ]
    more = f" and {len(parts) - 6} more" if len(parts) > 6 else ""
    return f"This run is unfinished: {', '.join(parts[:6])}{more}. Numbers are those recorded so far."


def story_of(run: RunRecords) -> list[str]:
    """Returns what happened, in a few sentences with numbers, of the steps that all recorded seeds have."""
    rows = [row for view in _parts(run) for row in complete_rows(run, view)]
    if not rows:
        return []
    if run.command == "deep_rfm":
        return _story_of_layers(rows)
    if run.command == "train_network":
        return _story_of_network(rows)
    if run.command == "rfm":
        return _story_of_rfm(run)
    return _story_of_conv(rows)


def complete_rows(run: RunRecords, view: View) -> list[Row]:
    """Returns the rows of a part up to the last step that every seed has recorded any number of."""
    rows = rows_at(run.rows, view.place)
    if run.step == "epoch":
        rows = [row for row in rows if row["epoch"] <= _last_measured(rows)]
    lasts: dict[int, int] = {}
    for row in rows:
        lasts[row["seed"]] = max(row[run.step], lasts.get(row["seed"], 0))
    return [row for row in rows if row[run.step] <= min(lasts.values())]


def _last_measured(rows: Sequence[Row]) -> int:
    """Returns the last epoch at which all seeds that were measured at all have NC1."""
    epochs: dict[int, set[int]] = {}
    for row in rows_at(rows, {"metric": "nc1"}):
        epochs.setdefault(row["seed"], set()).add(row["epoch"])
    return max(set.intersection(*epochs.values()), default=0) if epochs else 0


def _parts(run: RunRecords) -> list[View]:
    """Returns the targets of a task that have any rows; other runs are one part."""
    views = views_of(run) if run.command == "rfm" else [View("", {})]
    return [view for view in views if rows_at(run.rows, view.place)]


def _reached(run: RunRecords, seed: int) -> int | None:
    """Returns the last step of a seed, the least of its targets; None if one of them has not begun."""
    views = views_of(run) if run.command == "rfm" else [View("", {})]
    lasts = [
        max((row[run.step] for row in rows_at(run.rows, {"seed": seed} | view.place)), default=None)
        for view in views
    ]
    return None if None in lasts else min(last for last in lasts if last is not None)


def _story_of_layers(rows: list[Row]) -> list[str]:
    """Returns the story of NC1, which needs it at every stage of every layer and seed, else nothing."""
    known = {(row["seed"], row["layer"], row["stage"]) for row in rows if row["metric"] == "nc1"}
    depth = max((layer for _, layer, _ in known), default=0)
    needed = {(s, n, stage) for s, _, _ in known for n in range(1, depth + 1) for stage in STAGES}
    if known != needed or not known:
        return []
    fall, *others = story_lines(rows)
    return [in_symbols(line) for line in (fall.removesuffix(".") + _held_out(rows, depth) + ".", *others)]


def _held_out(rows: Sequence[Row], depth: int) -> str:
    """Returns how NC1 and the accuracy of held-out points changed, as far as they are recorded."""
    parts = []
    found = [_mean_at(rows, "test_nc1", n, stage) for n, stage in ((1, "input"), (depth, "nonlinear"))]
    if None not in found:
        parts.append("NC1 went from {:.2g} to {:.2g}".format(*found))
    found = [_mean_at(rows, "test_accuracy", n, "machine") for n in (1, depth)]
    if None not in found:
        parts.append("accuracy from {:.1%} to {:.1%}".format(*found))
    return f"; on held-out points {' and '.join(parts)}" if parts else ""


def _mean_at(rows: Sequence[Row], metric: str, layer: int, stage: str) -> float | None:
    values = [row["value"] for row in rows_at(rows, {"metric": metric, "layer": layer, "stage": stage})]
    return over_seeds(metric, values) if values else None


def _story_of_network(rows: list[Row]) -> list[str]:
    measured = [row for row in rows if row["stage"] == "nonlinear" and row["metric"] == "nc1"]
    if not measured:
        return []
    last = max(row["epoch"] for row in measured)
    depth = max(row["layer"] for row in measured)
    first, end = (average(rows, "nc1", depth, "nonlinear", epoch) for epoch in (0, last))
    if not first or not end:
        return [line for line in [_dominance(rows, depth, last)] if line]
    fall = (
        f"NC1 of the last hidden layer went from {number(first)} to {number(end)} in {last} epochs, "
        f"{change(first, end)} ({_of_seeds(measured)}){_terminal(rows)}."
    )
    return [line for line in (in_symbols(fall), _dominance(rows, depth, last)) if line]


def _terminal(rows: Sequence[Row]) -> str:
    """Returns when all training points were first correct, and how much of the fall came before and after."""
    epochs, fell = terminal_epochs(rows), fell_around(rows)
    begun = [epoch for epoch in epochs if epoch is not None]
    if not begun:
        return ", without all training points ever being correct"
    share = "" if len(begun) == len(epochs) else f" in {len(begun)} of {len(epochs)} seeds"
    when = f"all training points were first correct at epoch {mean(begun):.0f}{share}"
    if fell is None:
        return f"; {when}"
    before, after = (change(factor, 1.0) for factor in fell)
    return f": {before} until {when}, and {after} from there on"


def _dominance(rows: Sequence[Row], depth: int, epoch: int) -> str:
    """Returns in which layers the linear stage lowers the two forms of NC1 more than the nonlinear one."""
    parts = []
    for metric, name in (("nc1_trace_ratio", "the trace ratio"), ("nc1", "NC1")):
        verdicts = {n: stage_verdict(*stage_means(rows, metric, n, epoch)) for n in range(1, depth + 1)}
        linear = [n for n, verdict in verdicts.items() if verdict == "linear dominates"]
        where = in_ranges(linear).replace("-", "–")
        where = f"layer{'s' * (len(linear) > 1)} {where} of {depth}" if linear else f"none of {depth} layers"
        parts += [f"{name} in {where}"] if any(verdicts.values()) else []
    if not parts:
        return ""
    return (
        f"At epoch {epoch} the linear stage lowers {' and '.join(parts)} more than the nonlinear stage does."
    )


def _story_of_rfm(run: RunRecords) -> list[str]:
    task, lines = run.config["task"], []
    name = {"test_accuracy": "accuracy", "test_r2": "R²"}[score_of(task)]
    for view in _parts(run):
        rows = complete_rows(run, view)
        if 0 in mean_by_iteration(rows, score_of(task)):
            lines.append(cell_line(task, run.config, view.place, rows))
    return [f"Held-out {name}, {_of_seeds(run.rows)}: {'; '.join(lines)}."] if lines else []


def _story_of_conv(rows: list[Row]) -> list[str]:
    found = mean_by_iteration(rows, "test_accuracy")
    if 0 not in found:
        return []
    parts = [f"{found[i]:.2%} after {i} update{'s' * (i > 1)} of M" for i in found if i]
    learned = f", and {', '.join(parts)}" if parts else ""
    lines = [f"The plain kernel has a held-out accuracy of {found[0]:.2%}{learned} ({_of_seeds(rows)})."]
    picked = {row["seed"]: row["iteration"] for row in rows_at(rows, {"metric": SELECTED})}
    scores = [
        row["value"]
        for row in rows_at(rows, {"metric": "test_accuracy"})
        if picked.get(row["seed"]) == row["iteration"]
    ]
    if scores:
        where = sorted(set(picked.values()))
        names = f"iteration {where[0]}" if len(where) == 1 else f"iterations {where[0]} to {where[-1]}"
        lines.append(f"Validation picks {names}: {mean(scores):.2%}.")
    return lines


def _of_seeds(rows: Sequence[Row]) -> str:
    number = len({row["seed"] for row in rows})
    return "one seed" if number == 1 else f"mean of {number} seeds"


def names_of(runs: Sequence[RunRecords], changed: dict[str, list[Any]]) -> list[str]:
    """Returns short names of runs: what differs in their configurations, else their folders."""
    options = {name: values for name, values in changed.items() if name != "data_sha256"}
    if len(runs) == 1:
        return [runs[0].folder.name]
    names = [", ".join(f"{name} {values[i]}" for name, values in options.items()) for i in range(len(runs))]
    short = [name if 0 < len(name) <= 60 else run.folder.name for name, run in zip(names, runs, strict=True)]
    ways = (
        [f"{name} ({run.folder.name})" for name, run in zip(short, runs, strict=True)],
        [f"{name} ({run.folder})" for name, run in zip(short, runs, strict=True)],
        [f"{number}: {name}" for number, name in enumerate(short, start=1)],
    )
    # Folders may have one name, and a text may look like what another run has.
    return next(found for found in (short, *ways) if len(set(found)) == len(runs))
