"""Subsets that keep the proportions of the classes."""

import numpy as np
from jaxtyping import Int


def class_quotas(counts: Int[np.ndarray, "k"], size: int) -> Int[np.ndarray, "k"]:
    """Returns how many of `size` points each class gets: its share, by the largest remainder.

    Every class that has points gets at least one where `size` allows; `size` is at most the sum of `counts`.
    """
    shares = size * counts
    quotas = shares // counts.sum()
    by_remainder = np.argsort(-(shares % counts.sum()), kind="stable")
    quotas[by_remainder[: size - quotas.sum()]] += 1
    if size >= np.count_nonzero(counts):
        for empty in np.flatnonzero((counts > 0) & (quotas == 0)):
            quotas[np.argmax(quotas)] -= 1
            quotas[empty] = 1
    return quotas


def stratified_subset(
    labels: Int[np.ndarray, "n"], size: int, *, num_classes: int, rng: np.random.Generator
) -> Int[np.ndarray, "m"]:
    """Returns indices of a random subset in random order, each class in its own proportion."""
    quotas = class_quotas(np.bincount(labels, minlength=num_classes), size)
    members = [rng.permutation(np.flatnonzero(labels == k)) for k in range(num_classes)]
    chosen = np.concatenate([indices[:quota] for indices, quota in zip(members, quotas, strict=True)])
    return rng.permutation(chosen)


def stratified_halves(
    labels: Int[np.ndarray, "n"], test_size: int, *, num_classes: int, rng: np.random.Generator
) -> tuple[Int[np.ndarray, "m"], Int[np.ndarray, "l"]]:
    """Returns shuffled indices of a training part and of a stratified test part that share no point."""
    test = stratified_subset(labels, test_size, num_classes=num_classes, rng=rng)
    train = rng.permutation(np.setdiff1d(np.arange(len(labels)), test))
    return train, test
