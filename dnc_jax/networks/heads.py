"""Classifier heads that are not learned."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from dnc_jax.collapse.etf import simplex_etf
from dnc_jax.networks.functional import Frozen


class ETFHead(nnx.Module):
    """x -> scale x M^T + bias, the rows of M a fixed simplex of k unit vectors, turned at random.

    Neither weights nor bias are parameters. For squared error on targets in {-1, +1} the bias must be their
    mean, (2 - k)/k: the logits of a simplex sum to 0, those targets to 2 - k.

    References:
        Zhu et al. (2021), Sect. 4.3; Yang et al. (2022).
    """

    def __init__(
        self, in_dim: int, num_classes: int, *, rngs: nnx.Rngs, bias: float = 0.0, scale: float = 1.0
    ) -> None:
        """Draws the rotation; raises ValueError if in_dim is below num_classes - 1."""
        simplex = simplex_etf(rngs.params(), num_classes, in_dim)
        self.kernel = Frozen(scale * simplex.T)
        self.bias = Frozen(jnp.full(num_classes, bias, simplex.dtype))

    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, "n k"]:
        """Returns the logits of every row."""
        return x @ self.kernel[...] + self.bias[...][None, :]
