"""The neural feature ansatz without any d x d matrix, for layers whose input is wide.

The AGOP at a layer's input is W K W^T for weights W (d, p) and K the AGOP at its pre-activations, one (p, p)
entry of `layer_agops`. It has rank p at most, and so have its powers and W W^T: each is F F^T for a factor F
of min(d, p) columns, and a correlation of two such matrices needs products of their factors alone: 6 d p^2
flops in the place of 4 d^2 p for forming the two, and no eigendecomposition of size d.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from dnc_jax.ansatz import ROUNDING_UNITS
from dnc_jax.checks import check_matrix
from dnc_jax.linalg import matmul, norm, psd_power
from dnc_jax.types import is_concrete


def agop_factor(weights: Float[Array, "d p"], preactivation_agop: Float[Array, "p p"]) -> Float[Array, "d p"]:
    """Returns F = W K^(1/2): F F^T = W K W^T is the AGOP at the input of x -> activation(x W).

    Eigenvalues of K of at most 16 eps of the largest count as 0. For patches of a convolution, W is its
    weights as a matrix (patch, p) and K a `layer_agops` entry per position.

    Raises:
        ValueError: If the shapes do not fit.
    """
    check_matrix("weights", weights)
    if preactivation_agop.shape != (weights.shape[1],) * 2:
        raise ValueError(
            f"preactivation_agop must have shape {(weights.shape[1],) * 2}, for weights of shape "
            f"{weights.shape}: got {preactivation_agop.shape}"
        )
    return matmul(weights, psd_power(preactivation_agop, 0.5, rtol=_rounding(weights)))


def power_factor(factor: Float[Array, "d q"], power: float) -> Float[Array, "d r"]:
    """Returns G with G G^T = (F F^T)^power, r = min(d, q) columns, from the singular values of F.

    Those of at most 16 eps of the largest count as 0.

    Raises:
        ValueError: If factor is no matrix of floats, or power is not positive.
    """
    check_matrix("factor", factor)
    if not power > 0:
        raise ValueError(f"power must be positive: got {power}")
    vectors, singular, _ = jnp.linalg.svd(factor, full_matrices=False)
    is_kept = singular > _rounding(factor) * singular[0]
    powers = jnp.where(is_kept, jnp.where(is_kept, singular, 1.0) ** power, 0.0)
    return vectors * powers[None, :]


def cosine_of_grams(a: Float[Array, "d q"], b: Float[Array, "d r"]) -> Float[Array, ""]:
    """Returns the cosine of a a^T and b b^T, as |a^T b|^2 / (|a^T a| |b^T b|).

    Raises:
        ValueError: If the shapes do not fit or, outside a trace, one of the two is 0; NaN under a trace.
    """
    a, b = _scaled(a, b)
    norms = norm(matmul(a.T, a)) * norm(matmul(b.T, b))
    value = _ratio(jnp.sum(matmul(a.T, b) ** 2), norms)
    _check_defined(value, "cosine_of_grams", a, b)
    return value


def pearson_of_grams(a: Float[Array, "d q"], b: Float[Array, "d r"]) -> Float[Array, ""]:
    """Returns the Pearson correlation of the entries of a a^T and b b^T.

    The mean entry of a a^T is |a^T 1|^2 / d^2. In each of the three covariances the product of means is
    subtracted; where entries vary little around their mean, form the matrices and take `pearson`.

    Raises:
        ValueError: If the shapes do not fit or, outside a trace, one is constant; NaN under a trace.
    """
    a, b = _scaled(a, b)
    mean_a, mean_b = (jnp.sum(jnp.sum(f, axis=0) ** 2) / f.shape[0] for f in (a, b))
    covariance = jnp.sum(matmul(a.T, b) ** 2) - mean_a * mean_b
    variances = [
        _above_rounding(jnp.sum(matmul(f.T, f) ** 2), mean**2) for f, mean in ((a, mean_a), (b, mean_b))
    ]
    value = _ratio(covariance, jnp.sqrt(variances[0]) * jnp.sqrt(variances[1]))
    _check_defined(value, "pearson_of_grams", a, b)
    return value


def _rounding(a: Float[Array, "d q"]) -> float:
    return ROUNDING_UNITS * float(jnp.finfo(a.dtype).eps)


def _scaled(a: Float[Array, "d q"], b: Float[Array, "d r"]) -> list[Float[Array, "d _"]]:
    check_matrix("a", a)
    check_matrix("b", b)
    if a.shape[0] != b.shape[0]:
        raise ValueError(f"a and b must have as many rows as each other: got shapes {a.shape} and {b.shape}")
    # A correlation knows no scale, but fourth powers of small entries underflow.
    sizes = [norm(factor / jnp.max(jnp.abs(factor))) * jnp.max(jnp.abs(factor)) for factor in (a, b)]
    return [factor / size for factor, size in zip((a, b), sizes, strict=True)]


def _above_rounding(squares: Float[Array, ""], of_mean: Float[Array, ""]) -> Float[Array, ""]:
    variance = squares - of_mean
    return jnp.where(variance > ROUNDING_UNITS * jnp.finfo(squares.dtype).eps * squares, variance, 0.0)


def _ratio(numerator: Float[Array, ""], denominator: Float[Array, ""]) -> Float[Array, ""]:
    defined = denominator > 0
    return jnp.where(defined, numerator / jnp.where(defined, denominator, 1.0), jnp.nan)


def _check_defined(value: Array, name: str, a: Array, b: Array) -> None:
    if is_concrete(value) and not jnp.isfinite(value):
        raise ValueError(
            f"{name} is undefined: got factors of shapes {a.shape} and {b.shape}, of which one has a Gram "
            f"matrix that is constant or not finite; leave such a pair out, or trace the call to get NaN"
        )
