"""Dense linear algebra that stays true when points collapse onto each other."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dnc_jax.checks import check_matrix, check_square
from dnc_jax.types import Scalar

# Accelerators round the inputs of a product to 10 or 8 bits unless told otherwise; a distance between
# nearly equal points does not survive that.
matmul = partial(jnp.matmul, precision="highest")

# A squared distance below this many units of rounding of |x|^2 + |z|^2 is recomputed from x - z.
CANCELLATION_UNITS = 8.0
# Columns below which half a symmetric product is not worth more and smaller products.
SYMMETRIC_BLOCK = 256


def squared_distances(x: Float[Array, "n d"], z: Float[Array, "m d"]) -> Float[Array, "n m"]:
    """Returns the squared Euclidean distances between the rows of x and the rows of z.

    Computed as |x|^2 + |z|^2 - 2 x.z, clamped at 0. Where that difference is lost in rounding (below
    8 eps (|x|^2 + |z|^2)) the pair is recomputed from x - z, so equal rows are at distance exactly 0.
    If z is x, the same object, the diagonal is 0 by construction. Differentiable, finite at 0.

    Raises:
        ValueError: If the rows of x and z differ in length.
    """
    if x.ndim != 2 or z.ndim != 2 or x.shape[1] != z.shape[1]:
        raise ValueError(
            f"x and z must be matrices with rows of one length: got shapes {x.shape} and {z.shape}"
        )
    return _jitted_squared_distances(x is z, x, z)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _squared_distances(same: bool, x: Float[Array, "n d"], z: Float[Array, "m d"]) -> Float[Array, "n m"]:
    scale = jnp.sum(x * x, axis=1)[:, None] + jnp.sum(z * z, axis=1)[None, :]
    squared = jnp.maximum(scale - 2.0 * matmul(x, z.T), 0.0)
    lost = squared < CANCELLATION_UNITS * jnp.finfo(squared.dtype).eps * scale
    if same:
        diagonal = jnp.eye(x.shape[0], dtype=bool)
        squared, lost = jnp.where(diagonal, 0.0, squared), lost & ~diagonal
    return _recompute(squared, lost, x, z)


@_squared_distances.defjvp
def _squared_distances_jvp(
    same: bool,
    primals: tuple[Float[Array, "n d"], Float[Array, "m d"]],
    tangents: tuple[Float[Array, "n d"], Float[Array, "m d"]],
) -> tuple[Float[Array, "n m"], Float[Array, "n m"]]:
    # The loop that recomputes pairs has no reverse mode; d|x - z|^2 = 2 (x - z).(dx - dz) needs none.
    (x, z), (dx, dz) = primals, tangents
    own = jnp.sum(x * dx, axis=1)[:, None] + jnp.sum(z * dz, axis=1)[None, :]
    return _squared_distances(same, x, z), 2.0 * (own - matmul(dx, z.T) - matmul(x, dz.T))


# Jitted here, so that eager calls do not compile the loop of `_recompute` anew each time.
_jitted_squared_distances = jax.jit(_squared_distances, static_argnums=0)


def _recompute(
    squared: Float[Array, "n m"],
    lost: Bool[Array, "n m"],
    x: Float[Array, "n d"],
    z: Float[Array, "m d"],
) -> Float[Array, "n m"]:
    """Replaces the lost entries by |x - z|^2, one entry of every row at a time."""
    rows = jnp.arange(x.shape[0])

    def recompute_one(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        squared, lost = carry
        cols = jnp.argmax(lost, axis=1)
        exact = jnp.sum((x - z[cols]) ** 2, axis=1)
        current = squared[rows, cols]
        squared = squared.at[rows, cols].set(jnp.where(lost[rows, cols], exact, current))
        return squared, lost.at[rows, cols].set(False)

    return jax.lax.while_loop(lambda carry: jnp.any(carry[1]), recompute_one, (squared, lost))[0]


def unit_rows(x: Float[Array, "n d"]) -> Float[Array, "n d"]:
    """Returns x with every row divided by its Euclidean norm; a row of zeros stays zero, NaN stays NaN.

    Raises:
        ValueError: If x is no matrix of floats.
    """
    check_matrix("x", x)
    # Divided by the largest entry first, whose square may over- or underflow; any factor would do.
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis=1, keepdims=True))
    is_zero = largest == 0
    scaled = x / jnp.where(is_zero, 1.0, largest)
    squared = jnp.sum(scaled * scaled, axis=1, keepdims=True)
    return jnp.where(is_zero, 0.0, scaled / jnp.sqrt(jnp.where(is_zero, 1.0, squared)))


def safe_sqrt(squared: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns the entrywise square root, with derivative 0 rather than infinity where squared is 0."""
    nonzero = squared != 0
    return jnp.where(nonzero, jnp.sqrt(jnp.where(nonzero, squared, 1.0)), 0.0)


def symmetric_product(a: Float[Array, "n d"]) -> Float[Array, "d d"]:
    """Returns a^T a, exactly symmetric, from the blocks on and above its diagonal.

    By halving down to 256 columns: 3/4 of the flops of the plain product at 512 columns, 5/8 at 1024.
    """
    half = a.shape[1] // 2
    if a.shape[1] <= SYMMETRIC_BLOCK:
        whole = matmul(a.T, a)
        return (whole + whole.T) / 2
    left, right = a[:, :half], a[:, half:]
    corner = matmul(left.T, right)
    return jnp.block([[symmetric_product(left), corner], [corner.T, symmetric_product(right)]])


def scaled_to_single(
    matrix: Float[Array, "n *shape"],
) -> tuple[Float[Array, "n *shape"], Float[Array, "*shape"]]:
    """Returns the matrix in float32, each column divided by its largest magnitude, and these magnitudes.

    Without that, what is below 1e-38 would be lost however small all the others are.
    """
    largest = jnp.max(jnp.abs(matrix), axis=0)
    scales = jnp.where(largest > 0, largest, 1.0)
    return (matrix / scales[None]).astype(jnp.float32), scales


def lost_in_products(num_summed: int) -> float:
    """Returns a bound of what a sum of products of numbers up to 1 loses to the range of float32.

    What is below the least normal number may be flushed to 0, in either factor and in their product.
    """
    return 3 * num_summed * float(jnp.finfo(jnp.float32).tiny)


def mean_rows(a: Float[Array, "n *shape"]) -> Float[Array, "*shape"]:
    """Returns the mean over the first axis, corrected by the mean of what it leaves over.

    A long sum is off by some units of rounding, which count where means dominate what they are taken from.
    """
    mean = jnp.mean(a, axis=0)
    return mean + jnp.mean(a - mean[None], axis=0)


def share(hits: Float[Array, "n"]) -> Float[Array, ""]:
    """Returns the mean of ones, zeros and NaN, which is exactly 1 where all are 1."""
    # A division by the constant n is compiled to a product with its reciprocal: 49 of 49 would not be 1.
    count_dtype = jnp.promote_types(hits.dtype, jnp.float32)
    hit, missed = jnp.sum(hits, dtype=count_dtype), jnp.sum(1 - hits, dtype=count_dtype)
    return (hit / (hit + missed)).astype(hits.dtype)


def norm(a: Float[Array, "..."]) -> Float[Array, ""]:
    """Returns the Frobenius norm of a, with gradient 0 rather than NaN where a is 0."""
    return safe_sqrt(jnp.sum(a * a))


def psd_power(a: Float[Array, "d d"], power: float, *, rtol: Scalar | None = None) -> Float[Array, "d d"]:
    """Returns V diag(max(w, 0)^power) V^T for the symmetric matrix a = V diag(w) V^T.

    Only the symmetric part of a is read. Negative eigenvalues count as 0. Differentiable also where
    eigenvalues coincide or are 0; those that count as 0 contribute no slope of their own.

    Args:
        rtol: Eigenvalues of at most rtol times the largest count as 0 too. None is 0 for a positive power
            and d eps, as in a pseudo-inverse, otherwise.

    Raises:
        ValueError: If a is no square matrix of floats.
    """
    check_square("a", a)
    if rtol is None:
        rtol = 0.0 if power > 0 else a.shape[0] * float(jnp.finfo(a.dtype).eps)
    return _psd_power(power, a, jnp.asarray(rtol, a.dtype))


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _psd_power(power: float, a: Float[Array, "d d"], rtol: Float[Array, ""]) -> Float[Array, "d d"]:
    values, vectors = jnp.linalg.eigh((a + a.T) / 2)
    _, powered = _power_of_spectrum(power, values, rtol)
    return matmul(vectors * powered[None, :], vectors.T)


@_psd_power.defjvp
def _psd_power_jvp(
    power: float,
    primals: tuple[Float[Array, "d d"], Float[Array, ""]],
    tangents: tuple[Float[Array, "d d"], Float[Array, ""]],
) -> tuple[Float[Array, "d d"], Float[Array, "d d"]]:
    # The derivative of eigh divides by gaps of the spectrum, and an AGOP of few outputs has many zeros.
    # Daleckii and Krein (1965): only divided differences of the power itself are needed.
    (a, rtol), (da, _) = primals, tangents
    values, vectors = jnp.linalg.eigh((a + a.T) / 2)
    kept, powered = _power_of_spectrum(power, values, rtol)
    both = kept[:, None] & kept[None, :]
    one = kept[:, None] ^ kept[None, :]
    gap = jnp.where(one, values[:, None] - values[None, :], 1.0)
    across = jnp.where(one, (powered[:, None] - powered[None, :]) / gap, 0.0)
    slopes = jnp.where(both, _divided_differences(power, jnp.where(kept, values, 1.0)), across)
    rotated = matmul(vectors.T, matmul((da + da.T) / 2, vectors))
    tangent = matmul(vectors, matmul(slopes * rotated, vectors.T))
    return matmul(vectors * powered[None, :], vectors.T), tangent


def _power_of_spectrum(
    power: float, values: Float[Array, "d"], rtol: Float[Array, ""]
) -> tuple[Bool[Array, "d"], Float[Array, "d"]]:
    kept = values > rtol * jnp.max(jnp.abs(values))
    return kept, jnp.where(kept, jnp.where(kept, values, 1.0) ** power, 0.0)


def _divided_differences(power: float, values: Float[Array, "d"]) -> Float[Array, "d d"]:
    """Returns (x^power - y^power) / (x - y) for pairs of positive values, without cancellation."""
    larger = jnp.maximum(values[:, None], values[None, :])
    step = jnp.minimum(values[:, None], values[None, :]) / larger - 1.0
    is_step = step < 0
    safe = jnp.where(is_step, step, -0.5)
    quotient = jnp.where(is_step, jnp.expm1(power * jnp.log1p(safe)) / safe, power)
    return quotient * larger ** (power - 1.0)


def psd_pinv(a: Float[Array, "d d"], *, rtol: Scalar | None = None) -> Float[Array, "d d"]:
    """Returns the Moore-Penrose pseudo-inverse of a symmetric positive semidefinite matrix.

    The one matrix X with a X a = a, X a X = X, and a X and X a symmetric. Eigenvalues of at most rtol times
    the largest, d eps unless given, count as 0, and so do negative ones.

    Raises:
        ValueError: If a is no square matrix of floats.

    References:
        Penrose (1955), Theorem 1.
    """
    return psd_power(a, -1.0, rtol=rtol)


@jax.custom_jvp
def pinv(a: Float[Array, "n d"], tolerance: Float[Array, ""]) -> Float[Array, "d n"]:
    """Returns the pseudo-inverse of a, its singular values of at most tolerance counted as 0.

    The derivative is that at constant rank; unlike jnp.linalg.pinv it takes a traced tolerance.

    References:
        Golub and Pereyra (1973), Eq. 4.12.
    """
    left, singular, right = jnp.linalg.svd(a, full_matrices=False)
    kept = singular > tolerance
    inverse = jnp.where(kept, 1 / jnp.where(kept, singular, 1.0), 0.0)
    return matmul(right.T * inverse[None, :], left.T)


@pinv.defjvp
def _pinv_jvp(
    primals: tuple[Float[Array, "n d"], Float[Array, ""]],
    tangents: tuple[Float[Array, "n d"], Float[Array, ""]],
) -> tuple[Float[Array, "d n"], Float[Array, "d n"]]:
    a, da = primals[0], tangents[0]
    inverse = pinv(*primals)
    outside = da.T - matmul(matmul(da.T, a), inverse)
    across = matmul(matmul(inverse, inverse.T), outside)
    outside = da.T - matmul(inverse, matmul(a, da.T))
    across = across + matmul(outside, matmul(inverse.T, inverse))
    return inverse, across - matmul(inverse, matmul(da, inverse))
