"""What the figures show of a layer or an epoch, small enough to keep: Grams, spectra, means, projections."""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dnc_jax.collapse import class_stats

MAX_GRAM_SIZE = 200
NUM_EIGENVECTORS = 8
# Eigenvectors of the AGOP of a network's layers are kept up to this length, those of the first layer always.
MAX_LENGTH = 1024
# Points of a class, and classes, whose features are shown around the simplex of their means.
SHOWN_POINTS, SHOWN_CLASSES = 60, 4


def layer_arrays(
    feature_matrix: np.ndarray, stages: Mapping[str, np.ndarray], labels: np.ndarray, num_classes: int
) -> dict[str, np.ndarray]:
    """Returns the arrays of arrays/layer_NN.npz: of M, and of the training points at each stage."""
    spectrum, eigenvectors = spectrum_of(feature_matrix)
    arrays = {
        "agop_spectrum": spectrum,
        "agop_eigenvectors": eigenvectors,
        "agop_diagonal": np.diagonal(feature_matrix),
        "gram_class_edges": block_edges(labels, num_classes),
    }
    for name, features in stages.items():
        arrays[f"gram_{name}"] = sorted_gram(features, labels)
        stats = class_stats(jnp.asarray(features), jnp.asarray(labels), num_classes)
        arrays[f"class_means_{name}"] = simplex_coordinates(np.asarray(stats.means))
    return arrays


def spectrum_of(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the eigenvalues of a PSD matrix (d,), largest first, and the top eigenvectors as rows."""
    values, vectors = np.linalg.eigh(matrix.astype(np.float64))
    return np.maximum(values[::-1], 0.0), vectors[:, ::-1][:, :NUM_EIGENVECTORS].T


def iterate_arrays(matrices: np.ndarray) -> dict[str, np.ndarray]:
    """Returns every M of an RFM (t, d, d), its spectra (t, d) and top eigenvectors (t, 8, d)."""
    spectra, eigenvectors = zip(*map(spectrum_of, matrices), strict=True)
    return {
        "feature_matrices": matrices,
        "spectra": np.stack(spectra),
        "eigenvectors": np.stack(eigenvectors),
    }


def epoch_arrays(features: Array, labels: Array, num_classes: int) -> dict[str, np.ndarray]:
    """Returns the arrays of arrays/epoch_NNNNN.npz: what the head of a network receives.

    cosines (k, k) of the class means around their mean. Of the first four classes: points (n, 3), their
    means (c, 3), both in the 3 dimensions (or fewer) of those means, around their mean. gram (b, b) and
    gram_class_edges (k + 1,) are what `layer_arrays` keeps of a stage.
    """
    stats = class_stats(features, labels, num_classes)
    means = np.asarray(stats.means, np.float64)
    centered = means - means.mean(axis=0)
    norms = np.linalg.norm(centered, axis=1, keepdims=True)
    directions = centered / np.where(norms > 0, norms, 1.0)
    shown = np.flatnonzero(np.asarray(stats.counts))[:SHOWN_CLASSES]
    center = means[shown].mean(axis=0)
    basis = np.linalg.svd(means[shown] - center, full_matrices=False)[2][: len(shown) - 1]
    rows = [np.flatnonzero(np.asarray(labels) == k)[:SHOWN_POINTS] for k in shown]
    return {
        "cosines": directions @ directions.T,
        "shown_classes": shown,
        "means": (means[shown] - center) @ basis.T,
        "points": np.concatenate([(np.asarray(features[r], np.float64) - center) @ basis.T for r in rows]),
        "point_classes": np.repeat(shown, [len(r) for r in rows]),
        "gram": sorted_gram(np.asarray(features), np.asarray(labels)).astype(np.float32),
        "gram_class_edges": block_edges(np.asarray(labels), num_classes),
    }


def agop_arrays(matrices: Sequence[Array], agops: Sequence[Array]) -> dict[str, np.ndarray]:
    """Returns of every layer of a network what figures show of the AGOP at its input, W K W^T.

    agop_spectrum_NN (min(d, p)), largest first, of which all others are 0; agop_eigenvectors_NN (8, d).

    Args:
        matrices: The weights W (d, p) of every layer, of a convolution as a map of patches.
        agops: The AGOP K (p, p) at the pre-activations of every layer.
    """
    arrays = {}
    for number, (matrix, agop) in enumerate(zip(matrices, agops, strict=True), 1):
        values, vectors = np.linalg.eigh(np.asarray(agop, np.float64))
        factor = np.asarray(matrix, np.float64) @ (vectors * np.sqrt(np.maximum(values, 0.0)))
        is_tall = len(factor) > factor.shape[1]
        spectrum, top = spectrum_of(factor.T @ factor if is_tall else factor @ factor.T)
        if is_tall:
            top = top @ factor.T
            norms = np.linalg.norm(top, axis=1, keepdims=True)
            top = top / np.where(norms > 0, norms, 1.0)
        arrays[f"agop_spectrum_{number:02d}"] = spectrum.astype(np.float32)
        if number == 1 or len(factor) <= MAX_LENGTH:
            arrays[f"agop_eigenvectors_{number:02d}"] = top.astype(np.float32)
    return arrays


def sorted_gram(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns cosines of features centered by the mean of the class means, sorted by class, block-averaged.

    Neighboring points of the sorted order are averaged down to at most 200 x 200 blocks.
    """
    means = np.stack([features[labels == label].mean(axis=0) for label in np.unique(labels)])
    centered = features - means.mean(axis=0)
    norms = np.linalg.norm(centered, axis=1, keepdims=True)
    cosine = (centered / np.where(norms > 0, norms, 1.0))[np.argsort(labels, kind="stable")]
    # The average of a block of cosines is the product of the two averages of unit vectors.
    starts = _block_starts(len(labels))
    sizes = np.diff(np.append(starts, len(labels)))
    averages = np.add.reduceat(cosine, starts, axis=0) / sizes[:, None]
    return averages @ averages.T


def block_averages(labels: np.ndarray) -> np.ndarray:
    """Returns the weights (n, b) that take the means over the blocks of `sorted_gram`."""
    starts = _block_starts(len(labels))
    sizes = np.diff(np.append(starts, len(labels)))
    averages = np.zeros((len(labels), len(starts)))
    averages[np.argsort(labels, kind="stable"), np.repeat(np.arange(len(starts)), sizes)] = np.repeat(
        1 / sizes, sizes
    )
    return averages


def block_edges(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns where each class begins and ends, in units of the blocks of `sorted_gram`, (k + 1,)."""
    counts = np.bincount(labels, minlength=num_classes)
    ends = np.concatenate([[0], np.cumsum(counts)])
    return ends * min(len(labels), MAX_GRAM_SIZE) / len(labels)


def simplex_coordinates(means: np.ndarray) -> np.ndarray:
    """Returns the centered class means in the K - 1 coordinates that they span, largest spread first."""
    centered = means - means.mean(axis=0)
    left, singular, _ = np.linalg.svd(centered, full_matrices=False)
    coordinates = np.zeros((len(means), len(means) - 1))
    kept = min(coordinates.shape[1], len(singular))
    coordinates[:, :kept] = (left * singular)[:, :kept]
    return coordinates


def _block_starts(num_points: int) -> np.ndarray:
    blocks = min(num_points, MAX_GRAM_SIZE)
    return np.arange(blocks) * num_points // blocks
