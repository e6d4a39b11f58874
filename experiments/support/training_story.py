"""What happened while a network was trained, in words and with its numbers."""

from collections.abc import Sequence
from pathlib import Path
from statistics import geometric_mean, mean

from experiments.support.records import Row
from experiments.support.story import change


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
    """Returns how far NC1 fell, by which stage, when the terminal phase began, and where the files are."""
    nc1 = {(r["seed"], r["epoch"], r["layer"], r["stage"]): r["value"] for r in rows if r["metric"] == "nc1"}
    seeds = sorted({seed for seed, *_ in nc1})
    last_epoch = max(epoch for _, epoch, *_ in nc1)
    depth = max(layer for _, _, layer, stage in nc1 if stage == "nonlinear")
    ends = [
        (nc1.get((s, 0, depth, "nonlinear")), nc1.get((s, last_epoch, depth, "nonlinear"))) for s in seeds
    ]
    lines = [""]
    both = [(first, last) for first, last in ends if first and last]
    if both:
        first, last = (geometric_mean(values) for values in zip(*both, strict=True))
        lines.append(
            f"NC1 of the last hidden layer went from {first:.3g} to {last:.3g} in {last_epoch} epochs, "
            f"{change(first, last)} (mean of {len(both)} seed{'s' * (len(both) > 1)})."
        )
    lines += [_layer_line(nc1, seeds, last_epoch, layer) for layer in range(1, depth + 1)]
    lines.append(_terminal_line(rows, seeds))
    lines.append(f"Records, checkpoints and figures are in {workdir}")
    return "\n".join(lines)


def _layer_line(nc1: dict[tuple[int, int, int, str], float], seeds: list[int], epoch: int, layer: int) -> str:
    def of(stage: str) -> float:
        found = [nc1[s, epoch, layer, stage] for s in seeds if (s, epoch, layer, stage) in nc1]
        return geometric_mean(found) if found and min(found) > 0 else float("nan")

    before, linear, after = of("input"), of("linear"), of("nonlinear")
    return f"  layer {layer}: NC1 {before:.3g} -> linear {linear:.3g} -> nonlinear {after:.3g}; " + _verdict(
        before / linear, linear / after
    )


def _verdict(linear: float, nonlinear: float) -> str:
    """Returns which of the two factors by which the stages lowered NC1 dominates, in words."""
    if not max(linear, nonlinear) > 1:
        return "neither stage lowered it"
    if linear >= nonlinear:
        return "the linear stage dominates" + (
            "; the nonlinear one undoes part of it" if nonlinear < 1 else ""
        )
    return "the nonlinear stage dominates, not the linear one"


def _fell(rows: Sequence[Row]) -> str:
    depth = max(row["layer"] for row in rows if row["metric"] == "nc1" and row["stage"] == "nonlinear")
    place = {"layer": depth, "stage": "nonlinear", "metric": "nc1"}
    found = [row for row in terminal_phase(rows) if place.items() <= row.items() and "fell_before" in row]
    if not found:
        return ""
    before, after = (geometric_mean([row[name] for row in found]) for name in ("fell_before", "fell_after"))
    return f" NC1 of the last hidden layer fell {before:.3g} times before, {after:.3g} times after it."


def _terminal_line(rows: Sequence[Row], seeds: list[int]) -> str:
    begun = [epoch for epoch in (terminal_epoch(rows, seed) for seed in seeds) if epoch is not None]
    if not begun:
        return "The terminal phase (all training points correct) was not reached."
    return (
        f"The terminal phase (all training points correct) began at epoch {mean(begun):.0f}, "
        f"reached by {len(begun)} of {len(seeds)} seed{'s' * (len(seeds) > 1)}." + _fell(rows)
    )
