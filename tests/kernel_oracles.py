"""Kernels of inner products in slow float64 loops: one pair at a time, cosines by arccos.

Gradients are carried along the recursion by the chain rule; a term is (value, gradient with respect to x).
"""

import numpy as np

# A cosine that near to 1 or -1 is that of parallel rows: its arccos would be wrong by 1e-8.
PARALLEL = 1e-12


def gram(x, z, kernel):
    """kernel(x_i, z_m)[0]."""
    x, z = np.asarray(x, np.float64), np.asarray(z, np.float64)
    return np.array([[kernel(row, other)[0] for other in z] for row in x])


def gradients(x, centers, weights, kernel):
    """Gradient of sum_m k(x, z_m) a_mc with respect to x, at every row of x: shape (n, c, d)."""
    x, centers, weights = (np.asarray(a, np.float64) for a in (x, centers, weights))
    rows = [np.stack([kernel(row, other)[1] for other in centers]) for row in x]
    return np.stack([weights.T @ row for row in rows])


def polynomial(x, z, degree, offset, scale):
    """(scale x.z + offset)^degree."""
    base = scale * (x @ z) + offset
    return base**degree, degree * base ** (degree - 1) * scale * z


def ntk(x, z, depth, bias):
    """depth times [Dense(W_std = sqrt 2), ReLU], then Dense(W_std = 1), b_std = bias in every Dense.

    For u, v of variances p, q and covariance sqrt(pq) cos t, E[1(u > 0) 1(v > 0)] = (pi - t) / (2 pi) and
    E[relu(u) relu(v)] = sqrt(pq) (sin t + (pi - t) cos t) / (2 pi).
    """
    p, q, s = ((2 * (a @ b) / len(x) + bias**2) for a, b in ((x, x), (z, z), (x, z)))
    dp, ds = 4 * x / len(x), 2 * z / len(x)
    tangent, dtangent = s, ds
    for layer in range(depth):
        weight = 2.0 if layer < depth - 1 else 1.0
        size = np.sqrt(p * q)
        if size == 0:
            # A row of zeros and no bias: the kernel is 0, and so is what is taken for its gradient.
            return 0.0, np.zeros_like(x)
        cosine = s / size
        cosine = np.round(cosine) if abs(cosine) > 1 - PARALLEL else cosine
        angle = np.arccos(cosine)
        order0, dorder0 = (np.pi - angle) / (2 * np.pi), np.zeros_like(x)
        if abs(cosine) < 1:
            dorder0 = (ds / size - cosine * dp / (2 * p)) / (2 * np.pi * np.sqrt(1 - cosine**2))
        s_next = size * (np.sin(angle) + (np.pi - angle) * cosine) / (2 * np.pi)
        ds_next = order0 * ds + np.sqrt(q / p) * np.sin(angle) / (4 * np.pi) * dp
        s, ds = weight * s_next + bias**2, weight * ds_next
        tangent, dtangent = (
            s + weight * tangent * order0,
            ds + weight * (dtangent * order0 + tangent * dorder0),
        )
        p, q = p + bias**2, q + bias**2
    return tangent, dtangent
