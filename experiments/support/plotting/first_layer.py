"""What the first layer looks at: the leading eigenvectors and the diagonal of its M, as images."""

import math
from typing import Literal

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from experiments.support.plotting.agop_figures import FeatureMatrix
from experiments.support.plotting.reading import RunConfig
from experiments.support.plotting.style import new_figure, set_title
from experiments.support.records import RecordsError

_COLUMNS = 4


def agop_first_layer(feature_matrix: FeatureMatrix, config: RunConfig) -> Figure:
    """Returns the leading eigenvectors of M, with shares of the eigenvalues' sum, and the diagonal of M.

    Inputs without an image shape are drawn as one row of pixels.
    """
    shape = input_shape(feature_matrix, config)
    num_rows = math.ceil(len(feature_matrix.eigenvectors) / _COLUMNS)
    figure = new_figure(9.0, 1.4 + 1.65 * num_rows)
    left, right = figure.subfigures(1, 2, width_ratios=(2.1, 1.0), squeeze=False)[0]
    _draw_eigenvectors(left, feature_matrix, shape, num_rows)
    _draw_diagonal(right, feature_matrix.diagonal.reshape(shape))
    set_title(figure, "Feature matrix M of the first layer", config, config.seeds[:1])
    return figure


def first_layer_table(feature_matrix: FeatureMatrix, config: RunConfig) -> list[dict[str, object]]:
    """Returns every drawn number: the entries of the eigenvectors, counted from 1, and of the diagonal."""
    shape = input_shape(feature_matrix, config)
    shares = eigenvalue_shares(feature_matrix.spectrum)
    named = [
        (f"eigenvector_{i}", float(shares[i - 1]), v) for i, v in enumerate(feature_matrix.eigenvectors, 1)
    ]
    return [
        {
            "image": name,
            "share": share,
            "row": row,
            "column": column,
            "channel": channel,
            "value": float(value),
        }
        for name, share, vector in [*named, ("diagonal", "", feature_matrix.diagonal)]
        for (row, column, channel), value in np.ndenumerate(vector.reshape(shape))
    ]


def input_shape(feature_matrix: FeatureMatrix, config: RunConfig) -> tuple[int, int, int]:
    """Returns (height, width, channels) of the inputs; raises RecordsError where M is of another size."""
    size = len(feature_matrix.diagonal)
    sizes = (len(feature_matrix.spectrum), feature_matrix.eigenvectors.shape[1])
    if sizes != (size, size):
        raise RecordsError(
            f"the first layer's arrays disagree in size: got a spectrum of {sizes[0]} and eigenvectors of "
            f"{sizes[1]} entries, expected {size} as in the diagonal; delete them and resume the run"
        )
    shape = config.image_shape or (1, size, 1)
    if math.prod(shape) != size:
        raise RecordsError(
            f"image_shape in config.json does not fit the first layer's M: got {list(shape)}, "
            f"expected a product of {size}; correct it, or set it to null for inputs that are no images"
        )
    return shape


def eigenvalue_shares(spectrum: Float[np.ndarray, "d"]) -> Float[np.ndarray, "d"]:
    """Returns each eigenvalue over the sum of all, rounding below zero counted as zero."""
    positive = np.maximum(spectrum, 0)
    return positive / positive.sum()


def signed_image(image: Float[np.ndarray, "h w c"]) -> Float[np.ndarray, "h w *rgb"]:
    """Returns the image over its largest absolute entry: colors about 0.5 for 3 channels, else their mean."""
    largest = np.abs(image).max()
    scaled = image / largest if largest > 0 else image
    return 0.5 + 0.5 * scaled if image.shape[-1] == 3 else scaled.mean(axis=-1)


def _draw_eigenvectors(
    part: SubFigure, feature_matrix: FeatureMatrix, shape: tuple[int, int, int], num_rows: int
) -> None:
    shares = eigenvalue_shares(feature_matrix.spectrum)
    panels = part.subplots(num_rows, _COLUMNS, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    for axes, vector, share in zip(panels, feature_matrix.eigenvectors, shares, strict=False):
        _frame(axes)
        axes.imshow(
            signed_image(vector.reshape(shape)), cmap="RdBu_r", vmin=-1, vmax=1, aspect=_aspect(shape)
        )
        axes.set_title(f"{100 * share:.2g}%", fontsize=10)
    center = "gray is zero" if shape[-1] == 3 else "red positive, blue negative, white zero"
    part.suptitle(f"leading eigenvectors and share of the eigenvalues' sum\n({center})", fontsize=10)


def _draw_diagonal(part: SubFigure, diagonal: Float[np.ndarray, "h w c"]) -> None:
    axes = part.subplots()
    _frame(axes)
    shown = diagonal.sum(axis=-1)
    image = axes.imshow(shown, cmap="cividis", vmin=min(0.0, shown.min()), aspect=_aspect(diagonal.shape))
    part.suptitle("diagonal of M\n" + ("summed over channels" if diagonal.shape[-1] > 1 else ""), fontsize=10)
    part.colorbar(image, ax=axes, location="bottom", shrink=0.9, label="scale: largest entry of M is 1")


def _frame(axes: Axes) -> None:
    axes.set_axis_on()
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(True)
    axes.spines[:].set_linewidth(0.5)


def _aspect(shape: tuple[int, ...]) -> Literal["auto", "equal"]:
    return "auto" if shape[0] == 1 else "equal"
