"""A bandwidth from the data: the median distance."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from dnc_jax.kernels.radial import Gaussian, Laplace
from dnc_jax.linalg import safe_sqrt, squared_distances
from dnc_jax.types import is_concrete


def median_bandwidth(
    x: Float[Array, "n d"], *, max_points: int | None = 1000, key: PRNGKeyArray | None = None
) -> Float[Array, ""]:
    """Returns the median of |x_i - x_j| over the pairs of rows that differ.

    Pairs at distance 0 are left out, so that duplicate rows do not pull it down. NaN if x is not finite, and
    under a trace 0 if all rows are equal.

    Args:
        max_points: Beyond so many rows the median is that of a random subset of them; None takes all.
        key: Draws the subset; needed only where there is one to draw.

    Raises:
        ValueError: If x has fewer than two rows or all of them are equal, max_points is below 2, or a key is
            needed and missing.

    References:
        Gretton, Borgwardt, Rasch, Schölkopf and Smola (2012), Section 8 (the median heuristic).
    """
    if x.ndim != 2 or x.shape[0] < 2:
        raise ValueError(f"x must be a matrix (n, d) with at least two rows: got shape {x.shape}")
    if max_points is not None and max_points < 2:
        raise ValueError(f"max_points must be at least 2, or None for all rows: got {max_points}")
    if max_points is not None and x.shape[0] > max_points:
        if key is None:
            raise ValueError(
                f"a subset of {max_points} of {x.shape[0]} rows needs a key: got None; pass "
                "key=jax.random.key(seed), or max_points=None for all rows"
            )
        x = jax.random.choice(key, x, (max_points,), replace=False)
    squared = squared_distances(x, x)
    # As many zeros are sorted to the front as there are pairs that coincide, one at least for each row.
    num_zero, size = jnp.sum(squared == 0), squared.size
    if is_concrete(squared) and num_zero == size:
        raise ValueError(
            f"x must have rows that differ: got {x.shape[0]} equal rows; choose a bandwidth by hand"
        )
    ordered = jnp.sort(jnp.ravel(squared))
    low, high = num_zero + (size - num_zero - 1) // 2, num_zero + (size - num_zero) // 2
    median = (safe_sqrt(ordered[low]) + safe_sqrt(ordered[high])) / 2
    return jnp.where(jnp.all(jnp.isfinite(x)), median, jnp.nan)


def median_scaled(
    kernel: Laplace | Gaussian,
    x: Float[Array, "n d"],
    *,
    max_points: int | None = 1000,
    key: PRNGKeyArray | None = None,
) -> Laplace | Gaussian:
    """Returns the kernel with its bandwidth multiplied by `median_bandwidth` of x.

    As adapt_kernel of a recursive feature machine it follows the scale that M gives to distances; beyond
    max_points rows bind a key with functools.partial.

    Raises:
        ValueError: If the kernel has no bandwidth. And what `median_bandwidth` raises.
    """
    if not isinstance(kernel, Laplace | Gaussian):
        raise ValueError(f"only a Laplace or Gaussian kernel has a bandwidth to scale: got {kernel!r}")
    scale = median_bandwidth(x, max_points=max_points, key=key)
    return dataclasses.replace(kernel, bandwidth=kernel.bandwidth * scale)
