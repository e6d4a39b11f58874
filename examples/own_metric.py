"""A metric of your own, by layer and stage of a Deep RFM on handwritten digits: change it and run again.

python examples/own_metric.py
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from sklearn.datasets import load_digits

from dnc_jax import Laplace, class_stats, fit_deep_rfm_layer, nc1, relu_features, stages

jax.config.update("jax_enable_x64", True)


def my_metric(features: Float[Array, "n d"], labels: Int[Array, "n"], num_classes: int) -> Float[Array, ""]:
    """Returns the smallest distance between two class means, in units of the scatter within classes."""
    stats = class_stats(features, labels, num_classes)
    apart = jnp.linalg.norm(stats.means[:, None, :] - stats.means[None, :, :], axis=2)
    apart = jnp.where(jnp.eye(num_classes, dtype=bool), jnp.inf, apart)
    return jnp.min(apart) / jnp.sqrt(jnp.sum(stats.within) / jnp.sum(stats.counts))


def main() -> None:
    """Prints both metrics."""
    digits = load_digits()
    features, labels = jnp.asarray(digits.data[:500]), jnp.asarray(digits.target[:500])
    targets = 2 * jax.nn.one_hot(labels, 10, dtype=features.dtype) - 1
    options = {"kernel": Laplace(2.0), "ridge": 1e-3, "sample_features": partial(relu_features, width=256)}
    print("layer  stage          NC1  my metric")
    for number in range(1, 7):
        layer = fit_deep_rfm_layer(jax.random.key(number), features, targets, **options)
        for stage, found in stages(layer, features)._asdict().items():
            print(
                f"{number:>5}  {stage:<9} {nc1(found, labels, 10):8.3g} {my_metric(found, labels, 10):10.3g}"
            )
        features = layer(features)


if __name__ == "__main__":
    main()
