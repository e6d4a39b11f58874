"""Heat maps of the cosine Gram matrix, points sorted by class, at the three stages of selected layers."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Num
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.support.plotting.reading import STAGES, RunConfig, read_array
from experiments.support.plotting.style import STAGE_STYLES, new_figure, set_title

MAX_COLUMNS = 5
# The layers shown by Beaglehole, Súkeník, Mondelli and Belkin (2024) for 20 layers.
_LAYERS_OF_TWENTY = [1, 3, 7, 13, 19]


@dataclass(frozen=True)
class GramMaps:
    """Cosine Gram matrices of one layer, by stage, and the block positions of the class boundaries."""

    by_stage: Mapping[str, Float[np.ndarray, "b b"]]
    class_edges: Num[np.ndarray, "k1"]


def selected_layers(layers: Sequence[int]) -> list[int]:
    """Returns at most five of the layers: 1, 3, 7, 13, 19 of twenty, else evenly spread with both ends."""
    if len(layers) <= MAX_COLUMNS:
        return list(layers)
    if list(layers) == list(range(1, 21)):
        return _LAYERS_OF_TWENTY
    return [layers[round(position)] for position in np.linspace(0, len(layers) - 1, MAX_COLUMNS)]


def read_gram_maps(workdir: Path, layer: int) -> GramMaps:
    """Returns the recorded Gram matrices of one layer."""
    return GramMaps(
        by_stage={stage: read_array(workdir, layer, f"gram_{stage}", ndim=2) for stage in STAGES},
        class_edges=read_array(workdir, layer, "gram_class_edges", ndim=1),
    )


def gram_heat_maps(
    maps: Mapping[int, GramMaps], config: RunConfig, below: Collection[tuple[int, str]] = ()
) -> Figure:
    """Returns a grid of heat maps, a row per stage and a column per layer, on one scale from -1 to 1.

    below names the (layer, stage) that lie below the float floor; their maps say so.
    """
    figure = new_figure(1.9 + 1.5 * max(len(maps), 3), 5.8)
    panels = figure.subplots(len(STAGES), len(maps), squeeze=False)
    for row, stage in enumerate(STAGES):
        for column, (layer, layer_maps) in enumerate(maps.items()):
            axes = panels[row, column]
            _draw_map(axes, layer_maps.by_stage[stage], layer_maps.class_edges)
            if (layer, stage) in below:
                box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
                axes.text(
                    0.03, 0.03, "~ below floor", transform=axes.transAxes, va="bottom", fontsize=8, bbox=box
                )
            if row == 0:
                axes.set_title(f"layer {layer}")
        panels[row, 0].set_ylabel(STAGE_STYLES[stage].label)
    bar = figure.colorbar(
        panels[0, 0].images[0], ax=panels, shrink=0.75, aspect=30, panchor=False, ticks=[-1, -0.5, 0, 0.5, 1]
    )
    bar.set_label("cosine similarity of centered features")
    set_title(figure, "Cosine Gram matrices of Deep RFM, points sorted by class", config, config.seeds[:1])
    return figure


def class_cosine_table(
    maps: Mapping[int, GramMaps], below: Collection[tuple[int, str]] = ()
) -> list[dict[str, object]]:
    """Returns the mean of the drawn Gram matrix over each pair of classes, a pair once.

    A block belongs to the class its middle lies in; a class without any block is left out.
    """
    return [
        {
            "layer": layer,
            "stage": stage,
            "class_row": i,
            "class_column": j,
            "mean_cosine": mean,
            "below_floor": (layer, stage) in below,
        }
        for layer, layer_maps in maps.items()
        for stage, gram in layer_maps.by_stage.items()
        for (i, j), mean in class_means_of_gram(gram, layer_maps.class_edges).items()
    ]


def class_means_of_gram(
    gram: Float[np.ndarray, "b b"], class_edges: Num[np.ndarray, "k1"]
) -> dict[tuple[int, int], float]:
    """Returns the mean over each pair of classes that have any block, a pair once."""
    owners = np.searchsorted(class_edges, np.arange(len(gram)) + 0.5, side="right") - 1
    present = np.unique(owners)
    return {
        (int(i), int(j)): float(gram[np.ix_(owners == i, owners == j)].mean())
        for i in present
        for j in present
        if i <= j
    }


def _draw_map(axes: Axes, gram: Float[np.ndarray, "b b"], class_edges: Num[np.ndarray, "k1"]) -> None:
    size = len(gram)
    axes.imshow(gram, cmap="RdBu_r", vmin=-1, vmax=1, extent=(0, size, size, 0), interpolation="nearest")
    axes.set_xticks(class_edges, labels=[])
    axes.set_yticks(class_edges, labels=[])
    axes.tick_params(length=3.0, width=0.5, color="#4d4d4d")
    axes.spines[:].set_visible(True)
    axes.spines[:].set_linewidth(0.5)
