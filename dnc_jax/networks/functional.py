"""Flax modules as pure functions of their parameters, which is how everything else here sees them."""

import dataclasses
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Float

from dnc_jax.networks.layers import Layer


class Frozen(nnx.Variable[Array]):
    """A variable that no optimizer changes, such as the weights of a fixed classifier head."""


@dataclasses.dataclass(frozen=True)
class Functional:
    """The structure of a module, without its arrays; hashable, so that jitted functions may take it.

    Of its arrays, params are what an optimizer changes. stats are all others: the running moments of batch
    normalization, which a training pass changes, and frozen weights, which nothing does.
    """

    graph: nnx.GraphDef

    def train(
        self, params: nnx.State, stats: nnx.State, x: Float[Array, "n *shape"]
    ) -> tuple[Float[Array, "n k"], nnx.State]:
        """Returns the logits of a batch in training mode, and the new stats."""
        network = self._module(params, stats)
        network.train()
        logits = network(x)
        return logits, nnx.state(network, nnx.Not(nnx.Param))

    def predict(
        self, params: nnx.State, stats: nnx.State, x: Float[Array, "n *shape"]
    ) -> Float[Array, "n k"]:
        """Returns the logits of a batch in evaluation mode: each row's depend on that row alone."""
        network = self._module(params, stats)
        network.eval()
        return network(x)

    def layers(self, params: nnx.State, stats: nnx.State) -> list[Layer]:
        """Returns the layers in evaluation mode, pure functions of one example that compose to predict."""
        network = self._module(params, stats)
        network.eval()
        return list(network.layers)

    def _module(self, params: nnx.State, stats: nnx.State) -> Any:  # noqa: ANN401
        # Of its own: a module shares the variables it is merged from, and training would change the caller's.
        return nnx.merge(self.graph, *jax.tree.map(lambda leaf: leaf, (params, stats)))


def functional(network: nnx.Module) -> tuple[Functional, nnx.State, nnx.State]:
    """Returns the structure, the params and the stats of a module; the module itself is left as it is."""
    graph, params, stats = nnx.split(network, nnx.Param, ...)
    return Functional(graph), params, stats
