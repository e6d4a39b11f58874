"""The recursion of the convolutional tangent kernel over one tile of pairs of images, and its derivatives.

Arrays of pairs have their positions first: one (i, j) for each patch of an image and, with pooling, another
(k, l) for the patch of the other image that it meets. The last two axes are the images of a tile.

In layer l, S and T are covariance and tangent kernel of the pre-activations, p and q the variances of the two
images, cos t = S / sqrt(pq), A the mean over the patch around a position, or around both alike, and

    S' = sqrt(pq) (sin t + (pi - t) cos t)/pi,    T' = T (1 - t/pi),

those after the activation; then S <- A S', T <- A (S' + T'), p <- A p, q <- A q for the next layer. The
kernel is half the mean of S' + T' of the last one.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dnc_jax.kernels.arc_cosine import relu_layer
from dnc_jax.linalg import safe_sqrt
from dnc_jax.patches import Padding, patch_sums, spread_patches
from dnc_jax.types import pytree, static_field

# A gap 1 - cos t of so many units of rounding is rounding itself: it counts as 0, the same patch. So for 2,
# the opposite patch.
GAP_UNITS = 32.0

Axes: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]
"""Those of rows, and those of columns, that a patch covers alike."""
IMAGE_AXES = ((0,), (1,))


class Convolutions(NamedTuple):
    """The structure of the network: as in `ConvNTK`."""

    depth: int
    patch_size: int
    pooling: bool
    padding: Padding
    stride: int

    @property
    def pair_axes(self) -> Axes:
        """Those of rows and columns of positions in an array of pairs."""
        return ((0, 2), (1, 3)) if self.pooling else IMAGE_AXES


@pytree
class Patches:
    """A block of images as the first layer sees it, scaled so that S is a product of two of them.

    values are the patches, or pixels whose products are yet to be summed over patches; variances their
    squared norms.
    """

    values: Float[Array, "a b r p"]
    variances: Float[Array, "i j r"]
    are_pixels: bool = static_field()


class Pair(NamedTuple):
    """What the kernel is a function of: covariances and variances of the patches of the first layer."""

    covariance: Float[Array, "*positions r s"]
    own: Float[Array, "i j r"]
    other: Float[Array, "i j s"]


class Roots(NamedTuple):
    """Roots of variances and one over them, both 0 where the variance is."""

    root: Array
    inverse: Array


def pair_of(network: Convolutions, own: Patches, other: Patches) -> Pair:
    """Returns what the kernel of two blocks of images is a function of."""
    meeting = "ijrp,klsp->ijklrs" if network.pooling else "ijrp,ijsp->ijrs"
    covariance = jnp.einsum(meeting, own.values, other.values, precision="highest")
    if own.are_pixels:
        covariance = sums_over_patches(network, network.pair_axes, covariance)
    return Pair(covariance, own.variances, other.variances)


def sums_over_patches(network: Convolutions, axes: Axes, values: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns the sums of values over the patches of a layer, in the rows and columns of axes."""
    return patch_sums(values, *axes, network.patch_size, network.padding, network.stride)


def kernel_of_pair(network: Convolutions, pair: Pair) -> Float[Array, "r s"]:
    """Returns the kernel of every pair of images of a tile."""
    covariance, own, other = pair
    tangent = covariance
    for layer in range(network.depth):
        covariance, tangent = _activation(network, covariance, tangent, own, other, keep=False)
        if layer < network.depth - 1:
            covariance, tangent = (_means(network, network.pair_axes, a) for a in (covariance, tangent))
            own, other = (_means(network, IMAGE_AXES, a) for a in (own, other))
    return jnp.mean(tangent, axis=tuple(range(tangent.ndim - 2))) / 2


def pair_derivatives(
    network: Convolutions, pair: Pair
) -> tuple[Float[Array, "*positions r s"], list[Float[Array, "... r s"]]]:
    """Returns the derivatives of the kernel by S of the first layer, and W of every layer.

    W is 2 p dk/dp = 2 q dk/dq, p and q of that layer alone, since S' and T' depend on S / sqrt(pq) and, S',
    on sqrt(pq). With X* the derivative by X, F = T'* T / (pi sin t) and A^T the transpose of A:

        W = S'* sqrt(pq) sin t / pi - F cos t,   S* = S'* (1 - t/pi) + F / sqrt(pq),   T* = T'* (1 - t/pi),

    and one layer below S'* = A^T (S* + T*), T'* = A^T T*. At cusps, F counts as 0.
    """
    layers, covariance, (tangent, own, other) = [], pair.covariance, (pair.covariance, *pair[1:])
    for layer in range(network.depth):
        after = _activation(network, covariance, tangent, own, other, keep=True)
        layers.append((*after[2:], tangent, own, other))
        if layer < network.depth - 1:
            covariance, tangent = (_means(network, network.pair_axes, a) for a in after[:2])
            own, other = (_means(network, IMAGE_AXES, a) for a in (own, other))
    positions = math.prod(tangent.shape[:-2])
    by_covariance = by_tangent = jnp.full_like(tangent, 0.5 / positions)
    by_variances = []
    for layer in reversed(range(network.depth)):
        gap, slope, tangent, own, other = layers[layer]
        below = (by_covariance, by_tangent, gap, slope, tangent)
        by_covariance, by_tangent, by_variance = _over_pairs(network, _pull_back, below, own, other)
        by_variances.insert(0, by_variance)
        if layer > 0:
            shape = layers[layer - 1][0].shape
            by_covariance, by_tangent = (
                _spread(network, network.pair_axes, a, shape) for a in (by_covariance, by_tangent)
            )
    return by_covariance, by_variances


def variance_gradients(
    network: Convolutions,
    own: Float[Array, "i j r"],
    by_variances: list[Float[Array, "... r s"]],
    weights: Float[Array, "s c"],
) -> Float[Array, "i j r c"]:
    """Returns the sums over s of weights times the derivatives by own, the variances of the first layer."""
    variances = [own]
    for _ in by_variances[1:]:
        variances.append(_means(network, IMAGE_AXES, variances[-1]))
    total = None
    for variance, by_variance in zip(reversed(variances), reversed(by_variances), strict=True):
        meeting = "ijklrs,sc->ijrc" if network.pooling else "ijrs,sc->ijrc"
        summed = jnp.einsum(meeting, by_variance, weights, precision="highest")
        positive = variance > 0
        here = summed * jnp.where(positive, 0.5 / jnp.where(positive, variance, 1.0), 0.0)[..., None]
        total = here if total is None else here + _spread(network, IMAGE_AXES, total, here.shape)
    assert total is not None
    return total


def _activation(
    network: Convolutions,
    covariance: Float[Array, "*positions r s"],
    tangent: Float[Array, "*positions r s"],
    own: Float[Array, "i j r"],
    other: Float[Array, "i j s"],
    *,
    keep: bool,
) -> tuple[Array, ...]:
    """Returns S' and S' + T', and with keep 1 - cos t and 1 - t/pi."""

    def activate(covariance: Array, tangent: Array, own: Roots, other: Roots) -> tuple[Array, ...]:
        gap = _settled(1 - covariance * own.inverse * other.inverse)
        slope, next_gap = relu_layer(gap)
        after = own.root * other.root * (1 - next_gap)
        found = (after, after + tangent * slope)
        return (*found, gap, slope) if keep else found

    return _over_pairs(network, activate, (covariance, tangent), own, other)


def _pull_back(
    by_covariance: Array,
    by_tangent: Array,
    gap: Array,
    slope: Array,
    tangent: Array,
    own: Roots,
    other: Roots,
) -> tuple[Array, Array, Array]:
    """Returns S* + T*, T* and W of one layer, from S'* and T'*."""
    inside = (gap > 0) & (gap < 2)
    sine = jnp.sqrt(jnp.where(inside, gap * (2 - gap), 1.0))
    at_cusp = jnp.where(inside, by_tangent * tangent / (jnp.pi * sine), 0.0)
    below_tangent = by_tangent * slope
    below = by_covariance * slope + at_cusp * own.inverse * other.inverse + below_tangent
    sine = jnp.where(inside, sine, 0.0)
    by_variance = by_covariance * own.root * other.root * sine / jnp.pi - at_cusp * (1 - gap)
    return below, below_tangent, by_variance


def _over_pairs(
    network: Convolutions,
    fn: Callable[..., tuple[Array, ...]],
    pairs: tuple[Float[Array, "*positions r s"], ...],
    own: Float[Array, "i j r"],
    other: Float[Array, "i j s"],
) -> tuple[Array, ...]:
    """Returns fn of arrays of pairs, of the roots of own and of those of other."""
    own_roots, other_roots = _roots(own[..., :, None]), _roots(other[..., None, :])
    if not network.pooling:
        return fn(*pairs, own_roots, other_roots)
    other_roots = jax.tree.map(lambda a: a[None], other_roots)

    def of_row(row: tuple[tuple[Array, ...], Roots]) -> tuple[Array, ...]:
        return fn(*row[0], jax.tree.map(lambda a: a[:, None, None], row[1]), other_roots)

    # One row i of positions after the other. At once, the compiler would compute fn again for every patch
    # that a pair of positions is part of.
    return jax.lax.map(of_row, (pairs, own_roots))


def _roots(variance: Float[Array, "..."]) -> Roots:
    root = safe_sqrt(variance)
    return Roots(root, jnp.where(root > 0, 1 / jnp.where(root > 0, root, 1.0), 0.0))


@jax.custom_jvp
def _settled(gap: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """Returns the gap, 0 or 2 where it is that but for rounding, with the derivative that it has."""
    # Not the gap less what is rounding: compiled, the gap may be rounded differently in its two places.
    rounding = GAP_UNITS * jnp.finfo(gap.dtype).eps
    return jnp.where(gap < rounding, 0.0, jnp.where(gap > 2 - rounding, 2.0, gap))


@_settled.defjvp
def _settled_jvp(
    primals: tuple[Float[Array, "*s"]], tangents: tuple[Float[Array, "*s"]]
) -> tuple[Array, Array]:
    return _settled(*primals), tangents[0]


def _means(network: Convolutions, axes: Axes, values: Float[Array, "..."]) -> Float[Array, "..."]:
    return sums_over_patches(network, axes, values) / network.patch_size**2


def _spread(
    network: Convolutions, axes: Axes, values: Float[Array, "..."], shape: tuple[int, ...]
) -> Float[Array, "..."]:
    """Returns A^T of values: what each position of the layer below has part in."""
    size, padding, stride = network.patch_size, network.padding, network.stride
    return spread_patches(values, *axes, shape, size, padding, stride) / size**2
