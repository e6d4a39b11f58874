"""What happened while a network was trained, in words and with its numbers."""

from collections.abc import Sequence
from pathlib import Path
from statistics import geometric_mean, mean

from experiments.support.records import Row
from experiments.support.story import change, over_seeds

TITLES = {"nc1_trace_ratio": "tr Sigma_W / tr Sigma_B", "nc1": "NC1 = tr(Sigma_W pinv(Sigma_B)) / K"}


def terminal_epoch(rows: Sequence[Row], seed: int) -> int | None:
    """Returns the first epoch at which all training points are classified correctly, if there is one.

    References:
        Papyan, Han and Donoho (2020): the terminal phase of training begins there.
    """
    epochs = [
        r["epoch"]
        for r in rows
        if r["seed"] == seed and r["metric"] == "train_accuracy" and r["value"] == 1.0
    ]
    return min(epochs, default=None)


def terminal_phase(rows: Sequence[Row]) -> list[Row]:
    """Returns how far every collapse metric fell before and after the terminal phase began.

    Each row has the value before the first step, where the phase begins, and after the last epoch;
    fell_before and fell_after are quotients of successive ones, left out where a value is not positive. Seeds
    that do not reach the phase have no rows.
    """
    begun = {seed: terminal_epoch(rows, seed) for seed in {row["seed"] for row in rows}}
    last = max(row["epoch"] for row in rows)
    series: dict[tuple[int, int, str, str], dict[int, float]] = {}
    for row in rows:
        if row["metric"].removeprefix("test_").startswith("nc"):
            place = row["seed"], row["layer"], row["stage"], row["metric"]
            series.setdefault(place, {})[row["epoch"]] = row["value"]
    found = []
    for (seed, layer, stage, metric), values in series.items():
        terminal = begun[seed]
        if terminal is None or not {0, terminal, last} <= values.keys():
            continue
        first, at, end = values[0], values[terminal], values[last]
        place = {"seed": seed, "layer": layer, "stage": stage, "metric": metric, "terminal_epoch": terminal}
        fell = {"fell_before": first / at, "fell_after": at / end} if min(first, at, end) > 0 else {}
        found.append(place | {"first": first, "at_terminal": at, "last": end} | fell)
    return found


def closing_lines(rows: Sequence[Row], workdir: Path) -> str:
    """Returns how far NC1 fell, by which stage of which layer, when the terminal phase began."""
    parts = ["", *fall_lines(rows), "", *layer_table(rows), terminal_line(rows)]
    return "\n".join([*parts, f"Records, checkpoints and figures are in {workdir}"])


def fall_lines(rows: Sequence[Row]) -> list[str]:
    """Returns how far NC1 of the last hidden layer fell, by the trace ratio and as it is, one line each."""
    depth = max(row["layer"] for row in rows if row["stage"] == "nonlinear")
    last = max(row["epoch"] for row in rows)
    lines = []
    for metric, name in TITLES.items():
        first, end = (average(rows, metric, depth, "nonlinear", epoch) for epoch in (0, last))
        if first and end:
            lines.append(
                f"{name} of the last hidden layer went from {first:.3g} to {end:.3g} in {last} epochs, "
                f"{change(first, end)}."
            )
    return lines


def average(rows: Sequence[Row], metric: str, layer: int, stage: str, epoch: int) -> float | None:
    """Returns the mean over seeds, geometric for what is positive by definition; None without a value."""
    place = {"metric": metric, "layer": layer, "stage": stage, "epoch": epoch}
    found = [row["value"] for row in rows if place.items() <= row.items()]
    if not found:
        return None
    return over_seeds(metric, found)


def layer_table(rows: Sequence[Row]) -> list[str]:
    """Returns NC1 at the three stages and the ansatz by layer after the last epoch, means over seeds."""
    last = max(row["epoch"] for row in rows)
    seeds = len({row["seed"] for row in rows})
    lines = [
        f"epoch {last}, mean of {seeds} seed{'s' * (seeds > 1)}",
        "layer   tr Sigma_W / tr Sigma_B           NC1                           NFA, Pearson with",
        "        input   linear  nonlinear         input   linear  nonlinear     AGOP  AGOP^1/2  centered",
    ]
    for layer in sorted({row["layer"] for row in rows if row["stage"] == "nonlinear"}):
        ratios, nc1 = (stage_means(rows, metric, layer, last) for metric in ("nc1_trace_ratio", "nc1"))
        ansatz = [
            average(rows, metric, layer, "weights", last)
            for metric in ("nfa_correlation", "nfa_correlation_root", "centered_nfa_correlation_root")
        ]
        lines.append(f"{layer:>5}   {_three(ratios)}       {_three(nc1)}    {_three(ansatz)}".rstrip())
    for metric, name in (("nc1_trace_ratio", "the trace ratio"), ("nc1", "NC1")):
        lines.append(f"By {name}: {layers_by_verdict(rows, metric, last)}.")
    return lines


def stage_means(rows: Sequence[Row], metric: str, layer: int, epoch: int) -> list[float | None]:
    """Returns the mean over seeds of a metric at the three stages of a layer."""
    return [average(rows, metric, layer, stage, epoch) for stage in ("input", "linear", "nonlinear")]


def layers_by_verdict(rows: Sequence[Row], metric: str, epoch: int) -> str:
    """Returns which layers each verdict holds of, as words such as "linear dominates in layers 1-3, 5"."""
    found: dict[str, list[int]] = {}
    for layer in sorted({row["layer"] for row in rows if row["stage"] == "nonlinear"}):
        verdict = stage_verdict(*stage_means(rows, metric, layer, epoch))
        found.setdefault(verdict or "not measured", []).append(layer)
    return "; ".join(
        f"{verdict} in layer{'s' * (len(layers) > 1)} {in_ranges(layers)}"
        for verdict, layers in found.items()
    )


def in_ranges(layers: Sequence[int]) -> str:
    """Returns ascending numbers in words, such as 1-3, 5."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _three(values: Sequence[float | None]) -> str:
    return " ".join(f"{'-' if value is None else format(value, '.3g'):<8}" for value in values)


def stage_verdict(before: float | None, linear: float | None, after: float | None) -> str:
    """Returns which of the two factors by which the stages of a layer lower a metric dominates, in words.

    Empty without a value.
    """
    if not before or not linear or not after:
        return ""
    by_linear, by_nonlinear = before / linear, linear / after
    if not max(by_linear, by_nonlinear) > 1:
        return "neither stage lowers it"
    return "linear dominates" if by_linear >= by_nonlinear else "nonlinear dominates"


def fell_around(rows: Sequence[Row]) -> tuple[float, float] | None:
    """Returns by which factors NC1 of the last hidden layer fell before and after the terminal phase."""
    depth = max(row["layer"] for row in rows if row["metric"] == "nc1" and row["stage"] == "nonlinear")
    place = {"layer": depth, "stage": "nonlinear", "metric": "nc1"}
    found = [row for row in terminal_phase(rows) if place.items() <= row.items() and "fell_before" in row]
    if not found:
        return None
    before, after = (geometric_mean([row[name] for row in found]) for name in ("fell_before", "fell_after"))
    return before, after


def _fell(rows: Sequence[Row]) -> str:
    found = fell_around(rows)
    if found is None:
        return ""
    return f" NC1 of the last hidden layer fell {found[0]:.3g} times before, {found[1]:.3g} times after it."


def terminal_epochs(rows: Sequence[Row]) -> list[int | None]:
    """Returns `terminal_epoch` of every seed, in their order."""
    return [terminal_epoch(rows, seed) for seed in sorted({row["seed"] for row in rows})]


def terminal_line(rows: Sequence[Row]) -> str:
    """Returns when all training points were correct, in how many seeds, and how far NC1 fell after that."""
    epochs = terminal_epochs(rows)
    begun = [epoch for epoch in epochs if epoch is not None]
    if not begun:
        return "The terminal phase (all training points correct) was not reached."
    return (
        f"The terminal phase (all training points correct) began at epoch {mean(begun):.0f}, "
        f"reached by {len(begun)} of {len(epochs)} seed{'s' * (len(epochs) > 1)}." + _fell(rows)
    )
