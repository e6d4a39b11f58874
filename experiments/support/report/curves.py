"""The curves of a report: which metrics are drawn, where they are read, and their points over seeds."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from experiments.support.plotting.reading import STAGES
from experiments.support.records import Row
from experiments.support.report.reading import RunRecords
from experiments.support.rfm_options import cells
from experiments.support.story import over_seeds

MACHINE, NETWORK, MATRIX, WEIGHTS = (("machine",), ("network",), ("feature_matrix",), ("weights",))
INPUT = ("input",)
# The points that a metric is of, and the prefix of its name in the records.
OF_CLASSES = {"training": "", "held-out": "test_"}
OF_RUN = {"": ""}
OF_FITS = {"training": "train_", "validation": "validation_", "held-out": "test_"}
SHARE = "fraction of points"


class Panel(NamedTuple):
    """A metric that is drawn by step: its title, the label of its axis, and the stages it is measured at."""

    metric: str
    title: str
    label: str
    stages: tuple[str, ...] = STAGES
    is_log: bool = False
    prefixes: Mapping[str, str] = OF_CLASSES
    at_head: bool = False


class View(NamedTuple):
    """A part of a run that has curves of its own: a network's layer, or a target of a task."""

    name: str
    place: dict[str, int]


NC1 = Panel("nc1", "NC1: within-class variability", "tr(Σ_W Σ_B⁺) / K", is_log=True)
RATIO = Panel("nc1_trace_ratio", "Trace ratio: NC1 without weights", "tr Σ_W / tr Σ_B", is_log=True)
NC2 = Panel("nc2", "NC2: class means against a simplex", "‖G/‖G‖ − E/‖E‖‖", is_log=True)
NC4_LABEL = "fraction decided otherwise"
ACCURACY = Panel("accuracy", "Accuracy", SHARE, MACHINE, prefixes=OF_FITS)
ERROR = Panel("mean_squared_error", "Mean squared error", "mean squared error", MACHINE, True, OF_FITS)

PANELS: dict[str, tuple[Panel, ...]] = {
    "deep_rfm": (
        NC1,
        NC2,
        Panel("nc4", "NC4: against the nearest class mean", NC4_LABEL),
        ACCURACY._replace(title="Accuracy: kernel machine of the layer"),
        RATIO,
        Panel(
            "condition_estimate", "Condition number of the kernel matrix", "estimate", MACHINE, True, OF_RUN
        ),
    ),
    "train_network": (
        NC1,
        NC2,
        Panel(
            "nc3", "NC3: classifier against class means", "‖Ŵ − M̂‖, at the classifier", INPUT, at_head=True
        ),
        Panel("nc4", "NC4: against the nearest class mean", NC4_LABEL, INPUT, at_head=True),
        ACCURACY._replace(stages=NETWORK, at_head=True),
        RATIO,
        Panel("loss", "Loss", "loss", NETWORK, True, OF_FITS, at_head=True),
        Panel("nfa_correlation", "Weights against the AGOP", "Pearson correlation", WEIGHTS, False, OF_RUN),
        Panel(
            "nfa_correlation_root", "Weights against AGOP^½", "Pearson correlation", WEIGHTS, False, OF_RUN
        ),
    ),
    "rfm": (
        Panel("r2", "Explained variance", "R²", MACHINE, prefixes=OF_FITS),
        ACCURACY,
        ERROR,
        Panel(
            "eigenvector_alignment",
            "Top eigenvectors of M in the true subspace",
            "mean cos²",
            MATRIX,
            False,
            OF_RUN,
        ),
        Panel("subspace_alignment", "M in the true subspace", "cosine of M and U Uᵀ", MATRIX, False, OF_RUN),
        Panel("alignment_with_last", "M against the last M", "cosine", MATRIX, False, OF_RUN),
        *(
            Panel(
                f"circulant_deviation_{block}",
                f"Block {name} of M, from circulant",
                "deviation",
                MATRIX,
                False,
                OF_RUN,
            )
            for block, name in (("first", "A"), ("second", "B"), ("cross", "C"))
        ),
    ),
    "conv_rfm": (
        ACCURACY,
        ERROR,
        Panel("top_eigenvalue_share", "Largest eigenvalue of M", "share of the trace", MATRIX, False, OF_RUN),
        Panel("effective_rank", "Effective rank of M", "exp(entropy)", MATRIX, False, OF_RUN),
    ),
}


def views_of(run: RunRecords) -> list[View]:
    """Returns the parts of a run: the layers of a network before its head, the targets of a task, or all."""
    if run.command == "train_network":
        layers = sorted({row["layer"] for row in run.rows if row["stage"] == "nonlinear"})
        return [View(f"layer {layer}", {"layer": layer}) for layer in layers] or [View("", {})]
    if run.command == "rfm":
        return [View(", ".join(f"{k} {v}" for k, v in cell.items()), cell) for cell in cells(run.config)]
    return [View("", {})]


def steps_of(run: RunRecords) -> list[int]:
    """Returns the steps that the slider goes through: of a network the epochs at which it was measured."""
    measured = (
        common_epochs([row for row in run.rows if row["metric"] == "nc1"]) if run.step == "epoch" else []
    )
    return measured or sorted({row[run.step] for row in run.rows})


def common_epochs(rows: Iterable[Row]) -> list[int]:
    """Returns the epochs of rows that no seed lacks which has later ones.

    Others are those at which one seed first has all training points correct: alone, it would bend a mean. A
    seed that has not come so far lacks nothing.
    """
    epochs: dict[int, set[int]] = {}
    for row in rows:
        epochs.setdefault(row["seed"], set()).add(row["epoch"])
    lasts = {seed: max(own) for seed, own in epochs.items()}
    every = sorted(set().union(*epochs.values()))
    return [at for at in every if all(at in own or lasts[seed] < at for seed, own in epochs.items())]


def panels_with_points(run: RunRecords) -> list[Panel]:
    """Returns the panels of an experiment of which a run has any number."""
    metrics = {row["metric"] for row in run.rows}
    return [
        panel
        for panel in PANELS[run.command]
        if any(prefix + panel.metric in metrics for prefix in panel.prefixes.values())
    ]


def curves_of(run: RunRecords, view: View, panel: Panel) -> list[dict[str, Any]]:
    """Returns the curves of a panel, one per stage and set of points that has any value."""
    place: Mapping[str, int] = view.place
    if run.command == "train_network":
        place = {"layer": max(row["layer"] for row in run.rows)} if panel.at_head else view.place
    found = []
    for stage in panel.stages:
        for points, prefix in panel.prefixes.items():
            rows = rows_at(run.rows, place | {"stage": stage, "metric": prefix + panel.metric})
            if rows:
                named = {"stage": stage if panel.stages == STAGES else "", "points": points}
                found.append(named | curve(rows, run.step))
    return found


def rows_at(rows: Iterable[Row], place: Mapping[str, object]) -> list[Row]:
    """Returns the rows of which every named field has the given value."""
    items = place.items()
    return [row for row in rows if all(row.get(name) == value for name, value in items)]


def curve(rows: Sequence[Row], by: str) -> dict[str, list[Any]]:
    """Returns by step the mean over seeds, the smallest and the largest value, and how many seeds there are.

    Of epochs these are `common_epochs`.
    """
    found: dict[int, list[Row]] = {}
    for row in rows:
        found.setdefault(row[by], []).append(row)
    steps = common_epochs(rows) if by == "epoch" else sorted(found)
    metric, values = rows[0]["metric"], {at: [row["value"] for row in found[at]] for at in steps}
    return {
        "x": steps,
        "mean": [rounded(over_seeds(metric, values[at])) for at in steps],
        "low": [rounded(min(values[at])) for at in steps],
        "high": [rounded(max(values[at])) for at in steps],
        "seeds": [len(values[at]) for at in steps],
        "below": [any(row.get("below_floor") for row in found[at]) for at in steps],
    }


def rounded(value: float) -> float:
    """Returns a number to six digits, which keep the page small."""
    return float(f"{value:.6g}")
