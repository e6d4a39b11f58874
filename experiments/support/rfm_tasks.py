"""Synthetic regression tasks whose true directions are known: published ones, and ones in growing rank.

Every task is drawn from its seed alone: the points and the directions of one seed are the same for all ranks
and degrees, and the directions of a lower rank are the first of a higher one.
"""

import math
from collections.abc import Callable
from itertools import combinations_with_replacement
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

# Independent random streams of one seed.
POINTS, DIRECTIONS, COEFFICIENTS = range(3)
# Standard deviation of the points of the low-rank notebook.
LOW_RANK_SCALE = 0.5

Function = Callable[[Float[np.ndarray, "n d"]], Float[np.ndarray, "n"]]


class Problem(NamedTuple):
    """Points and targets of a task; the true directions, orthonormal, where the task has some.

    has_classes tells that the prediction of a point is where its outputs are largest, or the sign of one.
    """

    train_x: Float[np.ndarray, "n d"]
    train_targets: Float[np.ndarray, "n c"]
    test_x: Float[np.ndarray, "v d"]
    test_targets: Float[np.ndarray, "v c"]
    directions: Float[np.ndarray, "d r"] | None
    has_classes: bool = False


def tutorial(seed: int, *, num_train: int, num_test: int, dim: int) -> Problem:
    """Returns y = x_1 x_2 of standard normal points, from numpy's legacy generator as in the tutorial."""
    rng = np.random.RandomState(seed)
    train, test = (rng.normal(size=(size, dim)) for size in (num_train, num_test))
    return _problem(train, test, lambda x: x[:, 0] * x[:, 1], np.eye(dim)[:, :2])


def low_rank(seed: int, *, num_train: int, num_test: int, dim: int) -> Problem:
    """Returns y = x_0 x_1 1[x_5 > 0] of normal points with standard deviation 1/2, as in the notebook."""
    rng = np.random.RandomState(seed)
    train, test = (rng.normal(0, LOW_RANK_SCALE, size=(size, dim)) for size in (num_train, num_test))
    return _problem(train, test, lambda x: x[:, 0] * x[:, 1] * (x[:, 5] > 0), np.eye(dim)[:, [0, 1, 5]])


def polynomial(seed: int, *, num_train: int, num_test: int, dim: int, rank: int, degree: int) -> Problem:
    """Returns a random polynomial of the given degree in rank random directions of normal points.

    y = sum_a c_a prod_j h_{a_j}(u_j.x), h the Hermite polynomials with E h^2 = 1, over all multi-indices with
    1 <= |a| <= degree; the random c_a give every degree |a| the same share of the variance of y, which is 1.
    """
    directions = random_directions(seed, dim, rank)
    rng = np.random.default_rng([seed, COEFFICIENTS, rank, degree])
    coefficients: dict[tuple[int, ...], float] = {}
    for total in range(1, degree + 1):
        factors = list(combinations_with_replacement(range(rank), total))
        drawn = rng.normal(size=len(factors))
        drawn /= np.linalg.norm(drawn) * math.sqrt(degree)
        coefficients |= dict(zip(factors, drawn.tolist(), strict=True))

    def function(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n"]:
        values = hermite(x @ directions, degree)
        total = np.zeros(len(x))
        for factors, coefficient in coefficients.items():
            powers = np.bincount(factors, minlength=rank)
            total += coefficient * np.prod([values[power, :, j] for j, power in enumerate(powers)], axis=0)
        return total

    return _problem(*_normal_points(seed, num_train, num_test, dim), function, directions)


def multi_index(seed: int, *, num_train: int, num_test: int, dim: int, rank: int) -> Problem:
    """Returns y = |U^T x|, the length of a normal point's projection on rank random directions U."""
    directions = random_directions(seed, dim, rank)
    points = _normal_points(seed, num_train, num_test, dim)
    return _problem(*points, lambda x: np.linalg.norm(x @ directions, axis=1), directions)


def parity(seed: int, *, num_train: int, num_test: int, dim: int, degree: int) -> Problem:
    """Returns y = the product of degree random coordinates of points that are uniform on {-1, 1}^dim."""
    rng = np.random.default_rng([seed, POINTS])
    train, test = (rng.integers(0, 2, size=(size, dim)) * 2.0 - 1.0 for size in (num_train, num_test))
    chosen = np.random.default_rng([seed, DIRECTIONS]).permutation(dim)[:degree]
    problem = _problem(train, test, lambda x: np.prod(x[:, chosen], axis=1), np.eye(dim)[:, chosen])
    return problem._replace(has_classes=True)


def hermite(z: Float[np.ndarray, "n r"], degree: int) -> Float[np.ndarray, "k n r"]:
    """Returns the probabilists' Hermite polynomials of degrees 0 to degree, over sqrt(k!): E h^2 = 1."""
    values = [np.ones_like(z), z]
    for k in range(1, degree):
        values.append((z * values[k] - math.sqrt(k) * values[k - 1]) / math.sqrt(k + 1))
    return np.stack(values)


def random_directions(seed: int, dim: int, rank: int) -> Float[np.ndarray, "d r"]:
    """Returns the first rank columns of a random orthogonal matrix."""
    rng = np.random.default_rng([seed, DIRECTIONS])
    return np.linalg.qr(rng.normal(size=(dim, dim)))[0][:, :rank]


def _normal_points(seed: int, num_train: int, num_test: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([seed, POINTS])
    return rng.normal(size=(num_train, dim)), rng.normal(size=(num_test, dim))


def _problem(train: np.ndarray, test: np.ndarray, function: Function, directions: np.ndarray) -> Problem:
    return Problem(train, function(train)[:, None], test, function(test)[:, None], directions)
