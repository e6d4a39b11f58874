"""Flax networks, their layers as pure functions, and heads that are not learned."""

from dnc_jax.networks.functional import Frozen, Functional, functional
from dnc_jax.networks.heads import ETFHead
from dnc_jax.networks.layers import Conv, Dense, Layer
from dnc_jax.networks.mlp import MLP
from dnc_jax.networks.resnet import ResNet18
from dnc_jax.networks.vgg import VGG

__all__ = [
    "MLP",
    "VGG",
    "Conv",
    "Dense",
    "ETFHead",
    "Frozen",
    "Functional",
    "Layer",
    "ResNet18",
    "functional",
]
