"""NC4: whether a classifier decides as the nearest class mean does.

Logits are whatever the classifier decides by, its bias included. A class without points is nearest to none. A
point with a NaN or infinite feature or a NaN logit is decided by nobody: shares over it are NaN.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dnc_jax.checks import check_matrix
from dnc_jax.chunking import map_rows
from dnc_jax.collapse.checks import check_defined, check_shape
from dnc_jax.collapse.measuring import measure_points
from dnc_jax.collapse.statistics import (
    ClassMeans,
    class_counts_and_means,
    class_sums,
    means_and_presence,
)
from dnc_jax.linalg import share, squared_distances


def nc4(
    features: Float[Array, "n d"], labels: Int[Array, "n"], num_classes: int, logits: Float[Array, "n k"]
) -> Float[Array, ""]:
    """Returns the fraction of points where argmax(logits) is not the nearest class mean of the features.

    The means are those of the given points. Piecewise constant, so its gradient is 0. For held-out points
    see `decision_mismatch`.

    Raises:
        ValueError: If num_classes is below 2, the labels or logits do not fit, or a value is not finite.

    References:
        Papyan, Han and Donoho (2020), NC4.
    """
    check_shape("logits", logits.shape, (features.shape[0], num_classes))
    return measure_points(_nc4, features, labels, num_classes, logits)


def _nc4(features: Array, labels: Array, num_classes: int, logits: Array) -> Float[Array, ""]:
    stats = class_counts_and_means(features, labels, num_classes)
    return share(disagreements(nearest(features, stats), logits))


def nc4_per_class(
    features: Float[Array, "n d"], labels: Int[Array, "n"], num_classes: int, logits: Float[Array, "n k"]
) -> Float[Array, "k"]:
    """Returns `nc4` of the points of each class; 0 for a class without points.

    Raises:
        ValueError: As `nc4`.
    """
    check_shape("logits", logits.shape, (features.shape[0], num_classes))
    return measure_points(_nc4_per_class, features, labels, num_classes, logits)


def _nc4_per_class(features: Array, labels: Array, num_classes: int, logits: Array) -> Float[Array, "k"]:
    stats = class_counts_and_means(features, labels, num_classes)
    mismatch = disagreements(nearest(features, stats), logits)
    shares = class_sums(mismatch[:, None], labels, num_classes)[:, 0] / jnp.maximum(stats.counts, 1)
    # A NaN of any class: which one it reaches would depend on how the device adds.
    return shares + 0 * jnp.sum(mismatch)


def decision_mismatch(
    features: Float[Array, "n d"], class_means: ClassMeans, logits: Float[Array, "n k"]
) -> Float[Array, ""]:
    """Returns the fraction of points where argmax(logits) is not the nearest of the given class means.

    With the class statistics of the training points this is NC4 of held-out points.

    Args:
        class_means: (k, d), all of them candidates; or `ClassStats`, whose classes without points are not.

    Raises:
        ValueError: If shapes do not fit, or a value that can be read is not finite; NaN under a trace.
    """
    means, _ = means_and_presence(class_means)
    check_matrix("features", features, means.shape[1])
    check_shape("logits", logits.shape, (features.shape[0], means.shape[0]))
    value = share(disagreements(nearest(features, class_means), logits))
    check_defined(value, features=features, class_means=means, logits=logits)
    return value


def nearest_class_mean(
    features: Float[Array, "n d"], class_means: ClassMeans, *, batch_size: int | None = None
) -> Int[Array, "n"]:
    """Returns the class whose mean is nearest in Euclidean distance; the first of several.

    Args:
        class_means: (k, d), all of them candidates; or `ClassStats`, whose classes without points are not.
        batch_size: Rows whose distances are held at once; None holds all n x k.

    Raises:
        ValueError: If shapes do not fit, or a value that can be read is not finite; -1 under a trace.
    """
    means, _ = means_and_presence(class_means)
    check_matrix("features", features, means.shape[1])
    found = map_rows(lambda rows: nearest(rows, class_means), features, batch_size)
    check_defined(found.squared_distance, features=features, class_means=means)
    return jnp.where(jnp.isfinite(found.squared_distance), found.label, -1)


def ncc_accuracy(
    features: Float[Array, "n d"], labels: Int[Array, "n"], num_classes: int
) -> Float[Array, ""]:
    """Returns the accuracy of the nearest class mean on the points that the means are made of.

    Held-out accuracy is jnp.mean(nearest_class_mean(held_out, class_stats(...)) == held_out_labels).

    Raises:
        ValueError: If num_classes is below 2, the labels do not fit, or a feature is not finite.
    """
    return measure_points(_ncc_accuracy, features, labels, num_classes)


def _ncc_accuracy(features: Array, labels: Array, num_classes: int) -> Float[Array, ""]:
    stats = class_counts_and_means(features, labels, num_classes)
    return share(agreements(nearest(features, stats), labels))


def ncc_accuracy_by_depth(
    layers: Sequence[Float[Array, "n _"]], labels: Int[Array, "n"], num_classes: int
) -> Float[Array, "l"]:
    """Returns `ncc_accuracy` of the features of each layer: from which depth on classes can be told apart.

    Raises:
        ValueError: If there is no layer; as `ncc_accuracy`.

    References:
        Galanti, Galanti and Ben-Shaul (2022), nearest class-center accuracy by depth.
    """
    if len(layers) == 0:
        raise ValueError("layers must hold the features of at least one layer: got none")
    return jnp.stack([ncc_accuracy(features, labels, num_classes) for features in layers])


class Nearest(NamedTuple):
    """The nearest class of each point, and the squared distance to its mean; NaN where there is none."""

    label: Int[Array, "n"]
    squared_distance: Float[Array, "n"]


def nearest(features: Float[Array, "n d"], class_means: ClassMeans) -> Nearest:
    """Returns the nearest of the class means; of statistics, of those of classes with points."""
    means, is_candidate = means_and_presence(class_means)
    squared = jnp.where(is_candidate[None, :], squared_distances(features, means), jnp.inf)
    return Nearest(jnp.argmin(squared, axis=1), jnp.min(squared, axis=1))


def agreements(found: Nearest, labels: Int[Array, "n"]) -> Float[Array, "n"]:
    """Returns 1 for each point whose nearest class is its label, 0 for others, NaN where there is none."""
    squared = found.squared_distance
    return jnp.where(jnp.isfinite(squared), (found.label == labels).astype(squared.dtype), jnp.nan)


def disagreements(found: Nearest, logits: Float[Array, "n k"]) -> Float[Array, "n"]:
    """Returns 1 for each point where argmax(logits) is not the nearest class, NaN where either is missing."""
    agreed = agreements(found, jnp.argmax(logits, axis=1))
    return jnp.where(jnp.any(jnp.isnan(logits), axis=1), jnp.nan, 1 - agreed)
