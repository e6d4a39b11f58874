"""What a page draws of arrays: packed, with a caption that says its numbers."""

from typing import Any

import numpy as np
from jaxtyping import Float, Num

from experiments.support.plotting.conv_reading import sign_note
from experiments.support.plotting.heat_maps import class_means_of_gram
from experiments.support.report.arrays import Arrays, as_text, packed_heat, quantised, relative
from experiments.support.report.curves import rounded

BELOW = "below the floor of the precision: do not cite it"


def marked(drawn: dict[str, Any], is_below: bool) -> dict[str, Any]:
    """Returns a figure whose caption says if what it shows is below the floor of the precision."""
    return drawn | {"caption": f"{drawn['caption']}; {BELOW}"} if is_below else drawn


def gram_of(
    gram: Float[np.ndarray, "b b"], edges: Num[np.ndarray, "k1"], *, is_centered: bool = True
) -> dict[str, Any]:
    """Returns cosines of points sorted by class, with their means within and between classes."""
    means = class_means_of_gram(gram, edges)
    within = [mean for (i, j), mean in means.items() if i == j]
    between = [mean for (i, j), mean in means.items() if i != j]
    parts = [f"within a class {np.mean(within):.2f}"]
    parts += [f"between classes {minus(float(np.mean(between)))}"] if between else []
    collapsed = f"collapsed: 1 and {minus(-1 / max(len(edges) - 2, 1))}"
    caption = f"{', '.join(parts)} on average; {collapsed if is_centered else 'not centered'}"
    scale = "cosine of centered features" if is_centered else "K(x, z) / √(K(x, x) K(z, z))"
    return packed_heat(gram) | {"edges": [rounded(e) for e in edges], "scale": scale, "caption": caption}


def simplex_of(means: Float[np.ndarray, "k c"]) -> dict[str, Any]:
    """Returns class means in the three dimensions of their largest spread, and what they look like in all."""
    norms = np.linalg.norm(means, axis=1)
    spread = float((norms**2).sum())
    unit = means / np.where(norms > 0, norms, 1.0)[:, None]
    cosines = (unit @ unit.T)[~np.eye(len(means), dtype=bool)]
    part = 100 * float((means[:, :3] ** 2).sum()) / spread if spread > 0 else 100.0
    caption = (
        f"cosines {minus(cosines.mean())} ± {cosines.std():.2f} ({ideal(len(means))}), lengths vary by "
        f"{100 * norms.std() / max(norms.mean(), 1e-300):.0f}%; shown: {part:.0f}% of the spread"
    )
    scale = float(np.linalg.norm(means[:, :3], axis=1).max()) or 1.0
    return {"means": _three(means[:, :3] / scale), "caption": caption}


def with_points(arrays: Arrays) -> dict[str, Any]:
    """Returns the points of a few classes around their means, in the space of these."""
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


def spectrum_of(values: Float[np.ndarray, "d"], num_top: int, most: int | None = None) -> dict[str, Any]:
    """Returns eigenvalues over the largest, and how much of their sum the top ones have.

    Of more than most, those whose indices, from 1, are evenly spread on a log axis.
    """
    indices = np.arange(1, len(values) + 1)
    if most is not None and len(values) > most:
        indices = np.unique(np.rint(np.geomspace(1, len(values), most)).astype(int))
    total, num_top = float(values.sum()), max(num_top, 1)
    share = 100 * float(values[:num_top].sum()) / total if total > 0 else 0.0
    top = "the largest has" if num_top == 1 else f"the {num_top} largest (classes − 1) have"
    thinned = {"index": indices.tolist()} if len(indices) < len(values) else {}
    return thinned | {
        "values": [float(f"{value:.3g}") for value in relative(values)[indices - 1]],
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


def images_of(images: np.ndarray, names: list[str], caption: str) -> dict[str, Any]:
    """Returns images in 0..1 as bytes of three channels, with a name each."""
    colors = images if images.ndim == 4 else np.repeat(images[..., None], 3, axis=-1)
    pixels = [as_text(np.rint(255 * image)) for image in colors]
    return {"shape": list(colors.shape[1:3]), "images": pixels, "labels": names, "caption": caption}


def ideal(num_classes: int) -> str:
    """Returns the cosine of class means that form a simplex, in words."""
    return f"simplex {minus(-1 / max(num_classes - 1, 1))}"


def minus(value: float) -> str:
    """Returns a number to two digits, with a minus sign."""
    return f"{value:.2f}".replace("-", "−")


def _three(points: Float[np.ndarray, "n c"]) -> list[list[float]]:
    padded = np.pad(points, ((0, 0), (0, 3 - points.shape[1])))
    return [[rounded(float(f"{value:.4g}")) for value in row] for row in padded]


def _percent(share: float) -> str:
    return f"{share:.0f}%" if share >= 10 else f"{share:.1f}%" if share >= 0.1 else "< 0.1%"
