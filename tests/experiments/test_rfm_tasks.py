"""Tasks of known features: their targets beside loops, and how circulant a matrix is."""

import math
from itertools import combinations_with_replacement

import numpy as np
import pytest

from experiments.support import modular, rfm_options, rfm_tasks

SIZES = {"num_train": 30, "num_test": 20, "dim": 8}


def test_the_tutorial_is_drawn_by_the_legacy_generator():
    problem = rfm_tasks.tutorial(1717, **SIZES)
    rng = np.random.RandomState(1717)
    train, test = rng.normal(size=(30, 8)), rng.normal(size=(20, 8))
    np.testing.assert_array_equal(problem.train_x, train)
    np.testing.assert_array_equal(problem.test_targets[:, 0], [row[0] * row[1] for row in test])
    np.testing.assert_array_equal(problem.directions, np.eye(8)[:, :2])


def test_the_low_rank_task_is_a_gated_product():
    problem = rfm_tasks.low_rank(0, **SIZES)
    true = [row[0] * row[1] if row[5] > 0 else 0.0 for row in problem.train_x]
    np.testing.assert_array_equal(problem.train_targets[:, 0], true)
    assert 0.4 < problem.train_x.std() < 0.6


def test_hermite_polynomials_are_orthonormal():
    nodes, weights = np.polynomial.hermite_e.hermegauss(20)
    values = rfm_tasks.hermite(nodes[:, None], 5)[:, :, 0]
    np.testing.assert_allclose((values * weights) @ values.T / math.sqrt(2 * math.pi), np.eye(6), atol=1e-10)


def test_a_polynomial_has_unit_variance_and_its_degree_in_its_directions():
    sizes = SIZES | {"num_train": 200_000, "num_test": 2}
    problem = rfm_tasks.polynomial(3, **sizes, rank=2, degree=3)
    assert problem.train_targets.mean() == pytest.approx(0, abs=0.02)
    assert problem.train_targets.var() == pytest.approx(1, abs=0.05)
    z = problem.train_x[:400] @ problem.directions
    monomials = [
        np.prod(z[:, list(factors)], axis=1) if factors else np.ones(len(z))
        for total in range(4)
        for factors in combinations_with_replacement(range(2), total)
    ]
    for count, is_enough in ((len(monomials), True), (len(monomials) - 4, False)):
        basis = np.stack(monomials[:count], axis=1)
        residual = (
            problem.train_targets[:400, 0]
            - basis @ np.linalg.lstsq(basis, problem.train_targets[:400, 0], rcond=None)[0]
        )
        assert (np.abs(residual).max() < 1e-10) == is_enough


def test_directions_of_a_lower_rank_are_the_first_of_a_higher():
    low, high = (rfm_tasks.multi_index(1, **SIZES, rank=rank) for rank in (2, 3))
    np.testing.assert_array_equal(low.directions, high.directions[:, :2])
    np.testing.assert_array_equal(low.train_x, high.train_x)
    np.testing.assert_allclose(high.directions.T @ high.directions, np.eye(3), atol=1e-12)
    true = [math.sqrt(sum((u @ row) ** 2 for u in high.directions.T)) for row in high.test_x]
    np.testing.assert_allclose(high.test_targets[:, 0], true, rtol=1e-12)


def test_a_parity_is_a_product_of_signs():
    problem = rfm_tasks.parity(2, **SIZES, degree=3)
    chosen = np.flatnonzero(problem.directions.sum(axis=1))
    assert len(chosen) == 3
    assert set(np.unique(problem.train_x)) == {-1.0, 1.0}
    true = [math.prod(row[i] for i in chosen) for row in problem.train_x]
    np.testing.assert_array_equal(problem.train_targets[:, 0], true)


@pytest.mark.parametrize(
    ("operation", "back"),
    [
        ("addition", lambda a, b, c: (c - a - b) % 7 == 0),
        ("subtraction", lambda a, b, c: (c + b - a) % 7 == 0),
        ("multiplication", lambda a, b, c: (c - a * b) % 7 == 0),
        ("division", lambda a, b, c: (c * b - a) % 7 == 0 and b != 0),
    ],
)
def test_modular_targets_solve_their_equation(operation, back):
    problem = modular.modular(0, num_train=20, prime=7, operation=operation)
    x = np.concatenate([problem.train_x, problem.test_x])
    targets = np.concatenate([problem.train_targets, problem.test_targets])
    assert len(problem.train_x) == 20
    assert len(np.unique(x, axis=0)) == len(x) == (42 if operation == "division" else 49)
    for row, target in zip(x, targets, strict=True):
        (a,), (b,), (c,) = (np.flatnonzero(part) for part in (row[:7], row[7:], target))
        assert back(a, b, c)


def test_circulant_deviation_is_the_distance_from_the_nearest_circulant_matrix():
    block = np.random.default_rng(0).normal(size=(5, 5))
    shifts = [np.roll(np.eye(5), step, axis=1) for step in range(5)]
    nearest = sum((block * shift).sum() / 5 * shift for shift in shifts)
    found = modular.circulant_deviation(block)
    assert found == pytest.approx(((block - nearest) ** 2).sum() / (block**2).sum(), rel=1e-12)
    assert modular.circulant_deviation(nearest) == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize("operation", ["addition", "subtraction", "multiplication", "division"])
def test_a_random_circulant_is_circulant_in_the_order_of_its_operation(operation):
    matrix = modular.random_circulant(0, 7, operation)
    np.testing.assert_array_equal(matrix, matrix.T)
    blocks = modular.ordered_blocks(matrix, operation)
    assert all(modular.circulant_deviation(block) < 1e-20 for block in blocks.values())
    others = {"addition", "subtraction", "multiplication", "division"} - {operation}
    for other in others:
        assert modular.circulant_deviation(modular.ordered_blocks(matrix, other)["cross"]) > 0.1
    assert np.abs(matrix - modular.random_circulant(1, 7, operation)).max() > 0.1


def refused(match, task="polynomial", **given):
    with pytest.raises(ValueError, match=match):
        rfm_options.resolved(task, given)


def test_options_that_mean_nothing_are_refused():
    refused(
        r"--prime means nothing to --task=polynomial: got 7; leave it out, its options are --kernel", prime=7
    )
    refused(r"--num-test means nothing to --task=modular_addition", task="modular_addition", num_test=5)
    refused(r"--bandwidth means nothing with --kernel=quadratic", kernel="quadratic", bandwidth=1.0)
    random = {"task": "modular_division", "features": "random_circulant"}
    refused(r"--num-iters means nothing with --features=random_circulant", **random, num_iters=3)
    refused(r"--gradients means nothing with --features=random_circulant", **random, gradients="raw")


def test_options_out_of_range_are_refused():
    refused(r"--num-train must be at least 1: got 0", num_train=0)
    refused(r"--power must be positive: got 0", power=0.0)
    refused(r"--ridge must be at least 0: got -1", ridge=-1.0)
    refused(r"--seeds must be one or more different", seeds=())
    refused(r"--ranks must be at most 4, the dimension: got \(5,\)", ranks=(5,), dim=4)
    refused(r"--degrees must be one or more different numbers of at least 1: got \(2, 2\)", degrees=(2, 2))
    refused(r"--degrees must be at most 4, the dimension", task="parity", degrees=(5,), dim=4)
    refused(r"--dim must be at least 6 for --task=low_rank: got 5", task="low_rank", dim=5)
    refused(r"--prime must be a prime number of at least 5: got 9", task="modular_addition", prime=9)
    refused(
        r"--num-train must leave some of the 42 pairs of --prime=7 for the test: got 42",
        task="modular_division",
        prime=7,
        num_train=42,
    )


def test_half_of_the_pairs_are_for_training():
    assert rfm_options.resolved("modular_addition", {})["num_train"] == 61 * 61 // 2
    assert rfm_options.resolved("modular_division", {"prime": 7})["num_train"] == 21
