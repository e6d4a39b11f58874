"""The neural feature ansatz and its correlations in float64 numpy, written from the equations."""

import numpy as np

from tests.oracles import psd_power


def cosine(a, b):
    """<a, b> / (|a| |b|)."""
    a, b = (np.asarray(m, np.float64).ravel() for m in (a, b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / np.sqrt((a**2).sum() * (b**2).sum())


def pearson(a, b):
    """Covariance of entries over both standard deviations."""
    a, b = (np.asarray(m, np.float64).ravel() for m in (a, b))
    return np.mean((a - a.mean()) * (b - b.mean())) / (a.std() * b.std())


def nfm(weights):
    """sum_p w_p w_p^T over columns w_p."""
    return sum(np.outer(column, column) for column in np.asarray(weights, np.float64).T)


def nfa_correlation(weights, feature_agop, power=1.0):
    """Pearson correlation of W W^T and AGOP^power."""
    return pearson(nfm(weights), psd_power(np.asarray(feature_agop, np.float64), power))


def cosine_nfa(weights, feature_agop, power=1.0):
    """Cosine of W W^T and AGOP^power."""
    return cosine(nfm(weights), psd_power(np.asarray(feature_agop, np.float64), power))


def stable_rank(a):
    """Sum of squared singular values over the largest one squared."""
    singular = np.linalg.svd(a, compute_uv=False)
    return (singular**2).sum() / singular[0] ** 2


def effective_rank(a):
    """exp of the Shannon entropy of the normalized singular values."""
    singular = np.linalg.svd(a, compute_uv=False)
    shares = singular / singular.sum()
    return np.exp(-sum(p * np.log(p) for p in shares if p > 0))


def subspace_alignment(matrix, directions):
    """tr(U^T M U) / tr(M), U from the singular vectors of directions that carry it."""
    vectors, singular, _ = np.linalg.svd(directions, full_matrices=False)
    basis = vectors[:, singular > 1e-10 * singular[0]]
    return np.trace(basis.T @ matrix @ basis) / np.trace(matrix)
