"""All collapse metrics of one set of features in one call, over one set of class statistics."""

from typing import NamedTuple

from jaxtyping import Array, Float, Int

from dnc_jax.collapse.angles import (
    nc2_cosine_std_from_stats,
    nc2_equiangularity_from_stats,
    nc2_equinorm_from_stats,
)
from dnc_jax.collapse.checks import check_shape
from dnc_jax.collapse.decision import agreements, disagreements, nearest
from dnc_jax.collapse.duality import (
    nc3_from_stats,
    nc3_self_duality_from_stats,
    nc3_uniform_duality_from_stats,
)
from dnc_jax.collapse.etf import nc2_from_stats, nc2_gram_mse_from_stats
from dnc_jax.collapse.measuring import measure_points
from dnc_jax.collapse.ratios import (
    nc1_cdnv_from_stats,
    nc1_trace_ratio_from_stats,
    nc1_within_fraction_from_stats,
)
from dnc_jax.collapse.statistics import class_stats
from dnc_jax.collapse.within import whitened_scatter, whitening
from dnc_jax.linalg import share


class CollapseMetrics(NamedTuple):
    """Every metric under the name of its function; None where its classifier or logits were not given."""

    nc1: Float[Array, ""]
    nc1_trace_ratio: Float[Array, ""]
    nc1_within_fraction: Float[Array, ""]
    nc1_cdnv: Float[Array, ""]
    nc2: Float[Array, ""]
    nc2_gram_mse: Float[Array, ""]
    nc2_equinorm: Float[Array, ""]
    nc2_equiangularity: Float[Array, ""]
    nc2_cosine_std: Float[Array, ""]
    ncc_accuracy: Float[Array, ""]
    nc3: Float[Array, ""] | None = None
    nc3_self_duality: Float[Array, ""] | None = None
    nc3_uniform_duality: Float[Array, ""] | None = None
    nc4: Float[Array, ""] | None = None


def collapse_metrics(
    features: Float[Array, "n d"],
    labels: Int[Array, "n"],
    num_classes: int,
    classifier: Float[Array, "d k"] | None = None,
    logits: Float[Array, "n k"] | None = None,
) -> CollapseMetrics:
    """Returns every metric that the arguments allow, in one jit-able call.

    Where only some metrics are undefined, as CDNV if two class means coincide, those are NaN or infinite.

    Args:
        classifier: Weights of the last layer, Flax orientation; gives the NC3 metrics.
        logits: What the classifier decides by, bias included; gives NC4.

    Raises:
        ValueError: If num_classes is below 2, or an argument does not fit, or features are not finite.
    """
    if classifier is not None:
        check_shape("classifier", classifier.shape, (features.shape[-1], num_classes))
    if logits is not None:
        check_shape("logits", logits.shape, (features.shape[0], num_classes))
    return measure_points(_collapse_metrics, features, labels, num_classes, classifier, logits)


def _collapse_metrics(
    features: Array, labels: Array, num_classes: int, classifier: Array | None, logits: Array | None
) -> CollapseMetrics:
    stats = class_stats(features, labels, num_classes)
    found = nearest(features, stats)
    metrics = CollapseMetrics(
        nc1=whitened_scatter(features, labels, stats, whitening(stats)) / features.shape[0],
        nc1_trace_ratio=nc1_trace_ratio_from_stats(stats),
        nc1_within_fraction=nc1_within_fraction_from_stats(stats),
        nc1_cdnv=nc1_cdnv_from_stats(stats),
        nc2=nc2_from_stats(stats),
        nc2_gram_mse=nc2_gram_mse_from_stats(stats),
        nc2_equinorm=nc2_equinorm_from_stats(stats),
        nc2_equiangularity=nc2_equiangularity_from_stats(stats),
        nc2_cosine_std=nc2_cosine_std_from_stats(stats),
        ncc_accuracy=share(agreements(found, labels)),
    )
    if classifier is not None:
        metrics = metrics._replace(
            nc3=nc3_from_stats(stats, classifier),
            nc3_self_duality=nc3_self_duality_from_stats(stats, classifier),
            nc3_uniform_duality=nc3_uniform_duality_from_stats(stats, classifier),
        )
    if logits is not None:
        metrics = metrics._replace(nc4=share(disagreements(found, logits)))
    return metrics
