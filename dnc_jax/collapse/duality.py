"""NC3: alignment of the last layer's classifier with the centered class means.

A classifier is (d, k), Flax orientation: column k holds the weights of class k, and logits are
features @ classifier + bias.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dnc_jax.collapse.checks import check_shape
from dnc_jax.collapse.etf import mean_directions, simplex_distance
from dnc_jax.collapse.measuring import measure_stats
from dnc_jax.collapse.statistics import (
    ClassStats,
    GlobalMean,
    centered_means,
    num_present,
    of_classes,
    present,
)
from dnc_jax.linalg import norm, unit_rows


def nc3(
    features: Float[Array, "n d"],
    labels: Int[Array, "n"],
    num_classes: int,
    classifier: Float[Array, "d k"],
    *,
    global_mean: GlobalMean = of_classes,
) -> Float[Array, ""]:
    """Returns | A M^T/|A M^T|_F - (I - 11^T/K)/sqrt(K-1) |_F, A = classifier^T, M the unit centered means.

    Between 0 and 2; 0 if classifier and means form one simplex. Invariant to the scale of the classifier.

    Raises:
        ValueError: If num_classes is below 2, or the labels or the classifier do not fit.
        NumericalError: If all class means coincide, or the classifier is 0.

    References:
        Papyan, Han and Donoho (2020), NC3, in the form of Tirer and Bruna (2022).
    """
    check_shape("classifier", classifier.shape, (features.shape[-1], num_classes))
    return measure_stats(nc3_from_stats, features, labels, num_classes, classifier, global_mean=global_mean)


def nc3_from_stats(
    stats: ClassStats, classifier: Float[Array, "d k"], *, global_mean: GlobalMean = of_classes
) -> Float[Array, ""]:
    """Returns `nc3` of points by their class means; NaN if all of them coincide or the classifier is 0."""
    return simplex_distance(_rows(classifier, stats), mean_directions(stats, global_mean), stats)


def nc3_self_duality(
    features: Float[Array, "n d"],
    labels: Int[Array, "n"],
    num_classes: int,
    classifier: Float[Array, "d k"],
    *,
    global_mean: GlobalMean = of_classes,
) -> Float[Array, ""]:
    """Returns | A/|A|_F - M/|M|_F |_F, A = classifier^T, M the centered class means as rows, not normalized.

    Between 0, classifier and means equal up to one scale, and 2.

    Raises:
        ValueError: If num_classes is below 2, or the labels or the classifier do not fit.
        NumericalError: If all class means coincide, or the classifier is 0.

    References:
        Papyan, Han and Donoho (2020), Fig. 5 (convergence to self-duality).
    """
    check_shape("classifier", classifier.shape, (features.shape[-1], num_classes))
    return measure_stats(
        nc3_self_duality_from_stats, features, labels, num_classes, classifier, global_mean=global_mean
    )


def nc3_self_duality_from_stats(
    stats: ClassStats, classifier: Float[Array, "d k"], *, global_mean: GlobalMean = of_classes
) -> Float[Array, ""]:
    """Returns `nc3_self_duality` of points by their class means; NaN if these or the classifier are 0."""
    rows, means = _rows(classifier, stats), centered_means(stats, global_mean)
    return norm(rows / jnp.sqrt(jnp.sum(rows**2)) - means / jnp.sqrt(jnp.sum(means**2)))


def nc3_uniform_duality(
    features: Float[Array, "n d"],
    labels: Int[Array, "n"],
    num_classes: int,
    classifier: Float[Array, "d k"],
    *,
    global_mean: GlobalMean = of_classes,
) -> Float[Array, ""]:
    """Returns the standard deviation (ddof 1) over classes of cos(a_k, mu_k - mu_G), a_k column k.

    0 where all classes are aligned equally well, though not necessarily well.

    Raises:
        ValueError: If num_classes is below 2, or the labels or the classifier do not fit.
        NumericalError: If all class means coincide.

    References:
        Wu and Papyan (2024), uniform duality.
    """
    check_shape("classifier", classifier.shape, (features.shape[-1], num_classes))
    return measure_stats(
        nc3_uniform_duality_from_stats, features, labels, num_classes, classifier, global_mean=global_mean
    )


def nc3_uniform_duality_from_stats(
    stats: ClassStats, classifier: Float[Array, "d k"], *, global_mean: GlobalMean = of_classes
) -> Float[Array, ""]:
    """Returns `nc3_uniform_duality` of points by their class means."""
    cosines = jnp.sum(unit_rows(_rows(classifier, stats)) * mean_directions(stats, global_mean), axis=1)
    count = num_present(stats)
    deviations = jnp.where(present(stats), cosines - jnp.sum(cosines) / count, 0.0)
    return norm(deviations) / jnp.sqrt(count - 1)


def _rows(classifier: Float[Array, "d k"], stats: ClassStats) -> Float[Array, "k d"]:
    return jnp.where(present(stats)[:, None], classifier.T, 0.0)
