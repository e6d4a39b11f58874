"""Points that belong to no class, seen from collapsed features: scores to tell them by."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from dnc_jax.checks import check_matrix
from dnc_jax.collapse.checks import check_defined
from dnc_jax.collapse.decision import nearest
from dnc_jax.collapse.statistics import (
    ClassMeans,
    ClassStats,
    centered_means,
    means_and_presence,
    num_present,
)
from dnc_jax.errors import NumericalError
from dnc_jax.linalg import matmul, norm, safe_sqrt, unit_rows
from dnc_jax.types import is_concrete


def nc5(class_means: ClassMeans, ood_features: Float[Array, "n d"]) -> Float[Array, ""]:
    """Returns the mean over classes of |cos(mu_k, mu_OOD)|, mu_OOD the mean of out-of-distribution features.

    Means are not centered. 0 where foreign points lie orthogonal to every class on average.

    Args:
        class_means: (k, d), all of which count; or `ClassStats`, whose classes without points do not.

    Raises:
        ValueError: If shapes do not fit, there is no point, or a value that can be read is not finite.

    References:
        Ammar, Belkhir, Popescu, Manzanera and Franchi (2024), NC5.
    """
    means, mask = means_and_presence(class_means)
    check_matrix("ood_features", ood_features, means.shape[1])
    if ood_features.shape[0] == 0:
        raise ValueError("ood_features must hold at least one point: got none")
    direction = unit_rows(jnp.mean(ood_features, axis=0, keepdims=True))
    cosines = jnp.abs(matmul(unit_rows(means), direction.T)[:, 0])
    value = jnp.sum(jnp.where(mask, cosines, 0.0)) / jnp.sum(mask)
    check_defined(value, class_means=means, ood_features=ood_features)
    return value


def principal_directions(features: Float[Array, "n d"], num_directions: int) -> Float[Array, "d q"]:
    """Returns the leading eigenvectors of the covariance of the features, as orthonormal columns.

    Raises:
        ValueError: If features are no matrix, or num_directions is below 1 or above d.
    """
    check_matrix("features", features)
    dim = features.shape[1]
    if not 1 <= num_directions <= dim:
        raise ValueError(f"num_directions must lie in 1..{dim}, the dimension: got {num_directions}")
    centered = features - jnp.mean(features, axis=0, keepdims=True)
    _, vectors = jnp.linalg.eigh(matmul(centered.T, centered))
    return vectors[:, ::-1][:, :num_directions]


def neco_score(features: Float[Array, "n d"], directions: Float[Array, "d q"]) -> Float[Array, "n"]:
    """Returns |P h| / |h| for each row h, P the projection onto directions: near 1 for the known classes.

    With directions = principal_directions(train_features, K - 1). Those leave the mean of the training
    features out, which a row h keeps: see `centered_neco_score`. Not multiplied by the largest logit, as the
    published score optionally is. 0 for a row of zeros.

    Raises:
        ValueError: If shapes do not fit.

    References:
        Ammar, Belkhir, Popescu, Manzanera and Franchi (2024), Eq. NECO.
    """
    check_matrix("directions", directions)
    check_matrix("features", features, directions.shape[0])
    projected = matmul(unit_rows(features), directions)
    return safe_sqrt(jnp.sum(projected * projected, axis=1))


def centered_neco_score(
    features: Float[Array, "n d"], directions: Float[Array, "d q"], center: Float[Array, "d"]
) -> Float[Array, "n"]:
    """Returns |P (h - m)| / |h - m| for each row h, m the mean of the training features.

    What the released code of the paper computes, whose principal component analysis centers what it projects
    (and divides every feature by its standard deviation first, unlike here). 0 for a row at the center.

    Raises:
        ValueError: If shapes do not fit.

    References:
        Ammar, Belkhir, Popescu, Manzanera and Franchi (2024), released code.
    """
    check_matrix("features", features, directions.shape[0])
    if center.shape != (features.shape[1],):
        raise ValueError(
            f"center must have shape ({features.shape[1]},): got {center.shape}; pass the mean of the "
            "training features over rows"
        )
    return neco_score(features - center[None, :], directions)


def simplex_distance_score(features: Float[Array, "n d"], stats: ClassStats) -> Float[Array, "n"]:
    """Returns min_k |h - mu_k| / R for each row h, R^2 the mean of |mu_k - mu_G|^2: the simplex's radius.

    0 at a vertex, about 1 at the center of the simplex; grows without bound away from it. NaN for a point
    that is not finite, and for all points under a trace if the class means coincide.

    Raises:
        ValueError: If shapes do not fit.
        NumericalError: If the class means can be read and coincide.
    """
    check_matrix("features", features, stats.means.shape[1])
    radius = norm(centered_means(stats)) / jnp.sqrt(num_present(stats))
    if is_concrete(radius) and not radius > 0:
        raise NumericalError(
            f"the {stats.means.shape[0]} class means must not all coincide: got a simplex of radius "
            f"{float(radius):g}, of which distances would be multiples; use statistics of 2 classes or more"
        )
    return safe_sqrt(nearest(features, stats).squared_distance) / jnp.where(radius > 0, radius, jnp.nan)
