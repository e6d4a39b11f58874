"""Neural collapse: class statistics and the metrics built on them."""

from dnc_jax.collapse.decision import decision_mismatch, nc4, nearest_class_mean
from dnc_jax.collapse.etf import nc2, nc2_gram_mse
from dnc_jax.collapse.statistics import ClassStats, class_stats, merge
from dnc_jax.collapse.within import nc1, nc1_trace_ratio, within_class_rounding

__all__ = [
    "ClassStats",
    "class_stats",
    "decision_mismatch",
    "merge",
    "nc1",
    "nc1_trace_ratio",
    "nc2",
    "nc2_gram_mse",
    "nc4",
    "nearest_class_mean",
    "within_class_rounding",
]
