"""Scale-free comparisons of matrices and of spectra: correlations and effective ranks.

A value without a definition (a correlation with a constant, a rank of 0 / 0) is a ValueError where it can be
read, and NaN with gradient 0 under a trace.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dnc_jax.checks import check_matrix
from dnc_jax.linalg import mean_rows, norm
from dnc_jax.types import is_concrete

# Deviations from the mean of at most this many units of rounding of the largest entry are rounding.
CONSTANT_UNITS = 8.0


def cosine(a: Float[Array, "*shape"], b: Float[Array, "*shape"]) -> Float[Array, ""]:
    """Returns <a, b> / (|a| |b|) over all entries; nothing is centered.

    Undefined where a or b is 0: a ValueError if the values can be read, NaN with gradient 0 under a trace.

    Raises:
        ValueError: If the shapes differ or, outside a trace, the value is undefined.
    """
    _check_same_shape(a, b)
    value = _cosine(a, b)
    _check_correlation(value, "cosine", "arrays that are not 0", a, b)
    return value


def pearson(a: Float[Array, "*shape"], b: Float[Array, "*shape"]) -> Float[Array, ""]:
    """Returns the correlation of the entries of a and b: the cosine of a - mean(a) and b - mean(b).

    Undefined where a or b is constant to within rounding, 8 eps of its largest entry: a ValueError if the
    values can be read, NaN with gradient 0 under a trace.

    Raises:
        ValueError: If the shapes differ or, outside a trace, the value is undefined.
    """
    _check_same_shape(a, b)
    value = _cosine(_centered(a), _centered(b))
    _check_correlation(value, "pearson", "arrays whose entries differ", a, b)
    return value


def _cosine(a: Float[Array, "*shape"], b: Float[Array, "*shape"]) -> Float[Array, ""]:
    # A cosine knows no scale, but squares of small entries underflow.
    a, b = _by_largest(a), _by_largest(b)
    norms = norm(a) * norm(b)
    defined = norms > 0
    return jnp.where(defined, jnp.sum(a * b) / jnp.where(defined, norms, 1.0), jnp.nan)


def _centered(a: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    a = _by_largest(a)
    residuals = a - mean_rows(jnp.ravel(a))
    is_constant = jnp.max(jnp.abs(residuals)) <= CONSTANT_UNITS * jnp.finfo(a.dtype).eps
    return jnp.where(is_constant, 0.0, residuals)


def _by_largest(a: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(a)))
    return a / jnp.where(largest > 0, largest, 1.0)


def _check_same_shape(a: Array, b: Array) -> None:
    if a.shape != b.shape or a.size == 0:
        raise ValueError(f"a and b must have one shape, with at least one entry: got {a.shape} and {b.shape}")


def _check_correlation(value: Array, name: str, expected: str, a: Array, b: Array) -> None:
    if is_concrete(value) and not jnp.isfinite(value):
        ranges = [f"[{float(jnp.min(array)):g}, {float(jnp.max(array)):g}]" for array in (a, b)]
        raise ValueError(
            f"{name} is undefined: got entries of a in {ranges[0]} and of b in {ranges[1]}, expected finite "
            f"{expected}; leave such a pair out, or trace the call to get NaN"
        )


def stable_rank(a: Float[Array, "d p"]) -> Float[Array, ""]:
    """Returns |a|_F^2 / |a|_2^2, between 1 and the rank of a.

    Raises:
        ValueError: If a is no matrix of floats, or 0 where its values can be read; NaN under a trace.

    References:
        Rudelson and Vershynin (2007), the numerical rank.
    """
    check_matrix("a", a)
    value = jnp.sum(_relative_spectrum(a) ** 2)
    _check_rank(value, "stable_rank", a)
    return value


def effective_rank(a: Float[Array, "d p"]) -> Float[Array, ""]:
    """Returns exp(-sum_i p_i log p_i), p the singular values of a divided by their sum; 0 log 0 is 0.

    Raises:
        ValueError: If a is no matrix of floats, or 0 where its values can be read; NaN under a trace.

    References:
        Roy and Vetterli (2007).
    """
    check_matrix("a", a)
    singular = _relative_spectrum(a)
    shares = singular / jnp.sum(singular)
    positive = shares > 0
    value = jnp.exp(-jnp.sum(jnp.where(positive, shares * jnp.log(jnp.where(positive, shares, 1.0)), 0.0)))
    value = jnp.where(singular[0] > 0, value, jnp.nan)
    _check_rank(value, "effective_rank", a)
    return value


def _relative_spectrum(a: Float[Array, "d p"]) -> Float[Array, "q"]:
    """Returns the singular values over the largest; NaN for a = 0."""
    singular = jnp.linalg.svd(_by_largest(a), compute_uv=False)
    is_nonzero = singular[0] > 0
    return jnp.where(is_nonzero, singular / jnp.where(is_nonzero, singular[0], 1.0), jnp.nan)


def _check_rank(value: Array, name: str, a: Array) -> None:
    if is_concrete(value) and not jnp.isfinite(value):
        largest = float(jnp.max(jnp.abs(a)))
        raise ValueError(
            f"{name} is undefined: got a of shape {a.shape} with largest entry {largest:g}, expected a "
            f"finite matrix that is not 0; leave it out, or trace the call to get NaN"
        )
