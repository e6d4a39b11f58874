"""The AGOP of a radial kernel machine at its own centers, of gradients in float32 where the answer survives.

Let Q_im (x_m - x_i) be the gradients of the kernel and a the weights (n, c). Rows belong to groups g with
means mu_g, and r_i is what x_i is beyond the mean y_i of its own group. The gradient of output c at x_i is

    G_ic = sum_m Q_im a_mc (r_m - r_i) + sum_g B_igc (mu_g - y_i),    B_igc = sum over m in g of Q_im a_mc,

where the own group drops out of the second sum. Where points collapse onto the means, Q grows as
1/|x_m - x_i| and r shrinks as much: no sum cancels, while those of Q a x outgrow G as the classes get
tighter. So one product of Q, with [a r, a 1_g] of each output, is in float32. G^T G is in float64: a relative
error of eps in G is one of eps^2 in eigenvalues of M along which G has nothing, whose roots are what the next
layer receives; by a product in float32 it would be eps, and so it would by the class-free form (`class_free`)
with Q Q in float32. That form stays in float64, and is taken where it is cheaper and cancels little.

Where numbers outside the range of float32 count, or rounding of gradients matters to distances within or
between groups, `kernel_agop_core` takes over, all in float64: for narrow Gaussian kernels, for instance,
whose M comes from few pairs of points.

What is not promised: M differs from that of float64 by some 1e-7 and, products in float32 being summed in
another order, from one kind of device to another. Where the answer of float64 is itself uncertain, mixed
precision does not make it certain. With a Gaussian kernel of bandwidth 0.05 on 200 images, M is that of
float64 to 4e-16, from weights that differ in their last digits, and NC1 or NC2 of M^(1/2) x still moves by
up to 5e-3: an eigenvalue of M lies where float64 cuts its root.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dnc_jax.agop import AGOPDiagnostics, kernel_agop_core
from dnc_jax.agop_cost import class_free_is_cheaper_than_grouped, grouped_outputs_at_once
from dnc_jax.kernels import RadialAt
from dnc_jax.linalg import lost_in_products, matmul, scaled_to_single, symmetric_product
from dnc_jax.machine import KernelMachine

SINGLE = jnp.float32
# Cancellation up to which the class-free form is taken, by the estimate that comes before it.
MAX_CLASS_FREE = 4.0
NUM_PROBES = 8
# Of the change of distances that is predicted for random rounding. Measured on Fashion-MNIST: raw images and
# what layers 2, 4 and 8 receive, Laplace and Gaussian kernels of bandwidth 0.02 to 20, ridges 1e-6, 1e-3 and
# 0.1, 200 and 1000 points: where float32 is accepted, NC1 of a layer moves by up to 2e-7 and NC2 by up to
# 6e-7 (144 of 282 layers); with 3 updates of M, NC1 by 4e-7 and NC2, near 0 in some, by 2e-7 absolute.
TOLERANCE = 3e-7
# Gradients beyond which rounding is not believed to average out further: as many as were measured.
MAX_INDEPENDENT = 30_000


class Groups(NamedTuple):
    """Means of groups about their mean, that of each row's group, rows beyond it, 1 where a row belongs."""

    means: Float[Array, "k d"]
    of_rows: Float[Array, "n d"]
    beyond: Float[Array, "n d"]
    is_in: Float[Array, "n k"]


class _Form(NamedTuple):
    """An AGOP, how it was computed and whether it may be taken."""

    gram: Float[Array, "d d"]
    diagnostics: AGOPDiagnostics
    is_good: Bool[Array, ""]


def mixed_agop_core(
    machine: KernelMachine, targets: Float[Array, "n c"]
) -> tuple[Float[Array, "d d"], AGOPDiagnostics]:
    """Returns `kernel_agop_core` of a machine at its centers, of gradients in float32 where that is good.

    The machine is in float64, its kernel at the rows of its centers. The cancellation is that of the form
    that was taken.
    """
    num_rows, in_dim = machine.centers.shape
    num_outputs = machine.weights.shape[1]

    def grouped() -> _Form:
        groups = groups_of(machine.centers, targets)
        gram, cancellation = grouped_gram(machine, groups)
        rounding = float(jnp.finfo(SINGLE).eps) ** 2 * cancellation
        variance = rounding / min(num_rows * num_outputs, MAX_INDEPENDENT)
        is_good = _changes_little(gram, variance, machine.centers, groups)
        return _Form(gram, AGOPDiagnostics(cancellation, jnp.ones((), bool), rounding), is_good)

    def double() -> _Form:
        gram, diagnostics = kernel_agop_core(machine)
        no_rounding = jnp.zeros_like(diagnostics.cancellation)
        return _Form(gram, diagnostics._replace(float32_rounding=no_rounding), jnp.ones((), bool))

    if class_free_is_cheaper_than_grouped(num_rows, in_dim, num_outputs):
        none = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(grouped))
        form = jax.lax.cond(estimated_cancellation(machine) <= MAX_CLASS_FREE, lambda: none, grouped)
    else:
        form = grouped()
    form = jax.lax.cond(form.is_good, lambda: form, double)
    return form.gram, form.diagnostics


def _changes_little(
    gram: Float[Array, "d d"], variance: Float[Array, ""], x: Float[Array, "n d"], groups: Groups
) -> Bool[Array, ""]:
    """Returns whether rounding changes distances by M by at most `TOLERANCE` of them.

    x M x^T is |G x|^2 / n, to which rounding dG adds 2 (G x).(dG x): independent in the n c rows of G, it is
    of relative size |dG x| / (|G x| sqrt(n c)), with |dG|^2 / (n c) = variance |G|^2 and |dG x| <= |dG| |x|.
    So variance |M| |x|^2 must be below TOLERANCE^2 x M x^T: summed over rows, over rows beyond the means of
    their groups, and in each of the k - 1 directions in which means differ, the eigenvalues of (means M
    means^T). What the root of M cuts off, n c variance of its largest eigenvalue, is then small too. All this
    is in the coordinates of the machine; x M x^T is the same in any, so M of several updates is judged right.
    """
    scaled = gram / jnp.max(jnp.diagonal(gram))
    unseen = variance * jnp.sqrt(jnp.sum(scaled * scaled)) / TOLERANCE**2
    is_small = jnp.ones((), bool)
    for rows in (x, groups.beyond):
        is_small = is_small & (unseen * jnp.sum(rows * rows) <= jnp.sum(matmul(rows, scaled) * rows))
    apart = jnp.linalg.eigvalsh(matmul(groups.means, matmul(scaled, groups.means.T)))
    num_apart = jnp.minimum(jnp.sum(jnp.any(groups.is_in > 0, axis=0)) - 1, x.shape[1])
    least = jnp.where(num_apart > 0, apart[len(apart) - num_apart], jnp.inf)
    return is_small & (unseen * jnp.max(jnp.sum(groups.means**2, axis=1)) <= least)


def estimated_cancellation(machine: KernelMachine) -> Float[Array, ""]:
    """Returns the cancellation of the class-free form at the centers before it is taken.

    1 + 4 max(-A.B, 0) / |A - B|^2 with A = s x and |A - B|^2 from its products with signs: right within a
    factor of 2 or so.
    """
    x, a, other = machine.centers, machine.weights, _other(machine)
    assert isinstance(machine.kernel, RadialAt)
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


def grouped_gram(machine: KernelMachine, groups: Groups) -> tuple[Float[Array, "d d"], Float[Array, ""]]:
    """Returns (1/n) sum_c G_c^T G_c of gradients in float32, and the cancellation of their sums.

    Any groups give the same number, with another cancellation, sum over terms of |term|^2 / |G|^2 with terms
    of single points and their sums. It is infinite where what is below the range of float32 counts.
    """
    x, a = machine.centers, machine.weights
    # Symmetric: by the largest of each row.
    scaled, of_rows = scaled_to_single(_other(machine))
    scaled = scaled.T
    wide = jnp.concatenate([groups.beyond, groups.is_in], axis=1)
    # What a sum over points is multiplied by on its way to a gradient is at most this.
    longest = 1 + 4 * jnp.max(jnp.linalg.norm(jnp.concatenate([groups.means, x]), axis=1))
    unit = lost_in_products(len(x)) * jnp.linalg.norm(of_rows) * longest * wide.shape[1] ** 0.5

    def add_outputs(
        sums: tuple[Array, Array, Array], columns: Float[Array, "b n"]
    ) -> tuple[tuple[Array, Array, Array], None]:
        weighted, of_columns = scaled_to_single(columns.T[:, :, None] * wide[:, None, :])
        product = matmul(scaled, weighted.reshape(len(x), -1)).reshape(weighted.shape).astype(x.dtype)
        product = product * of_rows[:, None, None] * of_columns[None]
        gradients, size = _gradients(groups, product)
        total, sizes, lost = sums
        total = total + symmetric_product(gradients.reshape(-1, x.shape[1]))
        return (total, sizes + size, lost + jnp.sum((unit * of_columns) ** 2)), None

    zero = jnp.zeros((), x.dtype)
    empty = jnp.zeros((x.shape[1], x.shape[1]), x.dtype), _squares_of_terms(scaled, of_rows, groups, a), zero
    columns = a.T.reshape(-1, grouped_outputs_at_once(x.shape[0], x.shape[1], a.shape[1]), len(x))
    (total, size, lost), _ = jax.lax.scan(add_outputs, empty, columns)
    trace = jnp.trace(total)
    is_in_range = lost <= jnp.finfo(x.dtype).eps ** 2 * trace
    return total / len(x), jnp.where(is_in_range, size / trace, jnp.inf)


def _squares_of_terms(
    scaled: Float[Array, "n n"], of_rows: Float[Array, "n"], groups: Groups, weights: Float[Array, "n c"]
) -> Float[Array, ""]:
    """Returns the squares of what single points add to gradients: weights of both signs cancel in sums."""
    lengths = jnp.sum(groups.beyond**2, axis=1)
    wide = jnp.concatenate([lengths[:, None], groups.is_in], axis=1)
    weighted, of_columns = scaled_to_single(jnp.sum(weights * weights, axis=1)[:, None] * wide)
    sums = matmul(scaled * scaled, weighted).astype(lengths.dtype) * of_columns[None]
    apart = jnp.sum((groups.means[None] - groups.of_rows[:, None]) ** 2, axis=2)
    terms = sums[:, 0] + jnp.sum(sums[:, 1:] * (apart + lengths[:, None]), axis=1)
    return jnp.sum(of_rows**2 * terms)


def _gradients(
    groups: Groups, product: Float[Array, "n b q"]
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


def groups_of(x: Float[Array, "n d"], targets: Float[Array, "n c"]) -> Groups:
    """Returns the groups of rows with one largest target, or one sign of it where there is one output."""
    num_groups = max(2, targets.shape[1])
    labels = jnp.argmax(targets, axis=1) if targets.shape[1] > 1 else (targets[:, 0] > 0).astype(jnp.int32)
    is_in = jax.nn.one_hot(labels, num_groups, dtype=x.dtype)
    means = matmul(is_in.T, x) / jnp.maximum(jnp.sum(is_in, axis=0), 1)[:, None]
    beyond = x - means[labels]
    is_there = jnp.any(is_in > 0, axis=0).astype(x.dtype)[:, None]
    means = (means - jnp.sum(means, axis=0)[None] / jnp.sum(is_there)) * is_there
    return Groups(means, means[labels], beyond, is_in)


def _other(machine: KernelMachine) -> Float[Array, "n n"]:
    assert isinstance(machine.kernel, RadialAt)
    return machine.kernel.gradient_terms(machine.centers, machine.centers)[1]
