"""Scales of the columns or rows of x, fitted on training rows."""

from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dnc_jax.linalg import unit_rows
from dnc_jax.types import pytree


@pytree
class Unscaled:
    """x as it is."""

    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """Returns x."""
        return x


@pytree
class UnitRows:
    """x / |x|, row by row."""

    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """Returns x with unit rows; a row of zeros stays zero."""
        return unit_rows(x)


@pytree
class Standardized:
    """(x - mean) / scale, mean and scale of shape (d,)."""

    mean: Array | np.ndarray
    scale: Array | np.ndarray

    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """Returns x with the columns moved and scaled."""
        return (x - self.mean[None, :]) / self.scale[None, :]


Scaler: TypeAlias = Unscaled | UnitRows | Standardized


def scaled(scaler: Scaler, x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Returns the scaled rows of x."""
    return np.asarray(_scaled(scaler, jnp.asarray(x)))


@jax.jit
def _scaled(scaler: Scaler, x: Float[Array, "n d"]) -> Float[Array, "n d"]:
    return scaler(x)


def fit_scaler(
    name: object,
    x: Float[np.ndarray, "n d"],
    sample_weights: Float[np.ndarray, "n"] | None = None,
    *,
    allowed: tuple[str | None, ...] = (None, "standard", "unit_rows"),
) -> Scaler:
    """Returns the scaling of a name: None, "standard" (mean 0 and variance 1 of columns) or "unit_rows".

    Mean and variance are weighted. Constant columns are moved to 0 and not scaled.

    Raises:
        ValueError: If there is no such name.
    """
    if not isinstance(name, str | None) or name not in allowed:
        raise ValueError(f"scaling must be one of {list(allowed)}: got {name!r}")
    if name is None:
        return Unscaled()
    if name == "unit_rows":
        return UnitRows()
    mean = np.average(x, axis=0, weights=sample_weights)
    deviation = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=sample_weights))
    scale = np.where(np.ptp(x, axis=0) > 0, deviation, 1.0)
    return Standardized(mean.astype(x.dtype), scale.astype(x.dtype))
