"""The neural feature ansatz: what a layer's weights select against what its output is sensitive to.

Weights have Flax orientation (d, p): a layer is features @ weights, and W^T W of the literature is
weights @ weights.T. AGOPs are those of the network's output with respect to the layer's input, from
`layer_agops`. A value without a definition is a ValueError where it can be read, and NaN under a trace.

References:
    Radhakrishnan, Beaglehole, Pandit and Belkin (2024), Science 383, Neural feature ansatz.
    Beaglehole, Mitliagkas and Agarwala (2024), arXiv 2402.05271, for the centered ones.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dnc_jax.checks import check_matrix
from dnc_jax.linalg import matmul, psd_power, symmetric_product
from dnc_jax.similarity import cosine, pearson
from dnc_jax.types import Stages, is_concrete

# Rounding of an eigenvalue of an AGOP relative to its largest, in units of eps. A fractional power would turn
# it into a feature: (1e-17)^(1/5) is 4e-4.
ROUNDING_UNITS = 16.0


def nfm(weights: Float[Array, "d p"]) -> Float[Array, "d d"]:
    """Returns the neural feature matrix weights @ weights.T of a layer features @ weights.

    Raises:
        ValueError: If weights is no matrix of floats.
    """
    check_matrix("weights", weights)
    return symmetric_product(weights.T)


def nfa_correlation(
    weights: Float[Array, "d p"], feature_agop: Float[Array, "d d"], *, power: float = 1.0
) -> Float[Array, ""]:
    """Returns the Pearson correlation, over entries, of the neural feature matrix and AGOP^power.

    1 if one is a positive multiple of the other. Below power 1, eigenvalues of the AGOP of at most 16 eps of
    the largest count as 0.

    Args:
        power: 1/2 in the published figures of trained networks; 1/(L - l + 1) is exact for layer l of a
            balanced deep linear network of L layers.

    Raises:
        ValueError: If shapes do not fit or, outside a trace, one of the two is constant.
    """
    _check_square(weights, feature_agop)
    return pearson(nfm(weights), _power(feature_agop, power))


def cosine_nfa(
    weights: Float[Array, "d p"], feature_agop: Float[Array, "d d"], *, power: float = 1.0
) -> Float[Array, ""]:
    """Returns the cosine <NFM, AGOP^power> / (|NFM| |AGOP^power|), the ansatz without centering of entries.

    Never negative, and large for any two matrices of which the diagonals dominate; otherwise as
    `nfa_correlation`.

    Raises:
        ValueError: If shapes do not fit or, outside a trace, one of the two is 0.
    """
    _check_square(weights, feature_agop)
    return cosine(nfm(weights), _power(feature_agop, power))


def centered_nfa_correlation(
    weights: Float[Array, "d p"],
    initial_weights: Float[Array, "d p"],
    feature_agop: Float[Array, "d d"],
    *,
    power: float = 1.0,
) -> Float[Array, ""]:
    """Returns `nfa_correlation` of the change W - W0 of the weights, with the AGOP of the whole network.

    Raises:
        ValueError: If shapes do not fit or, outside a trace, the weights have not changed.
    """
    return nfa_correlation(_change(weights, initial_weights), feature_agop, power=power)


def centered_nfc(
    weights: Float[Array, "d p"],
    initial_weights: Float[Array, "d p"],
    preactivation_agop: Float[Array, "p p"],
) -> Float[Array, ""]:
    """Returns the cosine of D D^T and D K D^T for the change D = W - W0 of the weights.

    K, the mean outer product of the gradients with respect to the pre-activations features @ weights, is the
    AGOP at the input of the activation: an entry of `layer_agops` for a network whose linear maps and
    activations are layers of their own. W K W^T is the AGOP at the layer's input, so that with W0 = 0 this
    is `cosine_nfa`. Here the change replaces W in the AGOP too, unlike `centered_nfa_correlation`.

    Raises:
        ValueError: If shapes do not fit or, outside a trace, the weights have not changed.

    References:
        Beaglehole, Mitliagkas and Agarwala (2024), centered neural feature correlation.
    """
    change = _change(weights, initial_weights)
    _check_square(weights.T, preactivation_agop)
    return cosine(nfm(change), matmul(matmul(change, preactivation_agop), change.T))


def agop_alignment(a: Float[Array, "d d"], b: Float[Array, "d d"]) -> Float[Array, ""]:
    """Returns the cosine of two feature matrices, 0 for orthogonal ranges and 1 for proportional ones.

    Raises:
        ValueError: If shapes differ or, outside a trace, one of the two is 0.
    """
    return cosine(a, b)


def subspace_alignment(
    feature_matrix: Float[Array, "d d"], directions: Float[Array, "d q"]
) -> Float[Array, ""]:
    """Returns tr(U^T M U) / tr(M), U an orthonormal basis of the span of directions: the share of M in it.

    Directions D of any length and angle, dependent ones too: computed as tr(pinv(D) M D), whose gradient,
    unlike that of a basis, knows no gaps of singular values. M must be positive semidefinite.

    Raises:
        ValueError: If shapes do not fit or, outside a trace, tr(M) is not positive.
    """
    _check_square(directions, feature_matrix)
    trace = jnp.trace(feature_matrix)
    inside = jnp.sum(jnp.linalg.pinv(directions) * matmul(feature_matrix, directions).T)
    if is_concrete(trace) and not trace > 0:
        raise ValueError(
            f"feature_matrix must be positive semidefinite and not 0: got trace {float(trace):g}; leave it "
            f"out, or trace the call to get NaN"
        )
    return jnp.where(trace > 0, inside / jnp.where(trace > 0, trace, 1.0), jnp.nan)


def svd_stages(
    features: Float[Array, "n d"],
    weights: Float[Array, "d p"],
    activation: Callable[[Float[Array, "n p"]], Float[Array, "n p"]],
) -> Stages:
    """Returns features, features @ V S and activation(features @ weights) for weights = V S U^T.

    The linear stage has min(d, p) columns. U has orthonormal columns or rows, so what does not change under
    rotations, NC1 and NC2 for instance, is the same at V S and at the pre-activations V S U^T, and so is its
    derivative. Columns are known up to sign, and up to rotation where singular values coincide; there their
    derivative leaves rotations among them out.

    Raises:
        ValueError: If features and weights do not fit.

    References:
        Beaglehole, Sukenik, Mondelli and Belkin (2024).
    """
    if features.ndim != 2 or weights.ndim != 2 or features.shape[1] != weights.shape[0]:
        raise ValueError(
            f"features (n, d) and weights (d, p) must fit: got shapes {features.shape} and {weights.shape}"
        )
    linear = matmul(features, principal_columns(weights))
    return Stages(features, linear, activation(matmul(features, weights)))


@jax.custom_jvp
def principal_columns(weights: Float[Array, "d p"]) -> Float[Array, "d q"]:
    """Returns V S of the singular value decomposition weights = V S U^T, q = min(d, p) columns.

    What the linear stage multiplies by; columns and their derivative are as `svd_stages` says.
    """
    vectors, singular, _ = jnp.linalg.svd(weights, full_matrices=False)
    return vectors * singular[None, :]


@principal_columns.defjvp
def _principal_columns_jvp(
    primals: tuple[Float[Array, "d p"]], tangents: tuple[Float[Array, "d p"]]
) -> tuple[Float[Array, "d q"], Float[Array, "d q"]]:
    # V S = W U, so d(V S) = dW U + V S (U^T dU), and U^T dU has the gaps of the spectrum as divisors. Where a
    # gap is 0 any rotation will do: it changes nothing that does not depend on the choice of columns.
    (weights,), (change,) = primals, tangents
    vectors, singular, turned = jnp.linalg.svd(weights, full_matrices=False)
    columns, moved = vectors * singular[None, :], matmul(change, turned.T)
    inner = matmul(columns.T, moved)
    squares = singular**2
    gaps = squares[None, :] - squares[:, None]
    limit = ROUNDING_UNITS * jnp.finfo(weights.dtype).eps * squares[0]
    is_gap = jnp.abs(gaps) > limit
    rotation = jnp.where(is_gap, (inner + inner.T) / jnp.where(is_gap, gaps, 1.0), 0.0)
    return columns, moved + matmul(columns, rotation)


def _power(feature_agop: Float[Array, "d d"], power: float) -> Float[Array, "d d"]:
    if power == 1.0:
        return feature_agop
    return psd_power(feature_agop, power, rtol=ROUNDING_UNITS * float(jnp.finfo(feature_agop.dtype).eps))


def _change(weights: Float[Array, "d p"], initial_weights: Float[Array, "d p"]) -> Float[Array, "d p"]:
    if weights.shape != initial_weights.shape:
        raise ValueError(
            f"weights and initial_weights must have one shape: got {weights.shape} and "
            f"{initial_weights.shape}"
        )
    return weights - initial_weights


def _check_square(weights: Float[Array, "d p"], matrix: Float[Array, "d d"]) -> None:
    expected = (weights.shape[0], weights.shape[0])
    if weights.ndim != 2 or matrix.shape != expected:
        raise ValueError(
            f"the feature matrix must have shape {expected}, for weights or directions of shape "
            f"{weights.shape}: got {matrix.shape}"
        )
