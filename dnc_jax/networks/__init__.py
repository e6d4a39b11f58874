"""Flax networks, their layers as pure functions, and heads that are not learned."""

from dnc_jax.networks.functional import Frozen, Functional, functional
from dnc_jax.networks.heads import ETFHead
from dnc_jax.networks.layers import Dense
from dnc_jax.networks.mlp import MLP

__all__ = ["MLP", "Dense", "ETFHead", "Frozen", "Functional", "functional"]
