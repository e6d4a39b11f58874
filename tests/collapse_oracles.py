"""Neural collapse metrics in slow float64 loops, written from the equations.

Conventions: Sigma_W averages over all points; mu_G is the mean of the class means; Sigma_B averages over
classes. The matrices are built whole, d x d, as the definitions have them.
"""

from typing import NamedTuple

import numpy as np


class Classes(NamedTuple):
    """Counts (k,), means (k, d), summed squared residuals (k,) and residuals (n, d)."""

    counts: np.ndarray
    means: np.ndarray
    within: np.ndarray
    residuals: np.ndarray


def class_stats(features, labels, num_classes, dtype=np.float64):
    """Statistics class by class; dtype longdouble where the data has collapsed."""
    features, labels = np.asarray(features, dtype), np.asarray(labels)
    counts, means, within = [], [], []
    residuals = np.empty_like(features)
    for label in range(num_classes):
        members = features[labels == label]
        mean = members.sum(axis=0) / len(members)
        residuals[labels == label] = members - mean
        counts.append(len(members))
        means.append(mean)
        within.append(((members - mean) ** 2).sum())
    return Classes(np.array(counts), np.stack(means), np.array(within), residuals)


def covariances(features, labels, num_classes):
    """Sigma_W = mean of r r^T over points, Sigma_B = mean over classes of (mu - mu_G)(mu - mu_G)^T."""
    stats = class_stats(features, labels, num_classes)
    dim = stats.means.shape[1]
    within, between = np.zeros((dim, dim)), np.zeros((dim, dim))
    for label in range(num_classes):
        members = stats.residuals[np.asarray(labels) == label]
        within += members.T @ members / len(stats.residuals)
    global_mean = stats.means.sum(axis=0) / num_classes
    for mean in stats.means:
        between += np.outer(mean - global_mean, mean - global_mean) / num_classes
    return within, between


def nc1_by_pinv(features, labels, num_classes, rcond=1e-12):
    """tr(Sigma_W pinv(Sigma_B)) / K with numpy's pseudo-inverse of the explicit matrix."""
    within, between = covariances(features, labels, num_classes)
    return np.trace(within @ np.linalg.pinv(between, rcond=rcond, hermitian=True)) / num_classes


def nc1(features, labels, num_classes):
    """tr(Sigma_W pinv(Sigma_B)) / K by the singular values of the centered means, in extended means.

    With D = U S V^T the centered means, pinv(Sigma_B) = K V S^-2 V^T, hence NC1 is the mean over points of
    |S^-1 V^T r|^2. No eigenvalue is squared before the cutoff, and nothing collapses in a d x d sum.
    """
    stats = class_stats(features, labels, num_classes, np.longdouble)
    centered = (stats.means - stats.means.sum(axis=0) / num_classes).astype(np.float64)
    _, singular, vectors = np.linalg.svd(centered, full_matrices=False)
    kept = singular > 1e-10 * singular[0]
    whitened = stats.residuals.astype(np.float64) @ vectors[kept].T / singular[kept]
    return (whitened**2).sum() / len(whitened)


def nc1_trace_ratio(features, labels, num_classes):
    """tr(Sigma_W) / tr(Sigma_B)."""
    stats = class_stats(features, labels, num_classes, np.longdouble)
    global_mean = stats.means.sum(axis=0) / num_classes
    between = ((stats.means - global_mean) ** 2).sum() / num_classes
    return float(stats.within.sum() / stats.counts.sum() / between)


def cosine_gram(features, labels, num_classes):
    """Cosines between class means seen from the mean of the class means."""
    means = class_stats(features, labels, num_classes, np.longdouble).means
    centered = means - means.sum(axis=0) / num_classes
    gram = np.empty((num_classes, num_classes))
    for i, a in enumerate(centered):
        for j, b in enumerate(centered):
            gram[i, j] = (a @ b) / np.sqrt((a @ a) * (b @ b))
    return gram


def nc2(features, labels, num_classes):
    """| G / |G| - (I - 11^T / K) / sqrt(K - 1) |, Frobenius norms."""
    gram = cosine_gram(features, labels, num_classes)
    simplex = (np.eye(num_classes) - 1 / num_classes) / np.sqrt(num_classes - 1)
    return np.sqrt(((gram / np.sqrt((gram**2).sum()) - simplex) ** 2).sum())


def nc2_gram_mse(features, labels, num_classes):
    """Mean over entries of (G - G_simplex)^2: 1 on the simplex's diagonal, -1 / (K - 1) off it."""
    gram = cosine_gram(features, labels, num_classes)
    simplex = np.where(np.eye(num_classes, dtype=bool), 1.0, -1 / (num_classes - 1))
    return ((gram - simplex) ** 2).mean()


def nearest_class_mean(features, means):
    """Class whose mean has the smallest distance."""
    return np.array([np.argmin([((x - mean) ** 2).sum() for mean in means]) for x in np.asarray(features)])


def nc4(features, labels, num_classes, logits):
    """Share of points that the logits and the nearest class mean decide differently."""
    means = class_stats(features, labels, num_classes).means
    decisions = np.array([np.argmax(row) for row in np.asarray(logits)])
    return (decisions != nearest_class_mean(features, means)).mean()


def nc4_per_class(features, labels, num_classes, logits):
    """`nc4` class by class; 0 for a class without points."""
    means = class_stats(features, labels, num_classes).means
    wrong = np.argmax(np.asarray(logits), axis=1) != nearest_class_mean(features, means)
    return np.array([wrong[np.asarray(labels) == label].mean() for label in range(num_classes)])


def ncc_accuracy(features, labels, num_classes):
    """Share of points whose nearest class mean is their own."""
    means = class_stats(features, labels, num_classes).means
    return (nearest_class_mean(features, means) == np.asarray(labels)).mean()


def nc1_within_fraction(features, labels, num_classes):
    """tr(Sigma_W) / tr(Sigma_T), Sigma_T about the mean of all points."""
    features = np.asarray(features, np.longdouble)
    stats = class_stats(features, labels, num_classes, np.longdouble)
    return float(stats.within.sum() / ((features - features.mean(axis=0)) ** 2).sum())


def cdnv_matrix(features, labels, num_classes):
    """(v_i + v_j) / (2 |mu_i - mu_j|^2), v the mean squared distance of a class's points to their mean."""
    stats = class_stats(features, labels, num_classes, np.longdouble)
    result = np.zeros((num_classes, num_classes))
    for i in range(num_classes):
        for j in range(num_classes):
            if i != j:
                variance = stats.within[i] / stats.counts[i] + stats.within[j] / stats.counts[j]
                result[i, j] = variance / (2 * ((stats.means[i] - stats.means[j]) ** 2).sum())
    return result


def nc1_cdnv(features, labels, num_classes):
    """Mean over ordered pairs of different classes."""
    return off_diagonal(cdnv_matrix(features, labels, num_classes)).mean()


def off_diagonal(matrix):
    """Entries of the ordered pairs of different classes, as a vector."""
    return matrix[~np.eye(len(matrix), dtype=bool)]


def nc2_equinorm(features, labels, num_classes):
    """Std (ddof 1) over mean of |mu_k - mu_G|."""
    means = class_stats(features, labels, num_classes, np.longdouble).means
    norms = np.sqrt(((means - means.mean(axis=0)) ** 2).sum(axis=1)).astype(np.float64)
    return norms.std(ddof=1) / norms.mean()


def nc2_equiangularity(features, labels, num_classes):
    """Mean |cos + 1/(K - 1)| over pairs."""
    return np.abs(off_diagonal(cosine_gram(features, labels, num_classes)) + 1 / (num_classes - 1)).mean()


def nc2_cosine_std(features, labels, num_classes):
    """Std (ddof 1) of the cosines of ordered pairs."""
    return off_diagonal(cosine_gram(features, labels, num_classes)).std(ddof=1)


def unit_mean_distances(features, labels, num_classes):
    """|m_i - m_j| over ordered pairs of the centered class means of unit norm."""
    means = class_stats(features, labels, num_classes).means
    centered = means - means.mean(axis=0)
    unit = centered / np.sqrt((centered**2).sum(axis=1))[:, None]
    return off_diagonal(np.sqrt(((unit[:, None] - unit[None]) ** 2).sum(axis=2)))


def nc2_log_energy(features, labels, num_classes):
    """Mean of log(1 / distance)."""
    return -np.log(unit_mean_distances(features, labels, num_classes)).mean()


def nc2_riesz_energy(features, labels, num_classes):
    """Mean of 1 / distance."""
    return (1 / unit_mean_distances(features, labels, num_classes)).mean()


def _centered_means(features, labels, num_classes):
    means = class_stats(features, labels, num_classes).means
    return means - means.mean(axis=0)


def nc3(features, labels, num_classes, classifier):
    """| A M^T / |A M^T| - (I - 11^T / K) / sqrt(K - 1) |, M with unit rows."""
    centered = _centered_means(features, labels, num_classes)
    product = np.asarray(classifier).T @ (centered / np.sqrt((centered**2).sum(axis=1))[:, None]).T
    simplex = (np.eye(num_classes) - 1 / num_classes) / np.sqrt(num_classes - 1)
    return np.sqrt(((product / np.sqrt((product**2).sum()) - simplex) ** 2).sum())


def nc3_self_duality(features, labels, num_classes, classifier):
    """| A / |A| - M / |M| |, M not normalized row by row."""
    centered, rows = _centered_means(features, labels, num_classes), np.asarray(classifier).T
    return np.sqrt(((rows / np.sqrt((rows**2).sum()) - centered / np.sqrt((centered**2).sum())) ** 2).sum())


def nc3_uniform_duality(features, labels, num_classes, classifier):
    """Std (ddof 1) of cos(a_k, mu_k - mu_G)."""
    pairs = zip(np.asarray(classifier).T, _centered_means(features, labels, num_classes), strict=True)
    return np.std([(a @ m) / np.sqrt((a @ a) * (m @ m)) for a, m in pairs], ddof=1)
