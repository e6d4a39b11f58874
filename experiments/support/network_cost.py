"""What a training must compute and hold, counted from the shapes of its layers before it starts."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from dnc_jax.networks import Layer
from experiments.support.estimate import in_words


class LayerCost(NamedTuple):
    """Of one example: products of the forward pass, numbers that the layer passes on, entries of patches."""

    flops: float
    num_outputs: int
    num_patch_entries: int


def layer_costs(layers: Sequence[Layer], example: jax.ShapeDtypeStruct) -> list[LayerCost]:
    """Returns the costs of layers on one example; no array is computed."""
    costs, state = [], example
    for layer in layers:
        z = jax.eval_shape(lambda layer, state: layer.linear(state), layer, state)
        state = jax.eval_shape(lambda layer, z: layer.rest(z), layer, z)
        own = z[0] if isinstance(z, tuple) else z
        num_inputs, num_outputs = layer.matrix.shape
        positions = own.size // num_outputs
        held = sum(leaf.size for leaf in jax.tree.leaves((z, state)))
        costs.append(LayerCost(2.0 * positions * layer.matrix.size, held, positions * num_inputs))
    return costs


def training_cost(
    layers: Sequence[Layer],
    params: PyTree,
    opt_state: PyTree,
    *,
    image_shape: tuple[int, ...],
    dtype: jnp.dtype,
    num_images: int,
    batch_size: int,
    num_epochs: int,
) -> str:
    """Returns two lines: the flops of an epoch and of the run, and the memory that a step needs at least.

    A backward pass takes two products for each of the forward pass. The memory is that of all images, of the
    parameters with their gradients and the optimizer's moments, and of a batch's activations and their
    derivatives; not the patches that convolutions on CPUs gather, nor what is measured.
    """
    example = jax.ShapeDtypeStruct(image_shape, dtype)
    costs, itemsize = layer_costs(layers, example), example.dtype.itemsize
    epoch = 3 * num_images * sum(cost.flops for cost in costs)
    held = 2 * batch_size * sum(cost.num_outputs for cost in costs) * itemsize
    arrays = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves((params, params, opt_state)))
    images = num_images * math.prod(image_shape) * itemsize
    return (
        f"products: {epoch:.2g} flops an epoch, {epoch * num_epochs:.2g} in all, and those of measuring\n"
        f"memory: at least {in_words(images + arrays + held)} (images {in_words(images)}, weights with "
        f"gradients and moments {in_words(arrays)}, a batch {in_words(held)})"
    )
