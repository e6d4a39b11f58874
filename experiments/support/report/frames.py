"""What the slider moves through: the figures of a layer, an epoch or an iteration of the first seed."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Num

from experiments.support.plotting.conv_reading import as_colors, sign_note
from experiments.support.plotting.heat_maps import class_means_of_gram
from experiments.support.plotting.rfm_matrices import in_cyclic_order, projector, scaled
from experiments.support.records import RecordsError, Row, Run
from experiments.support.report.arrays import Arrays, as_text, packed_heat, quantised, relative
from experiments.support.report.curves import NC1, NC2, RATIO, STAGES, View, curve, rounded, rows_at, steps_of
from experiments.support.report.reading import RunRecords
from experiments.support.rfm_options import cell_name, operation_of

Frame = dict[str, Any]
BELOW = "below the floor of the precision: do not cite it"


class Figure(NamedTuple):
    """A figure that changes with the slider; a staged one has data for each of the three stages."""

    name: str
    kind: str
    title: str
    is_staged: bool = False


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
        Figure("heat", "heat", "Cosines of class means, at the classifier"),
        Figure("simplex", "simplex", "Four classes around their simplex"),
        Figure("by_layer", "lines", "Trace ratio, by layer"),
        Figure("nc1_by_layer", "lines", "NC1, by layer"),
        Figure("nc2_by_layer", "lines", "NC2, by layer"),
        Figure("ansatz_by_layer", "lines", "Weights against the AGOP, by layer"),
    ),
    "rfm": (
        Figure("heat", "heat", "Feature matrix M"),
        Figure("truth", "heat", "True directions, U Uᵀ"),
        SPECTRUM,
        VECTORS,
    ),
    "conv_rfm": (
        SPECTRUM,
        VECTORS._replace(title="Top eigenvectors of the patch AGOP"),
        Figure("images", "images", "Held-out images"),
        Figure("transformed", "images", "The same through M^½"),
    ),
}


def frames_of(run: RunRecords, view: View) -> dict[int, Frame]:
    """Returns the figures of every step that a run keeps arrays of."""
    if run.command == "deep_rfm":
        paths = {layer: Run(run.folder).arrays(layer) for layer in steps_of(run)}
        return {at: _of_layer(run, at, Arrays(path)) for at, path in paths.items() if path.exists()}
    if run.command == "train_network":
        return {epoch: _of_epoch(run, epoch) for epoch in steps_of(run)}
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
    grams = {stage: _gram(arrays[f"gram_{stage}", 2], edges) for stage in STAGES}
    means = {stage: simplex(arrays[f"class_means_{stage}", 2]) for stage in STAGES}
    of_m = {
        "spectrum": spectrum_of(spectrum, len(edges) - 2),
        "vectors": vectors_of(arrays["agop_eigenvectors", 2], spectrum, shape, diagonal),
    }
    # M comes between what a layer receives and its linear stage, which is below the floor where M is.
    return {
        "heat": {stage: _marked(drawn, stage in below) for stage, drawn in grams.items()},
        "simplex": {stage: _marked(drawn, stage in below) for stage, drawn in means.items()},
    } | {name: _marked(drawn, "linear" in below) for name, drawn in of_m.items()}


def _marked(drawn: dict[str, Any], is_below: bool) -> dict[str, Any]:
    """Returns a figure whose caption says if what it shows is below the floor of the precision."""
    return drawn | {"caption": f"{drawn['caption']}; {BELOW}"} if is_below else drawn


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
        caption = f"between classes {_minus(others.mean())} ± {others.std():.2f}; {_ideal(num_classes)}"
        frame["heat"] = heat | {"scale": "cosine of class means around their mean", "caption": caption}
        frame["simplex"] = _with_points(arrays)
    return frame


def _of_iterates(run: RunRecords, arrays: Arrays) -> dict[int, Frame]:
    operation, matrices = operation_of(run.config["task"]), arrays["feature_matrices", 3]
    what = "entry / largest" + (" off the diagonal; elements in cyclic order" if operation else "")
    frames: dict[int, Frame] = {}
    truth: Frame = {}
    if "directions" in arrays:
        directions = projector({"directions": arrays["directions", 2]})
        truth["truth"] = packed_heat(relative(directions)) | {"scale": what, "caption": ""}
    for iteration, matrix in enumerate(matrices):
        drawn = scaled(in_cyclic_order(matrix, operation), off_diagonal=operation is not None)
        frames[iteration] = truth | {
            "heat": packed_heat(drawn) | {"scale": what, "caption": "M = I" if iteration == 0 else ""},
        }
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
        "images": _images(as_colors(arrays["images", 4], needed), names, "as they are"),
        "transformed": _images(
            as_colors(after, {"sample_images": after}), names, f"M of iteration {int(shown)}, own contrast"
        ),
    }
    return {at: frame | images for at, frame in frames.items()}


def _gram(gram: Float[np.ndarray, "b b"], edges: Num[np.ndarray, "k1"]) -> dict[str, Any]:
    means = class_means_of_gram(gram, edges)
    within = [mean for (i, j), mean in means.items() if i == j]
    between = [mean for (i, j), mean in means.items() if i != j]
    parts = [f"within a class {np.mean(within):.2f}"]
    parts += [f"between classes {_minus(float(np.mean(between)))}"] if between else []
    caption = f"{', '.join(parts)} on average; collapsed: 1 and {_minus(-1 / max(len(edges) - 2, 1))}"
    scale = "cosine of centered features"
    return packed_heat(gram) | {"edges": [rounded(e) for e in edges], "scale": scale, "caption": caption}


def simplex(means: Float[np.ndarray, "k c"]) -> dict[str, Any]:
    """Returns class means in the three dimensions of their largest spread, and what they look like in all."""
    norms = np.linalg.norm(means, axis=1)
    spread = float((norms**2).sum())
    unit = means / np.where(norms > 0, norms, 1.0)[:, None]
    cosines = (unit @ unit.T)[~np.eye(len(means), dtype=bool)]
    part = 100 * float((means[:, :3] ** 2).sum()) / spread if spread > 0 else 100.0
    caption = (
        f"cosines {_minus(cosines.mean())} ± {cosines.std():.2f} ({_ideal(len(means))}), lengths vary by "
        f"{100 * norms.std() / max(norms.mean(), 1e-300):.0f}%; shown: {part:.0f}% of the spread"
    )
    scale = float(np.linalg.norm(means[:, :3], axis=1).max()) or 1.0
    return {"means": _three(means[:, :3] / scale), "caption": caption}


def _with_points(arrays: Arrays) -> dict[str, Any]:
    means, points = arrays["means", 2], arrays["points", 2]
    lengths = np.linalg.norm(points, axis=1)
    # A few points that lie far out would shrink all others out of sight: they are drawn at the rim.
    scale = max(float(np.linalg.norm(means, axis=1).max()), float(np.quantile(lengths, 0.95))) or 1.0
    near = points / np.maximum(scale, lengths / 1.15)[:, None]
    return {
        "means": _three(means / scale),
        "classes": arrays["shown_classes", 1].tolist(),
        "points": _three(near),
        "owners": arrays["point_classes", 1].tolist(),
        "caption": f"{len(points)} training points of {len(means)} classes, in the space of their means",
    }


def spectrum_of(values: Float[np.ndarray, "d"], num_top: int) -> dict[str, Any]:
    """Returns eigenvalues over the largest, and how much of their sum the top ones have."""
    total, num_top = float(values.sum()), max(num_top, 1)
    share = 100 * float(values[:num_top].sum()) / total if total > 0 else 0.0
    top = "the largest has" if num_top == 1 else f"the {num_top} largest (classes − 1) have"
    return {
        "values": [float(f"{value:.3g}") for value in relative(values)],
        "caption": f"{top} {share:.3g}% of the trace of {len(values)} eigenvalues",
    }


def vectors_of(
    vectors: Float[np.ndarray, "r d"],
    spectrum: Float[np.ndarray, "d"],
    shape: list[int] | None,
    diagonal: Float[np.ndarray, "d"] | None,
) -> dict[str, Any]:
    """Returns eigenvectors over their largest entries, their shares of the trace, and the diagonal of M.

    shape makes images of them, if it has as many entries.
    """
    is_image = shape is not None and int(np.prod(shape)) == vectors.shape[1]
    total = float(spectrum.sum()) or 1.0
    shares = [100 * float(value) / total for value in spectrum[: len(vectors)]]
    found: dict[str, Any] = {
        "shape": shape if is_image else None,
        "length": vectors.shape[1],
        "vectors": [as_text(quantised(relative(vector))) for vector in vectors],
        "labels": [f"{number}: {_percent(share)}" for number, share in enumerate(shares, start=1)],
        "caption": f"share of the trace; {sign_note(shape[2] if shape and is_image else 1)}",
    }
    if is_image and diagonal is not None:
        found["diagonal"] = as_text(quantised(relative(diagonal)))
    return found


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


def _images(images: np.ndarray, names: list[str], caption: str) -> dict[str, Any]:
    colors = images if images.ndim == 4 else np.repeat(images[..., None], 3, axis=-1)
    pixels = [as_text(np.rint(255 * image)) for image in colors]
    return {"shape": list(colors.shape[1:3]), "images": pixels, "labels": names, "caption": caption}


def _three(points: Float[np.ndarray, "n c"]) -> list[list[float]]:
    padded = np.pad(points, ((0, 0), (0, 3 - points.shape[1])))
    return [[rounded(float(f"{value:.4g}")) for value in row] for row in padded]


def _ideal(num_classes: int) -> str:
    return f"simplex {_minus(-1 / max(num_classes - 1, 1))}"


def _percent(share: float) -> str:
    return f"{share:.0f}%" if share >= 10 else f"{share:.1f}%" if share >= 0.1 else "< 0.1%"


def _minus(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")
