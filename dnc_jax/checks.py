"""What functions of matrices ask of their arguments, in one wording."""

from numbers import Integral

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dnc_jax.types import is_concrete


def check_count(name: str, value: int) -> None:
    """Raises ValueError unless value is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1: got {value!r}")


def check_matrix(name: str, a: Float[Array, "n d"], num_columns: int | None = None) -> None:
    """Raises ValueError for what is no matrix of floats, or none with num_columns columns."""
    if a.ndim != 2 or not jnp.issubdtype(a.dtype, jnp.floating):
        raise ValueError(
            f"{name} must be a matrix of floats: got shape {a.shape} of {a.dtype}; use reshape(n, -1) and "
            "astype(float)"
        )
    if num_columns is not None and a.shape[1] != num_columns:
        raise ValueError(f"{name} must have {num_columns} columns: got shape {a.shape}")


def check_square(name: str, a: Float[Array, "d d"]) -> None:
    """Raises ValueError for what is no square matrix of floats."""
    check_matrix(name, a)
    if a.shape[0] != a.shape[1] or a.shape[0] == 0:
        raise ValueError(f"{name} must be a square matrix: got shape {a.shape}")


def check_finite(name: str, values: Float[Array, "n *shape"]) -> None:
    """Raises ValueError if values are not all finite; traced values pass."""
    if not is_concrete(values):
        return
    bad_rows = np.flatnonzero(~jax.device_get(jnp.all(jnp.isfinite(values), axis=range(1, values.ndim))))
    if bad_rows.size:
        count = int(jnp.sum(~jnp.isfinite(values)))
        raise ValueError(
            f"{name} must be finite: got {count} NaN or infinite values in {bad_rows.size} rows, the first "
            f"in row {int(bad_rows[0])}; remove or impute them"
        )
