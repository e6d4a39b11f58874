"""NC4: whether a classifier decides as the nearest class mean does."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dnc_jax.collapse.statistics import class_stats, present
from dnc_jax.linalg import squared_distances


def nc4(
    features: Float[Array, "n d"], labels: Int[Array, "n"], num_classes: int, logits: Float[Array, "n k"]
) -> Float[Array, ""]:
    """Returns the fraction of points where argmax(logits) is not the nearest class mean of the features.

    The means are those of the given points; classes without points are nearest to none. Piecewise
    constant, so its gradient is 0.

    Raises:
        ValueError: If the labels or logits do not fit.

    References:
        Papyan, Han and Donoho (2020), NC4.
    """
    stats = class_stats(features, labels, num_classes)
    distances = squared_distances(features, stats.means)
    return _mismatch(jnp.where(present(stats)[None, :], distances, jnp.inf), logits)


def decision_mismatch(
    features: Float[Array, "n d"], class_means: Float[Array, "k d"], logits: Float[Array, "n k"]
) -> Float[Array, ""]:
    """Returns the fraction of points where argmax(logits) is not the nearest of the given class means.

    With the class means of the training points this is NC4 of held-out points.
    """
    return _mismatch(squared_distances(features, class_means), logits)


def nearest_class_mean(features: Float[Array, "n d"], class_means: Float[Array, "k d"]) -> Int[Array, "n"]:
    """Returns the class whose mean is nearest in Euclidean distance; the first of several."""
    return jnp.argmin(squared_distances(features, class_means), axis=1)


def _mismatch(distances: Float[Array, "n k"], logits: Float[Array, "n k"]) -> Float[Array, ""]:
    if logits.shape != distances.shape:
        raise ValueError(
            f"logits must have one row per point and one column per class: got shape {logits.shape}, "
            f"expected {distances.shape}"
        )
    mismatch = jnp.argmax(logits, axis=1) != jnp.argmin(distances, axis=1)
    return jnp.mean(mismatch.astype(distances.dtype))
