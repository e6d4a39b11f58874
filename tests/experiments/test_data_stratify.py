"""Subsets in the proportions of the classes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.support.data.stratify import class_quotas, stratified_halves, stratified_subset


@given(st.lists(st.integers(0, 50), min_size=1, max_size=12).filter(any), st.data())
def test_quotas(counts, drawn):
    counts = np.array(counts)
    size = drawn.draw(st.integers(1, int(counts.sum())))
    quotas = class_quotas(counts, size)
    assert quotas.sum() == size
    assert np.all(quotas <= counts)
    if size >= np.count_nonzero(counts):
        assert np.all(quotas[counts > 0] >= 1)
    exact = size * counts / counts.sum()
    # One step of rounding, and what the classes that would have got nothing take away.
    assert np.all(quotas <= np.maximum(np.ceil(exact), 1))


@pytest.mark.parametrize(
    ("counts", "size", "expected"),
    [
        ([50, 30, 20], 10, [5, 3, 2]),
        ([50, 30, 20], 9, [4, 3, 2]),  # shares 4.5, 2.7, 1.8
        ([98, 1, 1], 10, [8, 1, 1]),
        ([98, 1, 1], 2, [2, 0, 0]),
        ([5, 0, 5], 4, [2, 0, 2]),
    ],
)
def test_quotas_by_hand(counts, size, expected):
    np.testing.assert_array_equal(class_quotas(np.array(counts), size), expected)


def test_larger_subset_of_the_same_seed_holds_the_smaller():
    labels = np.arange(200) % 4
    small, large = (
        stratified_subset(labels, size, num_classes=4, rng=np.random.default_rng(0)) for size in (20, 100)
    )
    assert set(small) < set(large)


def test_halves_cover_everything_once():
    labels = np.arange(100) % 4
    train, test = stratified_halves(labels, 20, num_classes=4, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(100))
    np.testing.assert_array_equal(np.bincount(labels[test]), np.full(4, 5))
    assert np.any(np.diff(train) < 0)
