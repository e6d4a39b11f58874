"""Which stage of a layer collapses its classes: the matrix (linear) or what follows it (nonlinear)."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dnc_jax.collapse.within import nc1
from dnc_jax.types import Stages

Metric = Callable[[Float[Array, "n d"], Int[Array, "n"], int], Float[Array, ""]]


class Attribution(NamedTuple):
    """By how many powers of ten a stage lowers a metric; negative where it raises it."""

    linear: Float[Array, ""]
    nonlinear: Float[Array, ""]


def collapse_attribution(
    stages: Stages, labels: Int[Array, "n"], num_classes: int, metric: Metric = nc1
) -> Attribution:
    """Returns log10 metric(input) / metric(linear), and log10 metric(linear) / metric(nonlinear).

    The two add up to the whole layer. In the feature-learning regime the first is the larger one by
    `nc1_trace_ratio`; by `nc1` it need not be.

    References:
        Beaglehole, Sukenik, Mondelli and Belkin (2024), Section 5.
    """
    before, between, after = (metric(features, labels, num_classes) for features in stages)
    return Attribution(jnp.log10(before / between), jnp.log10(between / after))
