"""Puts the seeds of a run together: one point per layer, stage and metric."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from experiments.support.plotting.reading import MetricRow
from experiments.support.records import RecordsError


@dataclass(frozen=True)
class CurvePoint:
    """A metric at one layer over all seeds; mean, min and max are NaN where every value was dropped."""

    metric: str
    stage: str
    layer: int
    mean: float
    min: float
    max: float
    num_seeds: int
    num_dropped: int
    below_floor: bool


def curve(rows: Sequence[MetricRow], metric: str, stage: str, *, positive_only: bool) -> list[CurvePoint]:
    """Returns one point per layer, ascending.

    Values that cannot be drawn (not finite, or not positive where `positive_only`) are dropped and counted.
    A point is below the floor as soon as one of its seeds is.
    """
    chosen = [row for row in rows if row.metric == metric and row.stage == stage]
    layers = sorted({row.layer for row in chosen})
    return [_point([row for row in chosen if row.layer == layer], positive_only) for layer in layers]


def curves(
    rows: Sequence[MetricRow], metrics: Sequence[str], stages: Sequence[str], *, positive_only: bool
) -> list[CurvePoint]:
    """Returns the points of every metric at every stage, one curve after the other."""
    return [
        point
        for metric in metrics
        for stage in stages
        for point in curve(rows, metric, stage, positive_only=positive_only)
    ]


def require_metrics(points: Sequence[CurvePoint], metrics: Sequence[str]) -> None:
    """Returns nothing; raises RecordsError where one of the metrics has no point at all."""
    for metric in metrics:
        if not any(point.metric == metric for point in points):
            raise RecordsError(
                f"metrics.jsonl lacks the metric {metric!r}: got no row of it, expected one per layer; "
                "run the experiment again"
            )


def curve_table(points: Sequence[CurvePoint]) -> list[dict[str, object]]:
    """Returns the points as rows of a table; a number that does not exist is left blank."""
    return [{name: _blank_nan(value) for name, value in asdict(point).items()} for point in points]


def _blank_nan(value: object) -> object:
    return "" if isinstance(value, float) and math.isnan(value) else value


def _point(rows: Sequence[MetricRow], positive_only: bool) -> CurvePoint:
    kept = [row for row in rows if math.isfinite(row.value) and (row.value > 0 or not positive_only)]
    values = [row.value for row in kept]
    return CurvePoint(
        metric=rows[0].metric,
        stage=rows[0].stage,
        layer=rows[0].layer,
        mean=math.fsum(values) / len(values) if values else math.nan,
        min=min(values, default=math.nan),
        max=max(values, default=math.nan),
        num_seeds=len(values),
        num_dropped=len(rows) - len(values),
        below_floor=any(row.below_floor for row in kept),
    )
