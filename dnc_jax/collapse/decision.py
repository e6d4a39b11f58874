"""NC4: whether a classifier decides as the nearest class mean does.

Logits are whatever the classifier decides by, its bias included.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dnc_jax.chunking import map_rows
from dnc_jax.collapse.checks import check_shape
from dnc_jax.collapse.measuring import measure_points
from dnc_jax.collapse.statistics import ClassStats, class_counts_and_means, class_sums, present
from dnc_jax.linalg import squared_distances


def nc4(
    features: Float[Array, "n d"], labels: Int[Array, "n"], num_classes: int, logits: Float[Array, "n k"]
) -> Float[Array, ""]:
    """Returns the fraction of points where argmax(logits) is not the nearest class mean of the features.

    The means are those of the given points; classes without points are nearest to none. Piecewise
    constant, so its gradient is 0. For held-out points see `decision_mismatch`.

    Raises:
        ValueError: If num_classes is below 2, or the labels or logits do not fit.

    References:
        Papyan, Han and Donoho (2020), NC4.
    """
    check_shape("logits", logits.shape, (features.shape[0], num_classes))
    return measure_points(_nc4, features, labels, num_classes, logits)


def _nc4(features: Array, labels: Array, num_classes: int, logits: Array) -> Float[Array, ""]:
    stats = class_counts_and_means(features, labels, num_classes)
    return share(jnp.argmax(logits, axis=1) != nearest_of_stats(features, stats), stats)


def nc4_per_class(
    features: Float[Array, "n d"], labels: Int[Array, "n"], num_classes: int, logits: Float[Array, "n k"]
) -> Float[Array, "k"]:
    """Returns `nc4` of the points of each class; 0 for a class without points.

    Raises:
        ValueError: If num_classes is below 2, or the labels or logits do not fit.
    """
    check_shape("logits", logits.shape, (features.shape[0], num_classes))
    return measure_points(_nc4_per_class, features, labels, num_classes, logits)


def _nc4_per_class(features: Array, labels: Array, num_classes: int, logits: Array) -> Float[Array, "k"]:
    stats = class_counts_and_means(features, labels, num_classes)
    mismatch = (jnp.argmax(logits, axis=1) != nearest_of_stats(features, stats)).astype(features.dtype)
    return class_sums(mismatch[:, None], labels, num_classes)[:, 0] / jnp.maximum(stats.counts, 1)


def decision_mismatch(
    features: Float[Array, "n d"], class_means: Float[Array, "k d"], logits: Float[Array, "n k"]
) -> Float[Array, ""]:
    """Returns the fraction of points where argmax(logits) is not the nearest of the given class means.

    With the class means of the training points this is NC4 of held-out points.

    Raises:
        ValueError: If the logits do not fit.
    """
    check_shape("logits", logits.shape, (features.shape[0], class_means.shape[0]))
    mismatch = jnp.argmax(logits, axis=1) != nearest_class_mean(features, class_means)
    return jnp.mean(mismatch.astype(features.dtype))


def nearest_class_mean(
    features: Float[Array, "n d"], class_means: Float[Array, "k d"], *, batch_size: int | None = None
) -> Int[Array, "n"]:
    """Returns the class whose mean is nearest in Euclidean distance; the first of several.

    Args:
        batch_size: Rows whose distances are held at once; None holds all n x k.
    """
    everyone = jnp.ones(class_means.shape[0], bool)
    return map_rows(lambda rows: _nearest(rows, class_means, everyone), features, batch_size)


def ncc_accuracy(
    features: Float[Array, "n d"], labels: Int[Array, "n"], num_classes: int
) -> Float[Array, ""]:
    """Returns the accuracy of the nearest class mean on the points that the means are made of.

    Held-out accuracy is jnp.mean(nearest_class_mean(held_out, class_stats(...).means) == held_out_labels).

    Raises:
        ValueError: If num_classes is below 2, or the labels do not fit.
    """
    return measure_points(_ncc_accuracy, features, labels, num_classes)


def _ncc_accuracy(features: Array, labels: Array, num_classes: int) -> Float[Array, ""]:
    stats = class_counts_and_means(features, labels, num_classes)
    return share(nearest_of_stats(features, stats) == labels, stats)


def ncc_accuracy_by_depth(
    layers: Sequence[Float[Array, "n _"]], labels: Int[Array, "n"], num_classes: int
) -> Float[Array, "l"]:
    """Returns `ncc_accuracy` of the features of each layer: from which depth on classes can be told apart.

    References:
        Galanti, Galanti and Ben-Shaul (2022), nearest class-center accuracy by depth.
    """
    return jnp.stack([ncc_accuracy(features, labels, num_classes) for features in layers])


def nearest_of_stats(features: Float[Array, "n d"], stats: ClassStats) -> Int[Array, "n"]:
    """Returns the nearest of the class means of given statistics; classes without points are left out."""
    return _nearest(features, stats.means, present(stats))


def _nearest(
    features: Float[Array, "n d"], class_means: Float[Array, "k d"], is_candidate: Array
) -> Int[Array, "n"]:
    squared = squared_distances(features, class_means)
    return jnp.argmin(jnp.where(is_candidate[None, :], squared, jnp.inf), axis=1)


def share(is_so: Bool[Array, "n"], stats: ClassStats) -> Float[Array, ""]:
    """Returns the share of points of which something is so, given the statistics it was decided by.

    NaN if the means are: a comparison hides features that are NaN and labels that are out of range.
    """
    return jnp.mean(is_so.astype(stats.means.dtype)) + 0 * jnp.sum(stats.means)
