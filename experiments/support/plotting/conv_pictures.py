"""What a patch AGOP M looks at, as pictures: its eigenvectors, and images before and after them."""

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure, SubFigure

from experiments.support.plotting.conv_reading import (
    Records,
    Table,
    as_colors,
    class_name,
    draw_eigenpatch,
    draw_image,
    draw_signed,
    finish,
    frame,
    percent,
    sign_note,
)
from experiments.support.plotting.first_layer import eigenvalue_shares
from experiments.support.plotting.style import new_figure
from experiments.support.plotting.variant_figures import PALETTE

# Iterations whose eigenvectors are drawn.
MAX_SHOWN = 3
# Below this share of the trace an eigenvalue is rounding.
SMALLEST_SHARE = 1e-9
# Of the panel that holds the scale of a row of maps, in widths of a picture.
BAR_WIDTH = 0.07
MAP_NOTE = "a value lies at the center of its patch, and gray where none has its center"
# Characters of a class name above a picture.
NAME_WIDTH = 16


def eigenpatches(records: Records) -> tuple[Figure, Table]:
    """Returns the top eigenvectors of M as patches with their shares of the trace, and the spectrum of M.

    A row is an iteration: the first, the one that is shown elsewhere, and the last. Below each eigenvector
    of the one that is shown elsewhere stands the patch of a held-out image of largest cosine with it.
    """
    patches, spectra = records.arrays["eigenpatches"], records.arrays["eigenvalues"]
    last = len(spectra) - 1
    iterations = sorted({1, records.shown, last})[:MAX_SHOWN]
    figure = new_figure(12.0, 1.7 + 1.25 * (len(iterations) + 1))
    left, right = figure.subfigures(1, 2, width_ratios=(2.6, 1.0), squeeze=False)[0]
    table: Table = []
    rows = list(left.subplots(len(iterations) + 1, patches.shape[1], squeeze=False))
    strongest = rows.pop(iterations.index(records.shown) + 1)
    for row, iteration in zip(rows, iterations, strict=True):
        shares = eigenvalue_shares(spectra[iteration])
        for number, (axes, patch) in enumerate(zip(row, patches[iteration - 1], strict=True)):
            draw_eigenpatch(axes, patch)
            axes.set_title(percent(shares[number]), fontsize=9.5)
            table += _entries(iteration, number + 1, float(shares[number]), patch)
        row[0].set_ylabel(_named(records, iteration), fontsize=9.5)
    _draw_strongest(strongest, records)
    note = sign_note(patches.shape[-1])
    left.suptitle(f"top eigenvectors of M, and their share of its trace\n({note})", fontsize=10)
    _draw_spectra(right, records, iterations)
    finish(figure, "What the patch AGOP M looks at", records.config, records.config["seeds"][:1])
    return figure, table


def filtered_images(records: Records) -> tuple[Figure, Table]:
    """Returns images, and below them their inner product with each top eigenvector, patch by patch.

    A row of maps has one scale, so that images can be compared; a value lies at the center of its patch.
    """
    config, arrays = records.config, records.arrays
    maps, images = arrays["filtered"], arrays["images"]
    num_filters, num_images = maps.shape[1], len(images)
    figure = new_figure(2.6 + 1.3 * num_images, 1.7 + 1.4 * (num_filters + 1))
    ratios = [1.0] * (num_images + 1) + [BAR_WIDTH]
    panels = figure.subplots(num_filters + 1, num_images + 2, squeeze=False, width_ratios=ratios)
    _draw_originals(panels[0, 1:-1], records)
    panels[0, 0].set_axis_off()
    panels[0, -1].set_axis_off()
    shares = eigenvalue_shares(arrays["eigenvalues"][records.shown])
    for number, row in enumerate(panels[1:]):
        draw_eigenpatch(row[0], arrays["eigenpatches"][records.shown - 1, number])
        row[0].set_ylabel(f"eigenvector {number + 1}\n{percent(shares[number])} of the trace", fontsize=9)
        _draw_maps(figure, row[1:], records, maps[:, number], signed=True)
    figure.supxlabel(f"one scale per row; {MAP_NOTE}", fontsize=9, color="#444444")
    headline = f"Images filtered by the top eigenvectors of {_short(records)}"
    finish(figure, headline, config, config["seeds"][:1])
    return figure, _map_table(records, {f"eigenvector_{i + 1}": maps[:, i] for i in range(num_filters)})


def transformed_images(records: Records) -> tuple[Figure, Table]:
    """Returns images before and after M^(1/2), and the norm of each of their patches.

    The image after M^(1/2) has at each pixel the mean over the transformed patches that cover it.
    """
    config, arrays = records.config, records.arrays
    images, after = arrays["images"], arrays["transformed_images"]
    figure = new_figure(2.0 + 1.3 * len(images), 1.8 + 1.4 * 4)
    panels = figure.subplots(
        4, len(images) + 1, squeeze=False, width_ratios=[1.0] * len(images) + [BAR_WIDTH]
    )
    _draw_originals(panels[0, :-1], records)
    _draw_maps(figure, panels[1], records, arrays["norms_before"], signed=False)
    for axes in panels[::2, -1]:
        axes.set_axis_off()
    largest = float(np.abs(after).max()) or 1.0
    for axes, image in zip(panels[2, :-1], after, strict=True):
        draw_signed(axes, image, largest)
    _draw_maps(figure, panels[3], records, arrays["norms_after"], signed=False)
    zero = sign_note(images.shape[-1]).replace(", ", ",\n")
    labels = ("image", "norm of\neach patch", f"image after $M^{{1/2}}$\n({zero})", "norm of each patch\n")
    labels = (*labels[:3], labels[3] + "after $M^{1/2}$")
    for axes, label in zip(panels[:, 0], labels, strict=True):
        axes.set_ylabel(label, fontsize=9)
    note = f"image after $M^{{1/2}}$: mean of the patches that cover a pixel; {MAP_NOTE}"
    figure.supxlabel(note, fontsize=9, color="#444444")
    headline = f"Images before and after $M^{{1/2}}$, {_short(records)}"
    finish(figure, headline, config, config["seeds"][:1])
    norms = {"norm_before": arrays["norms_before"], "norm_after": arrays["norms_after"]}
    return figure, _map_table(records, norms)


def _draw_originals(panels: np.ndarray, records: Records) -> None:
    drawn = as_colors(records.arrays["images"], records.arrays)
    for axes, image, label in zip(panels, drawn, records.arrays["labels"], strict=True):
        draw_image(axes, image)
        name = class_name(records.config, int(label), NAME_WIDTH)
        axes.set_title(name, fontsize=9, parse_math=False)


def _draw_maps(
    figure: Figure, row: np.ndarray, records: Records, maps: Float[np.ndarray, "n i j"], *, signed: bool
) -> None:
    """Returns nothing; draws maps in a row of panels, the last of which holds their scale."""
    largest = float(np.abs(maps).max()) or 1.0
    low, colors = (-largest, "RdBu_r") if signed else (0.0, "cividis")
    height, width = records.arrays["images"].shape[1:3]
    extent = _extent(records, maps.shape[1:], (height, width))
    for axes, values in zip(row[:-1], maps, strict=True):
        axes.set_facecolor("#e3e3e3")
        axes.imshow(values, cmap=colors, vmin=low, vmax=largest, extent=extent, interpolation="nearest")
        axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
        frame(axes)
    figure.colorbar(row[0].images[0], cax=row[-1])
    row[-1].tick_params(labelsize=8)


def _extent(
    records: Records, positions: tuple[int, ...], sides: tuple[int, int]
) -> tuple[float, float, float, float]:
    """Returns where on an image a map lies whose values are at the centers of their patches."""
    size, stride = records.config["patch_size"], records.config["stride"]
    ends = []
    for count, side in zip(positions, sides, strict=True):
        margin = max((count - 1) * stride + size - side, 0) // 2
        first = (size - 1) / 2 - margin
        ends.append((first - stride / 2, first + (count - 0.5) * stride))
    (top, bottom), (left, right) = ends
    return left, right, bottom, top


def _draw_strongest(row: np.ndarray, records: Records) -> None:
    arrays = records.arrays
    drawn = as_colors(arrays["strongest_patches"], arrays)
    owners = zip(arrays["strongest_labels"], arrays["strongest_cosines"], strict=True)
    for axes, patch, (label, cosine) in zip(row, drawn, owners, strict=True):
        draw_image(axes, patch)
        name = class_name(records.config, int(label), NAME_WIDTH)
        axes.set_xlabel(f"{name}\ncos {cosine:.2f}", fontsize=8.5, labelpad=2, parse_math=False)
    control = f"random directions:\nup to {arrays['random_cosines'].max():.2f}"
    row[0].set_ylabel(f"held-out patch of\nlargest cosine\n({control})", fontsize=8.5)


def _draw_spectra(part: SubFigure, records: Records, iterations: list[int]) -> None:
    axes = part.subplots()
    spectra = records.arrays["eigenvalues"]
    size = spectra.shape[1]
    index = np.arange(1, size + 1)
    for (color, marker), iteration in zip(PALETTE, iterations, strict=False):
        shares = eigenvalue_shares(spectra[iteration])
        some = shares >= SMALLEST_SHARE
        label = f"iteration {iteration}"
        axes.plot(index[some], shares[some], color=color, marker=marker, markersize=3, label=label)
    axes.axhline(1 / size, color="#666666", linestyle="--", label=f"plain kernel: 1/{size} each")
    axes.set_yscale("log")
    if size > 20:
        axes.set_xscale("log")
    axes.set(xlabel="eigenvalue, by size", ylabel="share of the trace")
    axes.legend(fontsize=8.5)
    part.suptitle("spectrum of M\n ", fontsize=10)


def _entries(iteration: int, number: int, share: float, patch: Float[np.ndarray, "q q c"]) -> Table:
    return [
        {"iteration": iteration, "eigenvector": number, "share": share}
        | {"row": row, "column": column, "channel": channel, "value": float(value)}
        for (row, column, channel), value in np.ndenumerate(patch)
    ]


def _map_table(records: Records, maps: dict[str, Float[np.ndarray, "n i j"]]) -> Table:
    """Returns the values of maps, a row for each patch."""
    labels = records.arrays["labels"]
    shape = next(iter(maps.values())).shape
    table: Table = []
    for image, row, column in np.ndindex(*shape):
        entry: dict[str, object] = {"image": image, "label": int(labels[image]), "row": row, "column": column}
        for name, values in maps.items():
            entry[name] = float(values[image, row, column])
        table.append(entry)
    return table


def _named(records: Records, iteration: int) -> str:
    picked = records.picks.get(records.config["seeds"][0]) == iteration
    return f"iteration {iteration}" + (", picked\nby validation" if picked else "")


def _short(records: Records) -> str:
    picked = records.picks.get(records.config["seeds"][0]) == records.shown
    return f"M of iteration {records.shown}" + (", picked by validation" if picked else "")
