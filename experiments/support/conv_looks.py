"""What a patch AGOP M looks at: its top eigenvectors, images filtered by them, images through M^(1/2).

M is of patches: q x q windows of c channels, flattened in the order (row, column, channel).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from dnc_jax.patches import Padding, image_patches

# Classes and images of each that the samples show.
MAX_CLASSES, PER_CLASS = 10, 6
# Images that are filtered and transformed, and eigenvectors that filter them.
NUM_IMAGES, NUM_FILTERS = 6, 4
NUM_EIGENPATCHES = 8
# Images among which the patch is sought that is most like an eigenvector, so many at a time.
NUM_SEARCHED, CHUNK = 200, 20


class Transformed(NamedTuple):
    """Images after M^(1/2), and the norms of their patches before and after it."""

    images: Float[np.ndarray, "n h w c"]
    norms_before: Float[np.ndarray, "n i j"]
    norms_after: Float[np.ndarray, "n i j"]


def looks(
    images: Float[np.ndarray, "n h w c"],
    labels: Int[np.ndarray, "n"],
    feature_matrices: Float[np.ndarray, "t d d"],
    shown: int,
    *,
    num_classes: int,
    patch_size: int,
    padding: Padding,
    stride: int,
) -> dict[str, np.ndarray]:
    """Returns what figures show of the iterates of a run, in float32 and a few pictures each.

    - shown_iteration: whose M filters and transforms; M = I of iteration 0 looks at nothing in particular,
      so that 1 stands for it;
    - sample_images (s h w c), sample_labels (s): the first 6 images of each of the first 10 classes;
    - eigenvalues (t d): of every M, in descending order;
    - eigenpatches (t-1 8 q q c): top eigenvectors of every M but the first, as `top_eigenpatches` gives them;
    - strongest_patches (8 q q c), strongest_labels (8), strongest_cosines (8): the patch of an image that is
      most like each of the shown M's top eigenvectors, as `strongest_patches` finds it among 200 images,
      its class, and the cosine between the two;
    - random_cosines (8): those cosines for random directions, which are nothing that M has learned;
    - images (m h w c), labels (m): at most 6, of as many classes as possible;
    - filtered (m 4 i j): those, as `filtered` gives them for the top eigenvectors of the shown M;
    - transformed_images (m h w c), norms_before (m i j), norms_after (m i j): as `transformed` gives them.

    Args:
        images: Held-out images, as the figures say, of any number.
        feature_matrices: M of iteration 0, which is I, to the last.
        shown: The iteration that validation picks, or the last.

    Raises:
        ValueError: If there is no M but the first, none of the number shown, or M does not fit the patches.
    """
    _check_shown(shown, len(feature_matrices))
    channels, shown = images.shape[-1], max(shown, 1)
    spectra = [top_eigenpatches(m, channels, patch_size) for m in feature_matrices]
    samples = samples_by_class(labels, num_classes=min(num_classes, MAX_CLASSES), per_class=PER_CLASS)
    chosen = samples_by_class(labels, num_classes=num_classes, per_class=1, total=NUM_IMAGES)
    searched = samples_by_class(labels, num_classes=num_classes, per_class=1, total=NUM_SEARCHED)
    windows: dict[str, Any] = {"padding": padding, "stride": stride}
    strongest, owners, cosines = strongest_patches(images[searched], spectra[shown][1], **windows)
    random = np.random.default_rng(0).normal(size=spectra[shown][1].shape)
    after = transformed(images[chosen], _root(feature_matrices[shown]), patch_size, **windows)
    kept = {
        "sample_images": images[samples],
        "eigenvalues": np.stack([values for values, _ in spectra]),
        "eigenpatches": np.stack([patches for _, patches in spectra[1:]]),
        "strongest_patches": strongest,
        "strongest_cosines": cosines,
        "random_cosines": strongest_patches(images[searched], random, **windows)[2],
        "images": images[chosen],
        "filtered": filtered(images[chosen], spectra[shown][1][:NUM_FILTERS], **windows),
        "transformed_images": after.images,
        "norms_before": after.norms_before,
        "norms_after": after.norms_after,
    }
    whole = {
        "shown_iteration": shown,
        "sample_labels": labels[samples],
        "strongest_labels": labels[searched][owners],
        "labels": labels[chosen],
    }
    return {name: np.asarray(array, np.float32) for name, array in kept.items()} | {
        name: np.asarray(numbers, np.int32) for name, numbers in whole.items()
    }


def top_eigenpatches(
    feature_matrix: Float[np.ndarray, "d d"], channels: int, patch_size: int, count: int = NUM_EIGENPATCHES
) -> tuple[Float[np.ndarray, "d"], Float[np.ndarray, "k q q c"]]:
    """Returns all eigenvalues of M in descending order, and its top eigenvectors as patches.

    An eigenvector has no sign of its own: each is divided by its entry of largest size, the first one if
    several tie, which so becomes +1.

    Raises:
        ValueError: If M is not of patches of that size.
    """
    matrix = np.asarray(feature_matrix, np.float64)
    size = patch_size**2 * channels
    if matrix.shape != (size, size):
        raise ValueError(
            f"feature_matrix must be {size} x {size} for patches {patch_size} x {patch_size} x {channels}: "
            f"got shape {matrix.shape}; pass the patch_size that it was learned with"
        )
    values, vectors = np.linalg.eigh(matrix)
    top = vectors[:, ::-1][:, :count].T
    largest = np.abs(top).argmax(axis=1)
    top = top / np.take_along_axis(top, largest[:, None], axis=1)
    return values[::-1], top.reshape(-1, patch_size, patch_size, channels)


def filtered(
    images: Float[np.ndarray, "n h w c"],
    eigenpatches: Float[np.ndarray, "k q q c"],
    *,
    padding: Padding,
    stride: int,
) -> Float[np.ndarray, "n k i j"]:
    """Returns the inner product of every patch of every image with each eigenvector, scaled to unit norm."""
    vectors = np.asarray(eigenpatches, np.float64).reshape(len(eigenpatches), -1)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    patches = _patches(images, eigenpatches.shape[1], padding, stride)
    return np.moveaxis(patches @ unit.T, -1, 1)


def strongest_patches(
    images: Float[np.ndarray, "n h w c"],
    eigenpatches: Float[np.ndarray, "k q q c"],
    *,
    padding: Padding,
    stride: int,
) -> tuple[Float[np.ndarray, "k q q c"], Int[np.ndarray, "k"], Float[np.ndarray, "k"]]:
    """Returns for each eigenvector the patch of largest cosine with it, the row of its image, and the cosine.

    Not of largest inner product: a bright patch has that with most directions, whatever M has learned. The
    cosine of a patch of zeros counts as 0.
    """
    best, owners = np.zeros(eigenpatches.shape), np.zeros(len(eigenpatches), int)
    largest = np.full(len(eigenpatches), -np.inf)
    for start in range(0, len(images), CHUNK):
        some = images[start : start + CHUNK]
        maps = filtered(some, eigenpatches, padding=padding, stride=stride)
        patches = _patches(some, eigenpatches.shape[1], padding, stride)
        lengths = np.linalg.norm(patches, axis=-1)[:, None]
        maps = np.divide(maps, lengths, out=np.zeros_like(maps), where=lengths > 0)
        for k in range(len(eigenpatches)):
            image, i, j = np.unravel_index(maps[:, k].argmax(), maps[:, k].shape)
            if maps[image, k, i, j] > largest[k]:
                largest[k], owners[k] = maps[image, k, i, j], start + image
                best[k] = patches[image, i, j].reshape(best[k].shape)
    return best, owners, largest


def transformed(
    images: Float[np.ndarray, "n h w c"],
    root: Float[np.ndarray, "d d"],
    patch_size: int,
    *,
    padding: Padding,
    stride: int,
) -> Transformed:
    """Returns images after their patches have gone through a root of M, and the norms of the patches.

    Overlapping patches that are transformed are no image: each of the patches that cover a pixel has a value
    of its own for it. The image that is returned has their mean, 0 where no patch covers a pixel, which
    happens where the stride leaves a remainder. |patch| and |patch root| of each patch are exact.
    """
    patches = _patches(images, patch_size, padding, stride)
    after = patches @ np.asarray(root, np.float64)
    total = _overlap_sum(after, images.shape, patch_size, padding, stride)
    count = _overlap_sum(np.ones_like(after), images.shape, patch_size, padding, stride)
    norms = [np.linalg.norm(of, axis=-1) for of in (patches, after)]
    return Transformed(total / np.maximum(count, 1), *norms)


def samples_by_class(
    labels: Int[np.ndarray, "n"], *, num_classes: int, per_class: int, total: int | None = None
) -> Int[np.ndarray, "s"]:
    """Returns the positions of the first images of each class, class by class; of some there may be fewer.

    Args:
        total: At most so many images: then of the first classes, or, where there are fewer classes, as many
            more of each as are needed.
    """
    per_class = per_class if total is None else max(per_class, total // num_classes)
    positions: Sequence[Any] = [np.flatnonzero(labels == k)[:per_class] for k in range(num_classes)]
    return np.concatenate(positions)[:total]


def _root(matrix: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "d d"]:
    values, vectors = np.linalg.eigh(np.asarray(matrix, np.float64))
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def _patches(
    images: Float[np.ndarray, "n h w c"], patch_size: int, padding: Padding, stride: int
) -> Float[np.ndarray, "n i j d"]:
    return np.asarray(image_patches(jnp.asarray(images, float), patch_size, padding, stride), np.float64)


def _overlap_sum(
    patches: Float[np.ndarray, "n i j d"],
    shape: tuple[int, ...],
    patch_size: int,
    padding: Padding,
    stride: int,
) -> Float[np.ndarray, "n h w c"]:
    """Returns the sum over all patches that cover a pixel: the transpose of cutting an image into patches."""

    def cut(images: jax.Array) -> jax.Array:
        return image_patches(images, patch_size, padding, stride)

    values = jnp.asarray(patches)
    transpose = jax.linear_transpose(cut, jax.ShapeDtypeStruct(shape, values.dtype))
    return np.asarray(transpose(values)[0], np.float64)


def _check_shown(shown: int, num_matrices: int) -> None:
    if num_matrices < 2 or not 0 <= shown < num_matrices:
        raise ValueError(
            f"shown must be one of the iterations 0 to {num_matrices - 1}, and at least one must follow "
            f"iteration 0: got shown {shown} and {num_matrices} feature matrices; make at least one update"
        )
