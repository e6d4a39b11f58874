"""What the slider moves through: the figures of a layer, an epoch or an iteration of the first seed."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from experiments.support.plotting.conv_reading import as_colors
from experiments.support.plotting.rfm_matrices import in_cyclic_order, projector, scaled
from experiments.support.records import RecordsError, Row, Run
from experiments.support.report.arrays import Arrays, packed_heat, relative
from experiments.support.report.curves import (
    NC1,
    NC2,
    RATIO,
    STAGES,
    View,
    curve,
    rows_at,
    steps_of,
    views_of,
)
from experiments.support.report.pictures import (
    BELOW,
    gram_of,
    ideal,
    images_of,
    marked,
    minus,
    simplex_of,
    spectrum_of,
    vectors_of,
    with_points,
)
from experiments.support.report.reading import RunRecords
from experiments.support.rfm_options import cell_name, operation_of

Frame = dict[str, Any]
# Of the spectrum of a network's layer so many values, and so many entries of eigenvectors in all.
MOST_VALUES, MOST_ENTRIES = 200, 3_000_000


class Figure(NamedTuple):
    """A figure that changes with the slider.

    A staged one has data for each of the three stages; one of a part is of the target, or of the layer of a
    network, that is chosen.
    """

    name: str
    kind: str
    title: str
    is_staged: bool = False
    is_of_part: bool = False


SIMPLEX = Figure("simplex", "simplex", "Class means, seen in 3 dimensions", is_staged=True)
SPECTRUM = Figure("spectrum", "spectrum", "Spectrum of the feature matrix M")
VECTORS = Figure("vectors", "vectors", "Top eigenvectors of M")
FIGURES = {
    "deep_rfm": (
        Figure("heat", "heat", "Cosines of points, sorted by class", is_staged=True),
        SIMPLEX,
        SPECTRUM,
        VECTORS,
    ),
    "train_network": (
        Figure("gram", "heat", "Cosines of points, at the classifier"),
        Figure("heat", "heat", "Cosines of class means, at the classifier"),
        Figure("simplex", "simplex", "Four classes around their simplex"),
        Figure("by_layer", "lines", "Trace ratio, by layer"),
        Figure("nc1_by_layer", "lines", "NC1, by layer"),
        Figure("nc2_by_layer", "lines", "NC2, by layer"),
        Figure("ansatz_by_layer", "lines", "Weights against the AGOP, by layer"),
        SPECTRUM._replace(title="Spectrum of the AGOP at the layer", is_of_part=True),
        VECTORS._replace(title="Top eigenvectors of the AGOP", is_of_part=True),
    ),
    "rfm": (
        Figure("heat", "heat", "Feature matrix M", is_of_part=True),
        Figure("truth", "heat", "True directions, U Uᵀ", is_of_part=True),
        SPECTRUM._replace(is_of_part=True),
        VECTORS._replace(is_of_part=True),
    ),
    "conv_rfm": (
        Figure("heat", "heat", "Kernel of training images, by class"),
        SPECTRUM,
        VECTORS._replace(title="Top eigenvectors of the patch AGOP"),
        Figure("images", "images", "Held-out images"),
        Figure("transformed", "images", "The same through M^½"),
    ),
}


def frames_of(run: RunRecords, view: View, *, is_first: bool = True) -> dict[int, Frame]:
    """Returns the figures of every step that a run keeps arrays of.

    Those that are of no part are among them where the part is the first.
    """
    if run.command == "deep_rfm":
        paths = {layer: Run(run.folder).arrays(layer) for layer in steps_of(run)}
        return {at: _of_layer(run, at, Arrays(path)) for at, path in paths.items() if path.exists()}
    if run.command == "train_network":
        frames = {epoch: _of_epoch(run, epoch) if is_first else {} for epoch in steps_of(run)}
        of_layer = _agops(run, view, list(frames)) if view.place else {}
        return {epoch: frame | of_layer.get(epoch, {}) for epoch, frame in frames.items()}
    if run.command == "rfm":
        path = run.folder / "arrays" / f"{cell_name(view.place)}.npz"
        return _of_iterates(run, Arrays(path)) if path.exists() else {}
    path = run.folder / "arrays" / "patches.npz"
    return _of_patches(run, Arrays(path)) if path.exists() else {}


def _of_layer(run: RunRecords, layer: int, arrays: Arrays) -> Frame:
    edges, shape = arrays["gram_class_edges", 1], run.config.get("image_shape") if layer == 1 else None
    spectrum, diagonal = arrays["agop_spectrum", 1], arrays["agop_diagonal", 1]
    rows = rows_at(run.rows, {"seed": run.seeds[0], "layer": layer})
    below = {row["stage"] for row in rows if row.get("below_floor")}
    grams = {stage: gram_of(arrays[f"gram_{stage}", 2], edges) for stage in STAGES}
    means = {stage: simplex_of(arrays[f"class_means_{stage}", 2]) for stage in STAGES}
    of_m = {
        "spectrum": spectrum_of(spectrum, len(edges) - 2),
        "vectors": vectors_of(arrays["agop_eigenvectors", 2], spectrum, shape, diagonal),
    }
    # M comes between what a layer receives and its linear stage, which is below the floor where M is.
    return {
        "heat": {stage: marked(drawn, stage in below) for stage, drawn in grams.items()},
        "simplex": {stage: marked(drawn, stage in below) for stage, drawn in means.items()},
    } | {name: marked(drawn, "linear" in below) for name, drawn in of_m.items()}


def _of_epoch(run: RunRecords, epoch: int) -> Frame:
    rows, path = rows_at(run.rows, {"epoch": epoch}), Run(run.folder).epoch_arrays(epoch)
    frame: Frame = {"by_layer": _by_layer(rows, RATIO.metric, RATIO.label)}
    frame["nc1_by_layer"] = _by_layer(rows, NC1.metric, NC1.label)
    frame["nc2_by_layer"] = _by_layer(rows, NC2.metric, NC2.label)
    ansatz = {"AGOP": "nfa_correlation", "AGOP^½": "nfa_correlation_root"}
    places = {name: {"stage": "weights", "metric": metric} for name, metric in ansatz.items()}
    legend = "blue circles: AGOP; orange squares: AGOP^½"
    frame["ansatz_by_layer"] = _lines(rows, places, "Pearson correlation", legend, is_log=False)
    if path.exists():
        arrays = Arrays(path)
        cosines = arrays["cosines", 2]
        num_classes = len(cosines)
        heat = packed_heat(cosines) | {
            "edges": np.linspace(0, min(num_classes, 200), num_classes + 1).tolist()
        }
        others = cosines[~np.eye(num_classes, dtype=bool)]
        caption = f"between classes {minus(others.mean())} ± {others.std():.2f}; {ideal(num_classes)}"
        frame["heat"] = heat | {"scale": "cosine of class means around their mean", "caption": caption}
        frame["simplex"] = with_points(arrays)
        if "gram" in arrays:
            frame["gram"] = gram_of(arrays["gram", 2].astype(float), arrays["gram_class_edges", 1])
    return frame


def _agops(run: RunRecords, view: View, epochs: list[int]) -> dict[int, Frame]:
    """Returns the spectrum and the eigenvectors of the AGOP at a layer of a network, by epoch.

    Of long vectors at many epochs there are fewer than were recorded, so that the page stays small.
    """
    layer, paths = view.place["layer"], {at: Run(run.folder).epoch_arrays(at) for at in epochs}
    num_shown = len(epochs) * len(views_of(run))
    frames: dict[int, Frame] = {}
    for epoch, path in paths.items():
        arrays = Arrays(path) if path.exists() else {}
        if f"agop_spectrum_{layer:02d}" not in arrays:
            continue
        values = arrays[f"agop_spectrum_{layer:02d}", 1].astype(float)
        frames[epoch] = {"spectrum": spectrum_of(values, 1, most=MOST_VALUES)}
        if f"agop_eigenvectors_{layer:02d}" in arrays:
            top = arrays[f"agop_eigenvectors_{layer:02d}", 2]
            most = max(1, MOST_ENTRIES // (top.shape[1] * num_shown))
            shape = _input_shape(run, top.shape[1]) if layer == 1 else None
            frames[epoch]["vectors"] = vectors_of(top[:most].astype(float), values, shape, None)
    return frames


def _input_shape(run: RunRecords, length: int) -> list[int] | None:
    """Returns the shape of what the first layer of a network receives: an image, or a square patch of one."""
    image = run.config.get("image_shape")
    if image is None or len(image) != 3 or math.prod(image) == length:
        return image
    side = math.isqrt(length // max(image[2], 1))
    return [side, side, image[2]]


def _of_iterates(run: RunRecords, arrays: Arrays) -> dict[int, Frame]:
    operation, matrices = operation_of(run.config["task"]), arrays["feature_matrices", 3]
    what = "entry / largest" + (" off the diagonal" if operation else "")
    order = "; elements in cyclic order" if operation else ""
    frames: dict[int, Frame] = {}
    truth: Frame = {}
    if "directions" in arrays:
        directions = projector({"directions": arrays["directions", 2]})
        truth["truth"] = packed_heat(relative(directions)) | {"scale": what, "caption": order[2:]}
    for iteration, matrix in enumerate(matrices):
        drawn = scaled(in_cyclic_order(matrix, operation), off_diagonal=operation is not None)
        caption = ("M = I" if iteration == 0 else f"M after update {iteration}") + order
        frames[iteration] = truth | {"heat": packed_heat(drawn) | {"scale": what, "caption": caption}}
    if "spectra" in arrays:
        spectra, vectors = arrays["spectra", 2], arrays["eigenvectors", 3]
        for iteration, (values, top) in enumerate(zip(spectra, vectors, strict=False)):
            frames[iteration]["spectrum"] = spectrum_of(values, 1)
            if iteration:
                frames[iteration]["vectors"] = vectors_of(top, values, None, None)
    return frames


def _of_patches(run: RunRecords, arrays: Arrays) -> dict[int, Frame]:
    spectra, patches, shown = (
        arrays["eigenvalues", 2],
        arrays["eigenpatches", 5],
        arrays["shown_iteration", 0],
    )
    frames: dict[int, Frame] = {i: {"spectrum": spectrum_of(row, 1)} for i, row in enumerate(spectra)}
    for i, top in enumerate(patches, start=1):
        flat = top.reshape(len(top), -1)
        frames[i]["vectors"] = vectors_of(flat, spectra[i], list(top.shape[1:]), None)
    if "gram" in arrays:
        edges = arrays["gram_class_edges", 1]
        for i, gram in enumerate(arrays["gram", 3][: len(frames)]):
            frames[i]["heat"] = gram_of(gram.astype(float), edges, is_centered=False)
    needed = {"sample_images": arrays["sample_images", 4]}
    labels, class_names = arrays["labels", 1].astype(int), run.config["class_names"]
    if not 0 <= labels.min() <= labels.max() < len(class_names):
        raise RecordsError(
            f"'labels' in {arrays.path} have no names: got {labels.tolist()} for {len(class_names)} "
            f"class_names in config.json; delete {arrays.path} and resume the run"
        )
    names = [class_names[label] for label in labels]
    after = arrays["transformed_images", 4]
    # Contrast of its own, since M^(1/2) changes the lengths of patches.
    images = {
        "images": images_of(as_colors(arrays["images", 4], needed), names, "as they are"),
        "transformed": images_of(
            as_colors(after, {"sample_images": after}), names, f"M of iteration {int(shown)}, own contrast"
        ),
    }
    return {at: frame | images for at, frame in frames.items()}


def _by_layer(rows: list[Row], metric: str, label: str) -> dict[str, Any]:
    places = {stage: {"stage": stage, "metric": metric} for stage in STAGES}
    legend = "blue circles: input; orange squares: linear; green triangles: nonlinear"
    return _lines(rows, places, label, legend, is_log=True)


def _lines(
    rows: list[Row], places: Mapping[str, Mapping[str, str]], label: str, legend: str, *, is_log: bool
) -> dict[str, Any]:
    found = {name: rows_at(rows, place) for name, place in places.items()}
    lines = [{"stage": name, "points": "training"} | curve(r, "layer") for name, r in found.items() if r]
    caption = f"{legend}; hollow: {BELOW}" if any(any(line["below"]) for line in lines) else legend
    return {"lines": lines, "label": label, "log": is_log, "caption": caption}
