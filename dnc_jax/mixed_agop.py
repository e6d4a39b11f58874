"""The AGOP of a radial kernel machine at its own centers by products in float32, where these keep it.

Let Q_im (x_m - x_i) be the gradients of the kernel and a the weights (n, c), as in `closed_form`. Rows belong
to groups g with means mu_g, and r_i is what x_i is beyond the mean y_i of its own group. The gradient of
output c at x_i is

    G_ic = sum_m Q_im a_mc (r_m - r_i) + sum_g B_igc (mu_g - y_i),    B_igc = sum over m in g of Q_im a_mc,

where the own group drops out of the second sum. Where points collapse onto the means, Q grows as 1/|x_m - x_i|
and r shrinks as much: no sum cancels, while those of Q a x are as much larger than G as the classes are
tighter. So one product of Q, with [a r, a 1_g] for each output, is in float32. G^T G is in float64: a relative
error of eps in G is one of eps^2 in eigenvalues of M along which G has nothing, whose roots are what the
next layer receives; in a product G^T G in float32 it would be eps.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dnc_jax.agop import AGOPDiagnostics, kernel_agop_core
from dnc_jax.chunking import outputs_at_once, sum_rows
from dnc_jax.kernels import Radial, at_rows
from dnc_jax.linalg import matmul, symmetric_product
from dnc_jax.machine import KernelMachine


class _Groups(NamedTuple):
    """Means of groups about their own mean, that of each row's group, rows beyond it, 1 where a row belongs."""

    means: Float[Array, "k d"]
    of_rows: Float[Array, "n d"]
    beyond: Float[Array, "n d"]
    is_in: Float[Array, "n k"]


def grouped_gram(
    machine: KernelMachine, targets: Float[Array, "n c"]
) -> tuple[Float[Array, "d d"], Float[Array, ""], Float[Array, ""]]:
    """Returns (1/n) sum_c G_c^T G_c, the cancellation of the sums in float32, and that of whole rows.

    The groups are the rows with one largest target, or with a target of one sign where there is one output;
    any other groups would give the same number, with another cancellation.
    """
    x, a = machine.centers, machine.weights
    kernel = at_rows(machine.kernel, x)
    assert isinstance(kernel, Radial)
    other = kernel.gradient_terms(x, x)[1].astype(jnp.float32)
    groups = _groups(x, targets)
    wide = jnp.concatenate([groups.beyond, groups.is_in], axis=1)

    def of_outputs(columns: Float[Array, "b n"]) -> tuple[Array, Array]:
        weighted = columns.T[:, :, None] * wide[:, None, :]
        product = matmul(other, weighted.reshape(len(x), -1).astype(other.dtype))
        gradients, sums, sizes = _gradients(groups, product.reshape(weighted.shape).astype(x.dtype))
        whole = sums[:, :, None] * x[:, None, :]
        across = jnp.stack([jnp.sum(whole * whole), jnp.sum(whole * gradients)])
        return symmetric_product(gradients.reshape(-1, x.shape[1])), jnp.concatenate([sizes, across])

    total, sizes = sum_rows(of_outputs, a.T, outputs_at_once(*x.shape, None))
    trace = jnp.trace(total)
    # Of gradients A - B with A = s x: A.B = |A|^2 - A.(A - B), |B|^2 = |A|^2 - 2 A.(A - B) + |A - B|^2.
    own, mixed = sizes[1], -sizes[2]
    magnitude = own + 2 * jnp.abs(own - mixed) + own - 2 * mixed + trace
    return total / len(x), sizes[0] / trace, magnitude / trace


def _gradients(
    groups: _Groups, product: Float[Array, "n b q"]
) -> tuple[Float[Array, "n b d"], Float[Array, "n b"], Float[Array, "1"]]:
    """Returns gradients from their sums over points, the sums of weights, and the sizes of all terms."""
    in_dim = groups.means.shape[1]
    near, by_group = product[:, :, :in_dim], product[:, :, in_dim:]
    sums = jnp.sum(by_group, axis=2)
    near_own = sums[:, :, None] * groups.beyond[:, None, :]
    by_others = by_group * (1 - groups.is_in)[:, None, :]
    far = matmul(by_others, groups.means)
    far_own = jnp.sum(by_others, axis=2)[:, :, None] * groups.of_rows[:, None, :]
    sizes = sum(jnp.sum(term * term) for term in (near, near_own, far, far_own))
    return (near - near_own) + (far - far_own), sums, jnp.asarray(sizes)[None]


def _groups(x: Float[Array, "n d"], targets: Float[Array, "n c"]) -> _Groups:
    num_groups = max(2, targets.shape[1])
    labels = jnp.argmax(targets, axis=1) if targets.shape[1] > 1 else (targets[:, 0] > 0).astype(jnp.int32)
    is_in = jax.nn.one_hot(labels, num_groups, dtype=x.dtype)
    means = matmul(is_in.T, x) / jnp.maximum(jnp.sum(is_in, axis=0), 1)[:, None]
    beyond = x - means[labels]
    means = means - jnp.mean(means, axis=0)[None]
    return _Groups(means, means[labels], beyond, is_in)
