"""The AGOP of a radial kernel machine at its own centers, in float32 where the answer survives that.

The class-free form (`class_free`) is taken with Q Q in float32 while it cancels little, as on points that
have not collapsed. Its rounding is a share of the largest eigenvalue of M, though, and beyond that the
gradients themselves are formed in float32, of rows told apart by group:

Let Q_im (x_m - x_i) be the gradients of the kernel and a the weights (n, c). Rows belong to groups g with
means mu_g, and r_i is what x_i is beyond the mean y_i of its own group. The gradient of output c at x_i is

    G_ic = sum_m Q_im a_mc (r_m - r_i) + sum_g B_igc (mu_g - y_i),    B_igc = sum over m in g of Q_im a_mc,

where the own group drops out of the second sum. Where points collapse onto the means, Q grows as
1/|x_m - x_i| and r shrinks as much: no sum cancels, while those of Q a x outgrow G as the classes get
tighter. So one product of Q, with [a r, a 1_g] of each output, is in float32. G^T G is in float64: a relative
error of eps in G is one of eps^2 in eigenvalues of M along which G has nothing, whose roots are what the next
layer receives; by a product in float32 it would be eps.

Measured on 1000 images of Fashion-MNIST, 12 layers of width 1024, ridge 1e-3: all 12 are in float32, the
first 4 class-free. One layer moves NC1 and NC2 by 1e-7, which grows from layer to layer: at all three stages
they are within 2e-6 of float64 after 3 layers, 1e-4 after 8 and 6e-4 after 12.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dnc_jax.agop import AGOPDiagnostics, kernel_agop_core
from dnc_jax.agop_cost import grouped_outputs_at_once, mixed_class_free_is_cheaper
from dnc_jax.class_free import class_free_gram_at_centers
from dnc_jax.kernels import RadialAt
from dnc_jax.linalg import matmul, symmetric_product
from dnc_jax.machine import KernelMachine

SINGLE = jnp.float32
# Cancellations up to which the forms are taken, the class-free one by the estimate that comes before it.
MAX_CLASS_FREE, MAX_GROUPED = 8.0, 1e4
NUM_PROBES = 8
# Measured on images: rounding of small eigenvalues of M in the class-free form, as a share of the largest, is
# 5e-10 = 0.004 eps. More would cut off eigenvalues that count.
CLASS_FREE_UNITS = 0.02


class _Groups(NamedTuple):
    """Means of groups about their mean, that of each row's group, rows beyond it, 1 where a row belongs."""

    means: Float[Array, "k d"]
    of_rows: Float[Array, "n d"]
    beyond: Float[Array, "n d"]
    is_in: Float[Array, "n k"]


def mixed_agop_core(
    machine: KernelMachine, targets: Float[Array, "n c"]
) -> tuple[Float[Array, "d d"], AGOPDiagnostics]:
    """Returns `kernel_agop_core` of a machine at its centers, in float32 unless products cancel too much.

    The machine is in float64, its kernel at the rows of its centers. The cancellation is that of the form
    that was taken.
    """
    num_rows, in_dim = machine.centers.shape
    eps = float(jnp.finfo(SINGLE).eps)

    def class_free() -> tuple[Array, Array, Array, Array]:
        gram, cancellation = class_free_gram_at_centers(_centered(machine), False, is_mixed=True)
        is_good = (cancellation >= 1) & (cancellation <= 2 * MAX_CLASS_FREE)
        return gram, cancellation, is_good, CLASS_FREE_UNITS * eps * cancellation

    def grouped() -> tuple[Array, Array, Array, Array]:
        gram, cancellation = grouped_gram(machine, targets)
        return gram, cancellation, cancellation <= MAX_GROUPED, eps**2 * cancellation

    is_class_free = jnp.zeros((), bool)
    if mixed_class_free_is_cheaper(num_rows, in_dim, machine.weights.shape[1]):
        is_class_free = estimated_cancellation(machine) <= MAX_CLASS_FREE
        gram, cancellation, is_single, rounding = jax.lax.cond(is_class_free, class_free, grouped)
    else:
        gram, cancellation, is_single, rounding = grouped()

    def double() -> tuple[Array, AGOPDiagnostics]:
        gram, diagnostics = kernel_agop_core(machine)
        return gram, diagnostics._replace(float32_rounding=jnp.zeros_like(rounding))

    single = AGOPDiagnostics(cancellation, ~is_class_free, rounding)
    return jax.lax.cond(is_single, lambda: (gram, single), double)


def estimated_cancellation(machine: KernelMachine) -> Float[Array, ""]:
    """Returns the cancellation of the class-free form at the centers, about their mean, before it is taken.

    1 + 4 max(-A.B, 0) / |A - B|^2 with A = s x and |A - B|^2 from its products with signs: right within a
    factor of 2 or so.
    """
    x, a, other = machine.centers, machine.weights, _other(machine)
    assert isinstance(machine.kernel, RadialAt)
    x = x - jnp.mean(x, axis=0)[None]
    signs = jnp.sign(jnp.sin(1.0 + jnp.arange(x.shape[1] * NUM_PROBES, dtype=x.dtype) ** 2))
    seen = matmul(x, signs.reshape(x.shape[1], NUM_PROBES))
    weighted = a[:, :, None] * seen[:, None, :]
    s = -matmul(other, a)
    gradients = s[:, :, None] * seen[:, None, :] + matmul(other, weighted.reshape(len(x), -1)).reshape(
        weighted.shape
    )
    squared_trace = jnp.sum(gradients * gradients) / NUM_PROBES
    lengths = jnp.sum(x * x, axis=1)
    products = (lengths[:, None] + lengths[None, :] - machine.kernel.squared) / 2
    across = jnp.sum(other * matmul(s, a.T) * products)
    return 1 + 4 * jnp.maximum(-across, 0.0) / squared_trace


def grouped_gram(
    machine: KernelMachine, targets: Float[Array, "n c"]
) -> tuple[Float[Array, "d d"], Float[Array, ""]]:
    """Returns (1/n) sum_c G_c^T G_c of gradients in float32, and the cancellation of their sums.

    The groups are the rows with one largest target, or with a target of one sign where there is one output:
    any others would give the same number, with another cancellation, sum over terms of |term|^2 / |G|^2.
    """
    x, a = machine.centers, machine.weights
    other = _other(machine).astype(SINGLE)
    groups = _groups(x, targets)
    wide = jnp.concatenate([groups.beyond, groups.is_in], axis=1)

    def add_outputs(
        sums: tuple[Array, Array], columns: Float[Array, "b n"]
    ) -> tuple[tuple[Array, Array], None]:
        weighted = (columns.T[:, :, None] * wide[:, None, :]).astype(SINGLE)
        product = matmul(other, weighted.reshape(len(x), -1)).reshape(weighted.shape)
        gradients, size = _gradients(groups, product.astype(x.dtype))
        return (sums[0] + symmetric_product(gradients.reshape(-1, x.shape[1])), sums[1] + size), None

    empty = jnp.zeros((x.shape[1], x.shape[1]), x.dtype), jnp.zeros((), x.dtype)
    columns = a.T.reshape(-1, grouped_outputs_at_once(x.shape[0], x.shape[1], a.shape[1]), len(x))
    (total, size), _ = jax.lax.scan(add_outputs, empty, columns)
    return total / len(x), size / jnp.trace(total)


def _gradients(
    groups: _Groups, product: Float[Array, "n b q"]
) -> tuple[Float[Array, "n b d"], Float[Array, ""]]:
    """Returns gradients from their sums over points, and the squares of all terms."""
    in_dim = groups.means.shape[1]
    near, by_group = product[:, :, :in_dim], product[:, :, in_dim:]
    near_own = jnp.sum(by_group, axis=2)[:, :, None] * groups.beyond[:, None, :]
    by_others = by_group * (1 - groups.is_in)[:, None, :]
    far = matmul(by_others, groups.means)
    far_own = jnp.sum(by_others, axis=2)[:, :, None] * groups.of_rows[:, None, :]
    size = sum((jnp.sum(term * term) for term in (near, near_own, far, far_own)), jnp.zeros((), far.dtype))
    return (near - near_own) + (far - far_own), size


def _groups(x: Float[Array, "n d"], targets: Float[Array, "n c"]) -> _Groups:
    num_groups = max(2, targets.shape[1])
    labels = jnp.argmax(targets, axis=1) if targets.shape[1] > 1 else (targets[:, 0] > 0).astype(jnp.int32)
    is_in = jax.nn.one_hot(labels, num_groups, dtype=x.dtype)
    means = matmul(is_in.T, x) / jnp.maximum(jnp.sum(is_in, axis=0), 1)[:, None]
    beyond = x - means[labels]
    means = means - jnp.mean(means, axis=0)[None]
    return _Groups(means, means[labels], beyond, is_in)


def _other(machine: KernelMachine) -> Float[Array, "n n"]:
    assert isinstance(machine.kernel, RadialAt)
    return machine.kernel.gradient_terms(machine.centers, machine.centers)[1]


def _centered(machine: KernelMachine) -> KernelMachine:
    """Returns the machine with its centers about their mean, its distances as they were."""
    centers = machine.centers - jnp.mean(machine.centers, axis=0)[None]
    return KernelMachine(machine.kernel, centers, machine.weights)
