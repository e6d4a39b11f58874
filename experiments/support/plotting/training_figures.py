"""Figures of a network's training, drawn from its records alone."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dnc_jax.training import TrainingError
from experiments.support.checkpoint import CheckpointError, load_arrays
from experiments.support.plotting.reading import STAGES
from experiments.support.plotting.style import STAGE_STYLES, StageStyle, layer_ticks, new_figure
from experiments.support.plotting.training_drawing import (
    LABELS,
    Records,
    Table,
    draw_lines,
    finish,
    handles_of,
    mark_terminal_phase,
    phase_handle,
    stage_handles,
)
from experiments.support.plotting.training_geometry import class_mean_cosines, papyan_set, simplex_projection
from experiments.support.plotting.writing import write_figures
from experiments.support.records import RecordsError, Run, read_run
from experiments.support.training_story import layers_by_verdict, stage_means, stage_verdict

ANSATZ = {
    "nfa_correlation": StageStyle("#0072B2", "o", "AGOP", ""),
    "nfa_correlation_root": StageStyle("#D55E00", "s", r"AGOP$^{1/2}$", ""),
    "centered_nfa_correlation_root": StageStyle("#009E73", "^", r"$W-W_0$ with AGOP$^{1/2}$", ""),
}
TITLES = {"nc1": r"NC1 = tr$(\Sigma_W\,\Sigma_B^{+})\;/\;K$", "nc2": "NC2, distance from a simplex"}
# Panels side by side, and the inches that a headline and a legend need.
MAX_COLUMNS, MIN_WIDTH = 6, 8.0


@contextmanager
def figures_of(run: Run) -> Iterator[None]:
    """Draws the figures of a run when it ends, and those of its epochs until a loss that is not finite."""
    try:
        yield
    except TrainingError as error:
        if '"nc1"' in run.metrics.read_text(encoding="utf-8"):
            # What stopped the training is to be read, whatever becomes of the figures.
            with suppress(ValueError, OSError):
                draw_figures(run.workdir)
        raise TrainingError(f"{error}. Records, and the checkpoint before, are in {run.workdir}") from error
    draw_figures(run.workdir)


def draw_figures(workdir: Path) -> list[Path]:
    """Returns the paths of the png files drawn from the records of a run; each has a pdf and a csv beside it.

    Raises:
        RecordsError: If a record is missing or damaged.
    """
    return write_figures(workdir / "figures", read_records(workdir), FIGURES)


def read_records(workdir: Path) -> Records:
    """Returns the configuration, the rows and the arrays of a run.

    Raises:
        RecordsError: If a file is missing or damaged.
    """
    try:
        config, rows = read_run(workdir)
        measured = sorted({row["epoch"] for row in rows if row["metric"] == "nc1"})
        paths = {epoch: Run(workdir).epoch_arrays(epoch) for epoch in measured}
        arrays = {epoch: load_arrays(path) for epoch, path in paths.items() if path.exists()}
    except (OSError, ValueError, CheckpointError) as error:
        raise RecordsError(
            f"the records in {workdir} cannot be read: {error}; a damaged file of arrays/ may be removed, "
            "figures are then drawn without its epoch; or start over with --no-resume"
        ) from error
    if not measured or not arrays:
        raise RecordsError(f"{workdir} has no measured epoch yet: got {len(rows)} rows; resume the run")
    return Records(config, rows, arrays)


def collapse_by_epoch(records: Records) -> tuple[Figure, Table]:
    """Returns NC1 and NC2 by epoch at the three stages, a pair of panels for each layer before the head."""
    layers, table = records.layers, []
    columns = min(len(layers), MAX_COLUMNS)
    num_bands = -(-len(layers) // columns)
    figure = new_figure(max(MIN_WIDTH, 1.2 + 2.2 * columns), 1.2 + 4.4 * num_bands)
    measured = max(records.arrays)
    panels = figure.subplots(2 * num_bands, columns, sharex=True, squeeze=False)
    for index, layer in enumerate(layers):
        band, column = divmod(index, columns)
        for metric, axes in zip(TITLES, panels[2 * band : 2 * band + 2, column], strict=True):
            for stage in STAGES:
                place = {"layer": layer, "stage": stage, "metric": metric}
                table += draw_lines(axes, records.rows, "epoch", STAGE_STYLES[stage], **place)
            mark_terminal_phase(axes, records)
            axes.set_yscale("log")
            axes.grid(axis="y", color="#e3e3e3", linewidth=0.7)
            if column == 0:
                axes.set_ylabel(TITLES[metric])
        verdict = stage_verdict(*stage_means(records.rows, "nc1", layer, measured))
        panels[2 * band, column].set_title(f"layer {layer}\n{verdict}", fontsize=8.5)
        panels[2 * band + 1, column].set_xlabel("epoch")
    for number in range(len(layers), num_bands * columns):
        for axes in panels[-2:, number % columns]:
            axes.set_visible(False)
    headline = f"Neural collapse through training, by layer, and what lowers NC1 at epoch {measured}"
    finish(figure, headline, records.config, stage_handles(records))
    return figure, table


def ansatz_by_layer(records: Records) -> tuple[Figure, Table]:
    """Returns trace ratios by layer, correlations of weights with AGOPs by layer, and loss by epoch."""
    config, rows = records.config, records.rows
    figure = new_figure(12.0, 4.6)
    left, middle, right = figure.subplots(1, 3)
    measured = max(row["epoch"] for row in rows if row["metric"] == "nc1_trace_ratio")
    last = [row for row in rows if row["epoch"] == measured]
    table = []
    for stage in STAGES:
        table += draw_lines(left, last, "layer", STAGE_STYLES[stage], stage=stage, metric="nc1_trace_ratio")
    for metric, style in ANSATZ.items():
        table += draw_lines(middle, last, "layer", style, stage="weights", metric=metric)
    for metric, style in (("train_loss", "-"), ("test_loss", "--")):
        drawn = StageStyle("#333333", "", metric, "")
        table += draw_lines(right, rows, "epoch", drawn, line=style, stage="network", metric=metric)
    mark_terminal_phase(right, records)
    for axes in (left, right):
        axes.set_yscale("log")
    left.set(xlabel="layer", ylabel=r"tr $\Sigma_W$ / tr $\Sigma_B$")
    verdicts = layers_by_verdict(rows, "nc1_trace_ratio", measured).replace("; ", "\n")
    left.set_title(f"epoch {measured}\n{verdicts}", fontsize=8.5)
    middle.set(title="weights against AGOP", xlabel="layer", ylabel="Pearson correlation of the entries")
    right.set(title="loss", xlabel="epoch", ylabel=f"{config['loss'].replace('_', '-')} loss")
    for axes in (left, middle):
        axes.set_xticks(layer_ticks(max(records.layers) + 1))
    left.legend(handles=handles_of({LABELS[s]: STAGE_STYLES[s] for s in STAGES}))
    middle.legend(handles=handles_of({style.label: style for style in ANSATZ.values()}))
    solid, dashed = (Line2D([], [], color="#333333", linestyle=line) for line in ("-", "--"))
    has_test = any(row["metric"] == "test_loss" for row in rows)
    right.legend([solid, dashed] if has_test else [solid], ["training", "held-out"][: 1 + has_test])
    finish(figure, "Collapse and the neural feature ansatz after training", config, phase_handle(records))
    return figure, table


FIGURES: dict[str, Callable[[Records], tuple[Figure, Table]]] = {
    "collapse_by_epoch": collapse_by_epoch,
    "ansatz_by_layer": ansatz_by_layer,
    "papyan_set": papyan_set,
    "class_mean_cosines": class_mean_cosines,
    "simplex_projection": simplex_projection,
}
