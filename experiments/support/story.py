"""What happened in a run, in words and with its numbers."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import geometric_mean, mean

from experiments.support.console import BELOW_FLOOR
from experiments.support.records import Row


def closing_line(rows: Iterable[Row], workdir: Path) -> str:
    """Returns how far NC1 fell, which stage lowered it, and where the files are."""
    return "\n".join(["", *story_lines(rows), f"Records, checkpoints and figures are in {workdir}"])


def story_lines(rows: Iterable[Row]) -> list[str]:
    """Returns how far NC1 fell, which stage lowered it, and from which layer on rounding decides.

    Every seed of the rows needs the same layers.
    """
    nc1 = {(r["seed"], r["layer"], r["stage"]): r for r in rows if r["metric"] == "nc1"}
    seeds = sorted({seed for seed, _, _ in nc1})
    depth = max(layer for _, layer, _ in nc1)
    first = geometric_mean(nc1[seed, 1, "input"]["value"] for seed in seeds)
    last = geometric_mean(nc1[seed, depth, "nonlinear"]["value"] for seed in seeds)
    pairs = [(seed, layer) for seed in seeds for layer in range(1, depth + 1)]
    lowered = {
        after: sum(nc1[s, n, after]["value"] < nc1[s, n, before]["value"] for s, n in pairs)
        for before, after in (("input", "linear"), ("linear", "nonlinear"))
    }
    below = [layer for (_, layer, _), row in nc1.items() if row.get("below_floor")]
    is_below = any(nc1[seed, depth, "nonlinear"].get("below_floor") for seed in seeds)
    mark = BELOW_FLOOR if is_below else ""
    counted = f"{len(pairs)} layer{'s' * (len(pairs) > 1)}"
    if len(seeds) > 1:
        counted = f"{len(pairs)} cases, {depth} layer{'s' * (depth > 1)} in each of {len(seeds)} seeds"
    lines = [
        f"NC1 went from {first:.2g} at the input to {mark}{last:.2g} after {depth} layer{'s' * (depth > 1)}, "
        f"{mark}{change(first, last)} (mean of {len(seeds)} seed{'s' * (len(seeds) > 1)}).",
        f"Of {counted}, the linear stage, M^(1/2) x, lowered it in {lowered['linear']}, "
        f"the nonlinear stage, phi, in {lowered['nonlinear']}.",
    ]
    if below:
        lines.append(
            f"From layer {min(below)} on, numbers marked ~ are below the float floor: do not cite them."
        )
    return lines


def over_seeds(metric: str, values: Sequence[float]) -> float:
    """Returns the mean of a metric over seeds; the geometric one of NC1 where it is positive."""
    is_nc1 = metric.removeprefix("test_").startswith("nc1")
    return geometric_mean(values) if is_nc1 and min(values) > 0 else mean(values)


def change(first: float, last: float) -> str:
    """Returns by which factor a number fell or rose, in words."""
    return f"{first / last:.3g} times smaller" if last < first else f"{last / first:.3g} times larger"
