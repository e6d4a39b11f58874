"""The learned feature matrices M: their spectra by layer, and what the first layer looks at."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure

from experiments.support.plotting.reading import RunConfig, read_array
from experiments.support.plotting.style import layer_ticks, new_figure, set_title
from experiments.support.records import RecordsError


@dataclass(frozen=True)
class FeatureMatrix:
    """What is recorded of one layer's M: all eigenvalues, its top eigenvectors as rows, and its diagonal."""

    spectrum: Float[np.ndarray, "d"]
    eigenvectors: Float[np.ndarray, "r d"]
    diagonal: Float[np.ndarray, "d"]


def read_feature_matrix(workdir: Path, layer: int) -> FeatureMatrix:
    """Returns what is recorded of one layer's M."""
    return FeatureMatrix(
        spectrum=read_array(workdir, layer, "agop_spectrum", ndim=1),
        eigenvectors=read_array(workdir, layer, "agop_eigenvectors", ndim=2),
        diagonal=read_array(workdir, layer, "agop_diagonal", ndim=1),
    )


def spectrum_floor(config: RunConfig) -> float:
    """Returns the floor of the relative eigenvalues: the machine epsilon of the run's precision.

    Of a mixed run that of float32 squared, since M is a product of gradients that are in float32 at worst.
    """
    if config.precision == "mixed":
        return float(np.finfo("float32").eps) ** 2
    return float(np.finfo(config.precision).eps)


def relative_spectrum(spectrum: Float[np.ndarray, "d"]) -> Float[np.ndarray, "d"]:
    """Returns the eigenvalues divided by the largest; raises RecordsError where that one is not positive."""
    largest = spectrum.max(initial=0.0)
    if largest <= 0:
        raise RecordsError(
            f"agop_spectrum is not drawable: got largest eigenvalue {largest}, expected a positive one; "
            "the layer learned nothing: check the targets, then run again"
        )
    return spectrum / largest


def agop_spectra(
    spectra: Mapping[int, Float[np.ndarray, "d"]], config: RunConfig, below: Collection[int] = ()
) -> Figure:
    """Returns the eigenvalues of M, relative to their largest, by index and log-log, a line per layer.

    below names the layers that lie below the float floor; their lines are dashed.
    """
    figure = new_figure(7.5, 4.8)
    axes = figure.subplots()
    colors, norm = _layer_colors(list(spectra))
    floor = spectrum_floor(config)
    for layer, spectrum in spectra.items():
        shown = np.maximum(relative_spectrum(spectrum), floor)
        index = np.arange(1, len(shown) + 1)
        line, marker = ("--", "") if layer in below else ("-", ".")
        color = colors(norm(layer))
        axes.plot(index, shown, color=color, linewidth=1.1, linestyle=line, marker=marker, markersize=2.2)
    axes.set(xscale="log", yscale="log", xlabel="index of the eigenvalue", ylabel="eigenvalue of M / largest")
    axes.grid(which="major", color="#e3e3e3", linewidth=0.7)
    _draw_floor(axes, floor, config.precision)
    if below:
        note = f"dashed: from layer {min(below)} on, below the {config.precision} floor"
        axes.annotate(note, xy=(0.98, 0.97), xycoords="axes fraction", ha="right", va="top", fontsize=9)
    bar = figure.colorbar(
        ScalarMappable(norm, colors), ax=axes, ticks=layer_ticks(max(spectra)), label="layer"
    )
    bar.ax.minorticks_off()
    set_title(figure, "Spectrum of the learned feature matrix M, by layer", config, config.seeds[:1])
    return figure


def spectrum_table(
    spectra: Mapping[int, Float[np.ndarray, "d"]], config: RunConfig, below: Collection[int] = ()
) -> list[dict[str, object]]:
    """Returns the relative eigenvalues, unclipped, and whether each, or its layer, lies below the floor."""
    floor = spectrum_floor(config)
    return [
        {
            "layer": layer,
            "index": index,
            "relative_eigenvalue": float(value),
            "below_floor": bool(value < floor) or layer in below,
        }
        for layer, spectrum in spectra.items()
        for index, value in enumerate(relative_spectrum(spectrum), start=1)
    ]


def _layer_colors(layers: list[int]) -> tuple[ListedColormap, BoundaryNorm]:
    """Returns one color per layer, dark to light, short of cividis' end that vanishes on white."""
    colors = ListedColormap(colormaps["cividis"](np.linspace(0.0, 0.92, max(layers))))
    return colors, BoundaryNorm(np.arange(max(layers) + 1) + 0.5, max(layers))


def _draw_floor(axes: Axes, floor: float, precision: str) -> None:
    axes.axhline(floor, color="#4d4d4d", linestyle=":", linewidth=1.2)
    axes.set_ylim(bottom=floor / 20)
    axes.annotate(
        f"{precision} floor: {floor:.1e} of the largest; smaller values are drawn on this line",
        xy=(0.02, floor),
        xycoords=("axes fraction", "data"),
        xytext=(0, -5),
        textcoords="offset points",
        va="top",
        fontsize=9,
    )
