"""Modular arithmetic as classification, and how circulant a learned M of it is.

A pair (a, b) is the point e_a (+) e_b of R^2p, its target the one-hot of a o b mod p. A generalizing M has
blocks [[A, C], [C^T, B]] that are circulant: C is constant along wrapped diagonals for addition, along
wrapped antidiagonals for subtraction; for multiplication and division likewise, with 0 left out and the
others in the order of their discrete logarithm.

References:
    Mallinar, Beaglehole, Zhu, Radhakrishnan, Pandit and Belkin (2025), ICML.
"""

from collections.abc import Callable, Mapping
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from experiments.support.rfm_tasks import Problem

Operation = Literal["addition", "subtraction", "multiplication", "division"]
OPERATIONS: Mapping[Operation, Callable[[int, int, int], int]] = {
    "addition": lambda a, b, p: (a + b) % p,
    "subtraction": lambda a, b, p: (a - b) % p,
    "multiplication": lambda a, b, p: (a * b) % p,
    "division": lambda a, b, p: (a * pow(b, -1, p)) % p,
}
assert set(OPERATIONS) == set(get_args(Operation))
# Where the cross block is constant along antidiagonals, and where elements are ordered by logarithm.
ANTIDIAGONAL = ("subtraction", "division")
MULTIPLICATIVE = ("multiplication", "division")
# Independent random streams of one seed.
SPLIT, CIRCULANT = range(2)


def modular(seed: int, *, num_train: int, prime: int, operation: Operation) -> Problem:
    """Returns a random split of all pairs; division leaves out those with b = 0."""
    pairs = all_pairs(prime, operation)
    order = np.random.default_rng([seed, SPLIT]).permutation(len(pairs))
    answers = np.array([OPERATIONS[operation](int(a), int(b), prime) for a, b in pairs])
    one_hot = np.eye(prime)
    x = np.concatenate([one_hot[pairs[:, 0]], one_hot[pairs[:, 1]]], axis=1)[order]
    targets = one_hot[answers[order]]
    train, test = slice(num_train), slice(num_train, None)
    return Problem(x[train], targets[train], x[test], targets[test], None, has_classes=True)


def all_pairs(prime: int, operation: Operation) -> Int[np.ndarray, "n 2"]:
    """Returns all (a, b) that the operation is defined for."""
    first = 1 if operation == "division" else 0
    return np.array([(a, b) for a in range(prime) for b in range(first, prime)])


def is_prime(number: int) -> bool:
    """Returns whether a number is prime."""
    return number > 1 and all(number % factor for factor in range(2, int(number**0.5) + 1))


def cyclic_order(prime: int, operation: Operation) -> Int[np.ndarray, "q"]:
    """Returns 0..p-1, or for the multiplicative operations the powers 1, g, g^2, ... of the least root g."""
    if operation not in MULTIPLICATIVE:
        return np.arange(prime)
    for root in range(1, prime):
        powers = [pow(root, exponent, prime) for exponent in range(prime - 1)]
        if len(set(powers)) == prime - 1:
            return np.array(powers)
    raise ValueError(f"{prime} has no primitive root: --prime must be a prime number")


def ordered_blocks(matrix: Float[np.ndarray, "d d"], operation: Operation) -> dict[str, np.ndarray]:
    """Returns the blocks A of a, B of b and C across, rows and columns in their cyclic order.

    Those of b run backwards where C is constant along antidiagonals, so that all three are circulant.
    """
    p = len(matrix) // 2
    order = cyclic_order(p, operation)
    second = order[::-1] if operation in ANTIDIAGONAL else order
    return {
        "first": matrix[:p, :p][np.ix_(order, order)],
        "second": matrix[p:, p:][np.ix_(second, second)],
        "cross": matrix[:p, p:][np.ix_(order, second)],
    }


def circulant_deviation(block: Float[np.ndarray, "q q"]) -> float:
    """Returns sum_ij (A_i,i+j - mean_i A_i,i+j)^2 / |A|^2, indices mod q: the share that is not circulant.

    0 for a circulant matrix, near 1 for a random one with entries of mean 0.
    """
    q = len(block)
    rows = np.arange(q)
    diagonals = block[rows[:, None], (rows[:, None] + rows[None, :]) % q]
    return float(np.sum((diagonals - diagonals.mean(axis=0)) ** 2) / np.sum(block**2))


def random_circulant(seed: int, prime: int, operation: Operation) -> Float[np.ndarray, "d d"]:
    """Returns [[A, C], [C^T, A]], A = I - 11^T/p, C a circulant of uniform numbers minus their mean.

    C in the order of `ordered_blocks`, its row and column of 0 being 0 for multiplicative operations. Not
    positive semidefinite: the power that M is of it takes negative eigenvalues as 0, as the released code.
    """
    order = cyclic_order(prime, operation)
    second = order[::-1] if operation in ANTIDIAGONAL else order
    drawn = np.random.default_rng([seed, CIRCULANT]).uniform(size=len(order))
    drawn -= drawn.mean()
    steps = np.arange(len(order))
    cross = np.zeros((prime, prime))
    cross[np.ix_(order, second)] = drawn[(steps[:, None] - steps[None, :]) % len(order)]
    own = np.eye(prime) - 1 / prime
    return np.block([[own, cross], [cross.T, own]])
