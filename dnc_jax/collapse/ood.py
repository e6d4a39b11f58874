"""Points that belong to no class, seen from collapsed features: scores to tell them by."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from dnc_jax.collapse.statistics import ClassStats, centered_means, num_present, present
from dnc_jax.linalg import matmul, norm, safe_sqrt, squared_distances, unit_rows


def nc5(class_means: Float[Array, "k d"], ood_features: Float[Array, "n d"]) -> Float[Array, ""]:
    """Returns the mean over classes of |cos(mu_k, mu_OOD)|, mu_OOD the mean of out-of-distribution features.

    Means are not centered. 0 where foreign points lie orthogonal to every class on average.

    Raises:
        ValueError: If the two have different dimensions.

    References:
        Ammar, Belkhir, Popescu, Manzanera and Franchi (2024), NC5.
    """
    _check_dims(class_means, ood_features)
    direction = unit_rows(jnp.mean(ood_features, axis=0, keepdims=True))
    return jnp.mean(jnp.abs(matmul(unit_rows(class_means), direction.T)))


def principal_directions(features: Float[Array, "n d"], num_directions: int) -> Float[Array, "d q"]:
    """Returns the leading eigenvectors of the covariance of the features, as orthonormal columns.

    Raises:
        ValueError: If num_directions is below 1 or above d.
    """
    dim = features.shape[1]
    if not 1 <= num_directions <= dim:
        raise ValueError(f"num_directions must lie in 1..{dim}, the dimension: got {num_directions}")
    centered = features - jnp.mean(features, axis=0, keepdims=True)
    _, vectors = jnp.linalg.eigh(matmul(centered.T, centered))
    return vectors[:, ::-1][:, :num_directions]


def neco_score(features: Float[Array, "n d"], directions: Float[Array, "d q"]) -> Float[Array, "n"]:
    """Returns |P h| / |h| for each row h, P the projection onto directions: near 1 for the known classes.

    With directions = principal_directions(train_features, K - 1). Not multiplied by the largest logit, as
    the published score optionally is. 0 for a row of zeros.

    Raises:
        ValueError: If the two have different dimensions.

    References:
        Ammar, Belkhir, Popescu, Manzanera and Franchi (2024), Eq. NECO.
    """
    _check_dims(directions.T, features)
    projected = matmul(unit_rows(features), directions)
    return safe_sqrt(jnp.sum(projected * projected, axis=1))


def simplex_distance_score(features: Float[Array, "n d"], stats: ClassStats) -> Float[Array, "n"]:
    """Returns min_k |h - mu_k| / R for each row h, R^2 the mean of |mu_k - mu_G|^2: the simplex's radius.

    0 at a vertex, about 1 at the center of the simplex; grows without bound away from it.

    Raises:
        ValueError: If the two have different dimensions.
    """
    _check_dims(stats.means, features)
    squared = jnp.where(present(stats)[None, :], squared_distances(features, stats.means), jnp.inf)
    radius = norm(centered_means(stats)) / jnp.sqrt(num_present(stats))
    return safe_sqrt(jnp.min(squared, axis=1)) / radius


def _check_dims(a: Float[Array, "n d"], b: Float[Array, "m q"]) -> None:
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(
            f"features must have the dimension of the class means or directions: got {b.shape[-1]}, "
            f"expected {a.shape[-1]}"
        )
