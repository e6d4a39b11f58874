"""The random features of a layer, by the names of the command line."""

from functools import partial
from typing import Literal

from dnc_jax import features
from dnc_jax.types import FeatureSampler

FeatureName = Literal["relu", "gaussian_fourier", "laplace_fourier", "product_laplace_fourier"]


def sampler_of(name: FeatureName, width: int, bandwidth: float) -> FeatureSampler:
    """Returns the sampler of a feature map; the bandwidth is that of Fourier features."""
    if name == "relu":
        return partial(features.relu_features, width=width)
    return partial(getattr(features, f"{name}_features"), width=width, bandwidth=bandwidth)
