"""A preconditioner of K + ridge I: a Nystrom approximation of K by randomly pivoted Cholesky.

Pivots are drawn in rounds with probability proportional to the diagonal of what is left of K, so that the
approximation F F^T needs only the columns of K that are drawn. Memory n r, flops n r (d + r), r the rank.

References:
    Chen, Epperly, Tropp and Webber (2025), Randomly pivoted Cholesky, Algorithm 2 (rounds of pivots).
    Frangella, Tropp and Udell (2023), Randomized Nystrom preconditioning, Eq. 1.3.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dnc_jax.kernels import Kernel
from dnc_jax.linalg import matmul
from dnc_jax.matrix_free.gram_tiles import Rows
from dnc_jax.sharing import gather_over, inner, sum_over
from dnc_jax.types import Scalar

PIVOTS_PER_ROUND = 64


class Preconditioner(NamedTuple):
    """P = I + U diag(1/h^2 - 1) U^T with orthonormal columns U (own rows on each device), up to a factor.

    h^2 = shift / (eigenvalue + shift), where shift is the ridge and the smallest eigenvalue of F F^T.
    """

    vectors: Float[Array, "n r"]
    shrinkage: Float[Array, "r"]
    largest: Float[Array, ""]
    """the largest eigenvalue of F F^T, which is at most that of K"""

    def inverse_root(self, v: Float[Array, "n c"], axis: str | None) -> Float[Array, "n c"]:
        """Returns P^(-1/2) v."""
        return v + matmul(self.vectors, (self.shrinkage - 1)[:, None] * inner(axis, self.vectors, v))

    def root(self, v: Float[Array, "n c"], axis: str | None) -> Float[Array, "n c"]:
        """Returns P^(1/2) v."""
        return v + matmul(self.vectors, (1 / self.shrinkage - 1)[:, None] * inner(axis, self.vectors, v))


def nystrom_preconditioner(
    key: PRNGKeyArray,
    kernel: Kernel,
    rows: Rows,
    is_real: Float[Array, "n"],
    ridge: Scalar,
    rank: int,
    axis: str | None,
) -> Preconditioner:
    """Returns a preconditioner of K + ridge I from rank pivots, rounded up to rounds of 64.

    Args:
        is_real: 1 for a device's own rows, 0 for those that only fill the last block.
    """
    factor = pivoted_cholesky(key, kernel, rows, is_real, rank, axis)
    values, vectors = jnp.linalg.eigh(inner(axis, factor, factor))
    eps = jnp.finfo(values.dtype).eps
    kept = values > len(values) * eps * values[-1]
    inverse_roots = jnp.where(kept, 1 / jnp.sqrt(jnp.where(kept, values, 1.0)), 0.0)
    vectors = matmul(factor, vectors * inverse_roots[None, :])
    smallest = jnp.min(jnp.where(kept, values, jnp.inf))
    # Nothing is left of a K of lower rank, and the ridge alone is the rest.
    shift = ridge + jnp.where(kept[0], smallest, 0.0)
    shrinkage = jnp.where(kept, jnp.sqrt(shift / (values + shift)), 1.0)
    return Preconditioner(vectors, shrinkage, values[-1])


def pivoted_cholesky(
    key: PRNGKeyArray, kernel: Kernel, rows: Rows, is_real: Float[Array, "n"], rank: int, axis: str | None
) -> Float[Array, "n r"]:
    """Returns a device's own rows of F, K being F F^T and something positive semidefinite."""
    num_blocks, block_size = rows.blocks.shape[:2]
    num_rows, num_own = num_blocks * block_size, rows.num_own * block_size
    num_pivots = min(PIVOTS_PER_ROUND, num_rows)
    num_rounds = -(-min(rank, num_rows) // num_pivots)
    whole = rows.blocks.reshape(-1, *rows.blocks.shape[2:])
    begin = rows.first * block_size
    own = jax.lax.dynamic_slice_in_dim(whole, begin, num_own)
    diagonal = jax.vmap(lambda row: kernel(row[None], row[None] + 0)[0, 0])(own) * is_real
    size = sum_over(axis, jnp.sum(diagonal)) / sum_over(axis, jnp.sum(is_real))
    negligible = 100 * jnp.finfo(own.dtype).eps * size

    def gathered(values: Float[Array, "n q"], pivots: Int[Array, "p"]) -> Float[Array, "p q"]:
        local = pivots - begin
        is_own = (local >= 0) & (local < num_own)
        return sum_over(axis, jnp.where(is_own[:, None], values[jnp.clip(local, 0, num_own - 1)], 0.0))

    def add_round(
        number: Int[Array, ""], carry: tuple[Float[Array, "n r"], Float[Array, "n"]]
    ) -> tuple[Float[Array, "n r"], Float[Array, "n"]]:
        factor, left = carry
        pivots = _draw(jax.random.fold_in(key, number), left, num_pivots, axis)
        points, of_pivots = whole[pivots], gathered(factor, pivots)
        columns = (kernel(own, points) - matmul(factor, of_pivots.T)) * is_real[:, None]
        corner = kernel(points, points) - matmul(of_pivots, of_pivots.T)
        values, vectors = jnp.linalg.eigh((corner + corner.T) / 2)
        kept = values > negligible
        inverse_roots = jnp.where(kept, 1 / jnp.sqrt(jnp.where(kept, values, 1.0)), 0.0)
        new = matmul(columns, vectors * inverse_roots[None, :])
        factor = jax.lax.dynamic_update_slice(factor, new, (0, number * num_pivots))
        return factor, jnp.maximum(left - jnp.sum(new * new, axis=1), 0.0)

    empty = jnp.zeros((num_own, num_rounds * num_pivots), own.dtype)
    return jax.lax.fori_loop(0, num_rounds, add_round, (empty, diagonal))[0]


def _draw(key: PRNGKeyArray, weights: Float[Array, "n"], count: int, axis: str | None) -> Int[Array, "p"]:
    """Returns count different rows, one after the other with probability proportional to its weight."""
    whole = gather_over(axis, weights)
    # The largest of log w + Gumbel noise are such a draw without replacement (Yellott 1977).
    scores = jnp.log(whole) + jax.random.gumbel(key, whole.shape, whole.dtype)
    return jax.lax.top_k(scores, count)[1]
