"""Convolutional tangent kernels and their patch gradients in slow float64 numpy, a pair of images at a time.

The positions of an image are numbered row by row. Windows are 0/1 matrices, written from where a patch
starts; covariances of all pairs of positions are carried along, with their derivatives by every number of
every patch.
"""

import itertools
from typing import NamedTuple

import numpy as np

# A cosine that near to 1 or -1 is that of parallel patches: its arccos would be wrong by 1e-8.
PARALLEL = 1e-12


class Network(NamedTuple):
    """depth times [convolution (W_std = sqrt 2), ReLU], Flatten or mean over positions, Dense (W_std = 1)."""

    depth: int
    patch_size: int
    pooling: bool = False
    padding: str = "valid"
    stride: int = 1


def windows(shape, patch_size, padding="valid", stride=1):
    """Returns (the shape of the output, a matrix (outputs, inputs) for each pixel of a patch in order).

    SAME has ceil(size / stride) outputs, and of the zeros that they lack the smaller half before the start.
    """
    sizes, starts = [], []
    for size in shape:
        num = -(-size // stride) if padding == "same" else (size - patch_size) // stride + 1
        missing = max((num - 1) * stride + patch_size - size, 0) if padding == "same" else 0
        sizes.append(num)
        starts.append([place * stride - missing // 2 for place in range(num)])
    matrices = []
    for down, right in itertools.product(range(patch_size), repeat=2):
        matrix = np.zeros((sizes[0], sizes[1], *shape))
        for (i, top), (j, left) in itertools.product(enumerate(starts[0]), enumerate(starts[1])):
            if 0 <= top + down < shape[0] and 0 <= left + right < shape[1]:
                matrix[i, j, top + down, left + right] = 1
        matrices.append(matrix.reshape(sizes[0] * sizes[1], -1))
    return tuple(sizes), matrices


def patches(image, patch_size, padding="valid", stride=1):
    """The patches (positions, numbers) of one image, numbers in the order (row, column, channel)."""
    height, width, channels = image.shape
    pixels = np.asarray(image, np.float64).reshape(height * width, channels)
    _, matrices = windows((height, width), patch_size, padding, stride)
    return np.concatenate([matrix @ pixels for matrix in matrices], axis=1)


def gram(x, z, network, patch_root=None):
    """The kernel of every image of x with every image of z."""
    x, z = np.asarray(x), np.asarray(z)
    return np.array(
        [[pair(network, x[i], z[m], patch_root)[0] for m in range(len(z))] for i in range(len(x))]
    )


def patch_gradients(x, centers, weights, network, patch_root=None):
    """Gradients of sum_m k(x_i, z_m) a_mc by the patches of x_i: (n, positions, c, numbers)."""
    x, centers, weights = (np.asarray(a, np.float64) for a in (x, centers, weights))
    rows = []
    for image in x:
        slopes = np.stack([pair(network, image, other, patch_root, True)[1] for other in centers])
        rows.append(np.einsum("mc,map->acp", weights, slopes))
    return np.stack(rows)


def patch_agop(x, centers, weights, network, patch_root=None):
    """Mean over images and positions of the sum over outputs of gradient gradient^T."""
    gradients = patch_gradients(x, centers, weights, network, patch_root)
    total = np.einsum("nacp,nacq->pq", gradients, gradients)
    return total / (gradients.shape[0] * gradients.shape[1])


def pair(network, x, z, patch_root=None, slopes=False):
    """The kernel of two images, and with slopes its derivatives (positions, numbers) by the patches of x."""
    u, v = (patches(image, network.patch_size, network.padding, network.stride) for image in (x, z))
    shape, _ = windows(x.shape[:2], network.patch_size, network.padding, network.stride)
    return of_patches(network, shape, u, v, patch_root, slopes)


def of_patches(network, shape, u, v, patch_root=None, slopes=False):
    """`pair` as a function of the patches of both images, (positions, numbers), as independent variables."""
    num, dim = u.shape
    root = np.eye(dim) if patch_root is None else np.asarray(patch_root, np.float64)
    moved_u, moved_v = u @ root, v @ root
    s, p, q = (2 * (a @ b.T) / dim for a, b in ((moved_u, moved_v), (moved_u, moved_u), (moved_v, moved_v)))
    p, q = np.diag(p), np.diag(q)
    ds, dp = np.zeros((num, num, num, dim * slopes)), np.zeros((num, num, dim * slopes))
    if slopes:
        for a in range(num):
            ds[a, :, a], dp[a, a] = 2 * moved_v @ root.T / dim, 4 * moved_u[a] @ root.T / dim
    t, dt = s, ds
    for layer in range(network.depth):
        (s, ds), (t, dt) = _activation(s, ds, t, dt, p, dp, q)
        t, dt = s + t, ds + dt
        if layer < network.depth - 1:
            shape, matrices = windows(shape, network.patch_size, network.padding, network.stride)
            s, ds, t, dt = (_means_of_pairs(matrices, value) for value in (s, ds, t, dt))
            p, dp, q = (
                sum(np.tensordot(matrix, value, 1) for matrix in matrices) / len(matrices)
                for value in (p, dp, q)
            )
    if network.pooling:
        return t.mean() / 2, dt.mean(axis=(0, 1)) / 2
    return np.trace(t) / len(t) / 2, np.trace(dt) / len(t) / 2


def _activation(s, ds, t, dt, p, dp, q):
    """E[relu relu] and T E[relu' relu'] of pre-activations of variances p, q, times 2, with derivatives.

    With cos a = S / sqrt(pq): sqrt(pq) (sin a + (pi - a) cos a)/pi and T (1 - a/pi). At a cusp and at patches
    of zeros, the derivative is the mean of those from both sides.
    """
    size = np.sqrt(np.outer(p, q))
    safe, safe_p = np.where(size > 0, size, 1.0), np.where(p > 0, p, 1.0)
    cosine = np.where(size > 0, s / safe, 0.0)
    cosine = np.where(np.abs(cosine) > 1 - PARALLEL, np.round(cosine), cosine)
    angle, sine = np.arccos(cosine), np.sqrt(1 - cosine**2)
    share = 1 - angle / np.pi
    lifted = size * (sine + (np.pi - angle) * cosine) / np.pi
    by_p = dp[:, None] / (2 * safe_p)[:, None, None, None]
    dlifted = _times(share, ds) + _times(size * sine / np.pi, by_p)
    dcosine = np.where((size > 0)[..., None, None], ds / safe[..., None, None], 0.0) - _times(cosine, by_p)
    sharp = np.where(sine > 0, t / (np.pi * np.where(sine > 0, sine, 1.0)), 0.0)
    return (lifted, dlifted), (share * t, _times(share, dt) + _times(sharp, dcosine))


def _times(values, slopes):
    return values[..., None, None] * slopes


def _means_of_pairs(matrices, values):
    """The mean over the pixels of a patch, at the same place in both patches; zeros outside of the image."""
    total = 0
    for matrix in matrices:
        rows = np.tensordot(matrix, values, 1)
        total = total + np.moveaxis(np.tensordot(matrix, np.moveaxis(rows, 1, 0), 1), 0, 1)
    return total / len(matrices)
