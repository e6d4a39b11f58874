"""Kernel machines, AGOPs and Deep RFM in slow float64 loops, written from the equations.

Every distance and every gradient is made of explicit differences x_i - z_m. No squared norms are expanded,
no sum over outputs is rearranged: what the library computes cleverly is computed here plainly.
"""

from typing import NamedTuple

import numpy as np

from tests.collapse_oracles import nc1, nc1_trace_ratio, nc2


def squared_distances(x, z):
    """|x_i - z_m|^2."""
    x, z = np.asarray(x, np.float64), np.asarray(z, np.float64)
    return np.stack([_row_sums_of_squares(row - z) for row in x])


def _row_sums_of_squares(differences):
    return np.einsum("md,md->m", differences, differences)


def laplace_gram(x, z, bandwidth, exponent=1.0):
    """exp(-(|x_i - z_m| / bandwidth)^exponent)."""
    return np.exp(-((np.sqrt(squared_distances(x, z)) / bandwidth) ** exponent))


def gaussian_gram(x, z, bandwidth):
    """exp(-|x_i - z_m|^2 / (2 bandwidth^2))."""
    return np.exp(-squared_distances(x, z) / (2 * bandwidth**2))


def laplace_radial_derivative(distance, bandwidth, exponent=1.0):
    """k'(r) / r for k(r) = exp(-(r / bandwidth)^exponent), with the cusp at r = 0 left out."""
    safe = np.where(distance > 0, distance, 1.0)
    power = (safe / bandwidth) ** exponent
    return np.where(distance > 0, -exponent * power * np.exp(-power) / safe**2, 0.0)


def gaussian_radial_derivative(distance, bandwidth):
    """k'(r) / r for k(r) = exp(-r^2 / (2 bandwidth^2))."""
    return -np.exp(-(distance**2) / (2 * bandwidth**2)) / bandwidth**2


def ridge_weights(gram, targets, ridge):
    """(K + ridge I)^-1 Y."""
    return np.linalg.solve(gram + ridge * np.eye(len(gram)), np.asarray(targets, np.float64))


def gradients(x, centers, weights, radial_derivative, bandwidth):
    """Gradient of sum_m k(|x - z_m|) a_mc with respect to x, at every row of x: shape (n, c, d).

    grad_x k(|x - z|) = k'(r) (x - z) / r.
    """
    x, centers, weights = (np.asarray(a, np.float64) for a in (x, centers, weights))
    result = np.empty((len(x), weights.shape[1], x.shape[1]))
    for i, row in enumerate(x):
        differences = row - centers
        factors = radial_derivative(np.sqrt(_row_sums_of_squares(differences)), bandwidth)
        result[i] = (factors[:, None] * weights).T @ differences
    return result


def agop(jacobians, *, centered=False):
    """Mean over points of J^T J, an output at a time; centered subtracts the mean Jacobian (c, d) first."""
    if centered:
        jacobians = jacobians - jacobians.mean(axis=0)
    by_output = (jacobians[:, output] for output in range(jacobians.shape[1]))
    return sum(gradient.T @ gradient for gradient in by_output) / len(jacobians)


def numerical_jacobian(fn, row, step=1e-5):
    """Central differences of fn at one row: shape (c, d)."""
    columns = []
    for j in range(len(row)):
        shift = np.zeros_like(row)
        shift[j] = step
        columns.append((np.asarray(fn(row + shift)) - np.asarray(fn(row - shift))) / (2 * step))
    return np.stack(columns, axis=1)


def psd_power(a, power):
    """a^power by eigendecomposition; eigenvalues below 0 count as 0."""
    values, vectors = np.linalg.eigh(a)
    return (vectors * np.where(values > 0, np.maximum(values, 0) ** power, 0.0)) @ vectors.T


def root_of_agop(jacobians):
    """(mean of J^T J)^(1/2) by singular values of the stacked Jacobians.

    More careful than a root of the computed AGOP: an eigenvalue that is 0 comes out as eps^2, not as eps,
    so that its root is not 1e-8.
    """
    stacked = jacobians.reshape(-1, jacobians.shape[-1]) / np.sqrt(len(jacobians))
    triangle = np.linalg.qr(stacked, mode="r")
    _, singular, vectors = np.linalg.svd(triangle, full_matrices=False)
    return (vectors.T * singular) @ vectors


def unit_rows(x):
    """x with rows of norm 1."""
    return np.stack([row / np.sqrt((row**2).sum()) for row in np.asarray(x, np.float64)])


class LayerTruth(NamedTuple):
    """One Deep RFM layer with ReLU features, as computed by the oracle."""

    feature_matrix: np.ndarray
    input: np.ndarray
    linear: np.ndarray
    nonlinear: np.ndarray


def deep_rfm_layer(x, targets, relu_weights, *, bandwidth, ridge):
    """Unit rows, Laplace machine, AGOP over its largest entry, root, ReLU of random features."""
    inputs = unit_rows(x)
    gram = laplace_gram(inputs, inputs, bandwidth)
    weights = ridge_weights(gram, targets, ridge)
    jacobians = gradients(inputs, inputs, weights, laplace_radial_derivative, bandwidth)
    matrix = agop(jacobians)
    largest = matrix.max()
    root = root_of_agop(jacobians) / np.sqrt(largest)
    linear = inputs @ root
    nonlinear = np.maximum(linear @ np.asarray(relu_weights, np.float64), 0)
    return LayerTruth(matrix / largest, inputs, linear, nonlinear)


def deep_rfm(x, targets, relu_weights, *, bandwidth, ridge):
    """All layers, one for each entry of relu_weights; a layer takes what the oracle's last one made."""
    for weights in relu_weights:
        layer = deep_rfm_layer(x, targets, weights, bandwidth=bandwidth, ridge=ridge)
        yield layer
        x = layer.nonlinear


def stage_metrics(layer, labels, num_classes):
    """NC1, trace ratio and NC2 of the three stages: {(stage, metric): value}."""
    measures = {"nc1": nc1, "nc1_trace_ratio": nc1_trace_ratio, "nc2": nc2}
    return {
        (stage, name): measure(getattr(layer, stage), labels, num_classes)
        for stage in ("input", "linear", "nonlinear")
        for name, measure in measures.items()
    }
