"""Draws every figure of a Deep RFM run."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from matplotlib.figure import Figure

from dnc_jax import NumericalError
from experiments.support.plotting import agop_figures, first_layer, heat_maps, layer_curves
from experiments.support.plotting.reading import (
    STAGES,
    RunConfig,
    places_below_floor,
    read_array,
    read_config,
    read_metrics,
    recorded_layers,
)
from experiments.support.plotting.seed_summary import curve_table, curves, require_metrics
from experiments.support.plotting.writing import write_figures
from experiments.support.records import Run

Table = list[dict[str, object]]


def draw_figures(workdir: Path) -> list[Path]:
    """Returns the paths of the png files drawn from the records of a run.

    Each figure is written to `<workdir>/figures` as png and pdf, with a csv of the numbers behind it.
    Nothing is measured again: curves come from `metrics.jsonl` (all seeds), matrices
    from `arrays` (first seed).

    Raises:
        RecordsError: A record is missing or damaged.
    """
    return write_figures(workdir / "figures", workdir, FIGURES)


@contextmanager
def figures_of(run: Run) -> Iterator[None]:
    """Draws the figures of a run when it ends; of its finished layers where float precision ends it."""
    try:
        yield
    except NumericalError as error:
        if not run.metrics.stat().st_size:
            raise
        draw_figures(run.workdir)
        raise type(error)(
            f"{error}. Records and figures of the finished layers are in {run.workdir}"
        ) from error
    draw_figures(run.workdir)


def _collapse(workdir: Path) -> tuple[Figure, Table]:
    rows = read_metrics(workdir)
    points = curves(rows, ("nc1", "nc2", "test_nc1", "test_nc2"), STAGES, positive_only=True)
    require_metrics(points, ("nc1", "nc2"))
    return layer_curves.collapse_by_layer(points, read_config(workdir)), curve_table(points)


def _accuracy(workdir: Path) -> tuple[Figure, Table]:
    rows = read_metrics(workdir)
    points = curves(rows, ("train_accuracy", "test_accuracy"), ("machine",), positive_only=False)
    points += curves(rows, ("nc4",), STAGES, positive_only=False)
    require_metrics(points, ("train_accuracy", "nc4"))
    return layer_curves.accuracy_by_layer(points, read_config(workdir)), curve_table(points)


def _gram(workdir: Path) -> tuple[Figure, Table]:
    config, layers, below = _config_and_layers(workdir)
    maps = {layer: heat_maps.read_gram_maps(workdir, layer) for layer in heat_maps.selected_layers(layers)}
    return heat_maps.gram_heat_maps(maps, config, below), heat_maps.class_cosine_table(maps, below)


def _spectra(workdir: Path) -> tuple[Figure, Table]:
    config, layers, below = _config_and_layers(workdir)
    spectra = {layer: read_array(workdir, layer, "agop_spectrum", ndim=1) for layer in layers}
    learned_below = frozenset(layer for layer, stage in below if stage == "linear")
    figure = agop_figures.agop_spectra(spectra, config, learned_below)
    return figure, agop_figures.spectrum_table(spectra, config, learned_below)


def _first_layer(workdir: Path) -> tuple[Figure, Table]:
    config = read_config(workdir)
    matrix = agop_figures.read_feature_matrix(workdir, 1)
    return first_layer.agop_first_layer(matrix, config), first_layer.first_layer_table(matrix, config)


def _config_and_layers(workdir: Path) -> tuple[RunConfig, list[int], frozenset[tuple[int, str]]]:
    """Returns the configuration, the layers of the first seed, and which of them lie below the floor."""
    config, rows = read_config(workdir), read_metrics(workdir)
    seed = config.seeds[0]
    return config, recorded_layers(rows, seed), places_below_floor(rows, seed)


FIGURES: dict[str, Callable[[Path], tuple[Figure, Table]]] = {
    "collapse_by_layer": _collapse,
    "accuracy_by_layer": _accuracy,
    "gram_heat_maps": _gram,
    "agop_spectra": _spectra,
    "agop_first_layer": _first_layer,
}
