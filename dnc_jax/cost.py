"""What a layer of Deep RFM costs: flops and bytes, from its sizes alone, before any array exists.

Letters are those of `types`: n points, m centers, d inputs, p features, c outputs; q points of an AGOP,
r pivots of a preconditioner, b blocks of rows. A flop is an addition or a multiplication of a matrix product;
a step that waits for memory counts as the flops of a product that takes as long. Flops are those of all
devices that share the rows. Bytes are those of arrays on each, not of the runtime; how many are alive at once
was measured in programs compiled for a CPU.
"""

from dataclasses import dataclass
from typing import NamedTuple

from dnc_jax.agop_cost import (
    NARROW_PRODUCTS,
    SINGLE_SHARE,
    class_free_flops_at_centers,
    class_free_is_cheaper,
    class_free_numbers,
    direct_flops,
    direct_numbers,
    mixed_flops,
    mixed_numbers,
)
from dnc_jax.chunking import BATCH_BYTES
from dnc_jax.matrix_free.gram_tiles import num_tiles
from dnc_jax.matrix_free.nystrom import PIVOTS_PER_ROUND
from dnc_jax.matrix_free.solve import ConjugateGradients, block_shape, kept_bytes
from dnc_jax.mixed_solver import mixed_cholesky_solve
from dnc_jax.solvers import POWER_STEPS, Solver, cholesky_solve, eigh_solve, quick_cholesky_solve

DENSE_SOLVERS = (cholesky_solve, quick_cholesky_solve, eigh_solve, mixed_cholesky_solve)
# Measured: a symmetric eigendecomposition takes as long as this many d^3 flops of a large product.
EIGH_FLOPS = 12
# Measured: an entry that is read or written once takes as long as this many flops, an entry of a kernel that
# is made of a distance as so many.
PASS_FLOPS, KERNEL_FLOPS = 40, 400
# Assumed: steps of conjugate gradients, each a product with K. Measured on images of Fashion-MNIST with 512
# pivots: 10 to 50 steps on 1000 images (20 layers, to 1e-13), 47 to 70 on 4000 (5 layers, to 1e-12), 95 to
# 119 on 60,000 (3 layers, to 1e-5).
CG_STEPS = 100
# Assumed: corrections of `mixed_cholesky_solve`.
CORRECTIONS = 4


@dataclass(frozen=True)
class LayerSize:
    """What the cost of a layer depends on: points n, test points, input d, width p, outputs c."""

    num_train: int
    num_test: int
    in_dim: int
    width: int
    num_outputs: int


@dataclass(frozen=True)
class LayerMethod:
    """How a layer is fitted: its solver, the points of each AGOP (None is all), updates of M, devices.

    Devices share the rows of training points where conjugate gradients solve. Other solvers gather K on each,
    and what each holds is counted as if it were alone. mixed says that the AGOP is that of `mixed_agop`, with
    the solver `mixed_cholesky_solve`.
    """

    solver: Solver | ConjugateGradients = cholesky_solve
    agop_size: int | None = None
    num_iters: int = 1
    num_devices: int = 1
    mixed: bool = False

    def rows_of_one(self, num_rows: int) -> int:
        """Returns how many of the training points a device has."""
        return -(-num_rows // self.num_devices) if isinstance(self.solver, ConjugateGradients) else num_rows


class Flops(NamedTuple):
    """Flops by part of a layer; those of a solution by conjugate gradients rest on `CG_STEPS`."""

    distances: float
    solution: float
    condition_estimate: float
    agop: float
    root: float
    stages: float
    predictions: float

    @property
    def total(self) -> float:
        """Returns those of all parts."""
        return sum(self)


class Bytes(NamedTuple):
    """Bytes by part of a layer: data is there throughout, the others one after another."""

    data: int
    solution: int
    agop: int
    root: int
    stages: int

    @property
    def of_fit(self) -> int:
        """Returns the most that is there at once while a layer is fitted."""
        return self.data + max(self.solution, self.agop, self.root)

    @property
    def peak(self) -> int:
        """Returns the most that is there at once."""
        return max(self.of_fit, self.data + self.stages)


class LayerCost(NamedTuple):
    """What a layer costs."""

    flops: Flops
    bytes: Bytes


def layer_cost(size: LayerSize, itemsize: int, method: LayerMethod = LayerMethod()) -> LayerCost:
    """Returns what one layer costs in numbers of itemsize bytes: fit, AGOP, root, all points passed on.

    Raises:
        ValueError: If nothing is known of the solver.
    """
    solver = method.solver
    if isinstance(solver, ConjugateGradients):
        distances, solution = cg_flops(size, solver, itemsize)
        condition = 0.0
        solution_bytes = cg_bytes(size, solver, method, itemsize)
    else:
        distances, solution, condition = dense_flops(size, solver)
        solution_bytes = dense_bytes(size, method, itemsize)
    n, d, p, c = size.num_train, size.in_dim, size.width, size.num_outputs
    agop, agop_bytes = _agop(size, method, itemsize)
    updates, all_points = method.num_iters, n + size.num_test
    root = updates * (EIGH_FLOPS + 2) * d**3 + (updates - 1) * (2 * n * d * d + 4 * d**3)
    stages = 2.0 * all_points * d * (d + p)
    predictions = size.num_test * n * (2 * d + 2 * c + KERNEL_FLOPS)
    own = method.rows_of_one(n)
    data = (2 * own + size.num_test) * d + 2 * own * c + 2 * d * p + (updates > 1) * (own * d + 3 * d * d)
    # Predictions of a batch of held-out points have a kernel matrix and what it is made of.
    predicting = 3 * min(BATCH_BYTES // itemsize, size.num_test * n)
    stages_numbers = 2 * (own + size.num_test) * (d + p) + 2 * d * d + predicting
    numbers = Bytes(data, 0, 0, 5 * d * d, stages_numbers)
    held = Bytes(*(itemsize * number for number in numbers))
    flops = Flops(
        distances=updates * distances,
        solution=updates * solution,
        condition_estimate=updates * condition,
        agop=updates * agop,
        root=float(root),
        stages=stages,
        predictions=float(predictions),
    )
    return LayerCost(flops, held._replace(solution=solution_bytes, agop=agop_bytes))


def dense_flops(size: LayerSize, solver: Solver) -> tuple[float, float, float]:
    """Returns the flops of the kernel matrix, of its solution and of the estimate of its condition number.

    2 n^2 d and the entries; n^3 / 3 (Cholesky) or 12 n^3 (eigh), 4 n^2 c for weights and residual; 2 times 13
    passes of the matrix or its factor. In mixed precision the factor and 2 times 12 passes are in float32;
    each of `CORRECTIONS` takes 2 n^2 c for the residual, 2 n^2 c in float32 for the correction.
    """
    n, c = size.num_train, size.num_outputs
    if solver not in DENSE_SOLVERS:
        names = ", ".join(known.__name__ for known in DENSE_SOLVERS)
        raise ValueError(f"solver must be {names} or a ConjugateGradients, whose cost is known: got {solver}")
    passes = 2 * (POWER_STEPS + 1) if solver is cholesky_solve else 0
    entries, factorization = float(n * n), n**3 * (EIGH_FLOPS if solver is eigh_solve else 1 / 3)
    distances = entries * (2 * size.in_dim + KERNEL_FLOPS)
    if solver is mixed_cholesky_solve:
        corrections = CORRECTIONS * 2 * entries * c * (1 + SINGLE_SHARE)
        solution = SINGLE_SHARE * factorization + corrections + 2 * entries * c
        return distances, solution, (SINGLE_SHARE * 2 * POWER_STEPS + 1) * PASS_FLOPS * entries
    return distances, factorization + 4 * entries * c, passes * PASS_FLOPS * entries


def dense_bytes(size: LayerSize, method: LayerMethod, itemsize: int) -> int:
    """Returns the bytes of a solution with the whole K.

    Measured: 3 n^2 and 2 d^2, one n^2 more by eigh, 0.7 in mixed precision and 0.8 in a loop over updates of
    M; for an AGOP at all points the distances that it shares, or n d for one at drawn points.
    """
    n, d = size.num_train, size.in_dim
    num_grams = 4.05 if method.solver is eigh_solve else 3.75 if method.mixed else 3.05
    num_grams += 0.8 * (method.num_iters > 1)
    for_agop = n * n if method.agop_size is None else n * d
    return itemsize * (int(num_grams * n * n) + for_agop + 2 * d * d)


def cg_flops(size: LayerSize, recipe: ConjugateGradients, itemsize: int) -> tuple[float, float]:
    """Returns the flops of making tiles of K, and of solving with it by `CG_STEPS` steps.

    With E, about n^2 / 2, entries of tiles: E (2 d + 400) to make them, for every product if nothing is kept,
    else once, and once more in each of 2 rounds if they are kept rounded; a product is E (4 c + 80). The
    preconditioner is 6 n r^2 + 2 n r d + 12 r^3; a step uses it for 12 n r c, and 20 n c^2 for its vectors.
    """
    n, d, c, r = size.num_train, size.in_dim, size.num_outputs, num_pivots(size, recipe)
    num_blocks, rows = block_shape(n, recipe.tile_bytes, itemsize)
    entries = float(num_blocks * num_tiles(num_blocks) * rows**2)
    num_rounds = 2 if recipe.keep == "float32" and itemsize > 4 else 1
    num_products = CG_STEPS + num_rounds
    times_made = num_products if recipe.keep == "nothing" else 2 * num_rounds - 1
    product = entries * (4 * c + 2 * PASS_FLOPS)
    preconditioner = 6 * n * r * r + 2 * n * r * d + EIGH_FLOPS * r**3
    vectors = CG_STEPS * (12 * n * r * c + 20 * n * c * c)
    return times_made * entries * (2 * d + KERNEL_FLOPS), num_products * product + preconditioner + vectors


def cg_bytes(size: LayerSize, recipe: ConjugateGradients, method: LayerMethod, itemsize: int) -> int:
    """Returns the bytes of a solution by conjugate gradients: tiles of K, and O(n (d + c + r)) numbers.

    Measured: of a device's own rows its kept tiles, n d, 2 n r and 4 n c; 4 n d of all rows; 5 tiles; r^2;
    and n d and 7 tiles where batches of all points, not of drawn ones, are laid out.
    """
    n, d, own = size.num_train, size.in_dim, method.rows_of_one(size.num_train)
    tile = block_shape(own, recipe.tile_bytes, itemsize)[1] ** 2
    laid_out = 1 if method.agop_size is None else 0
    rank = num_pivots(size, recipe)
    of_own = own * ((1 + laid_out) * d + 2 * rank + 4 * size.num_outputs)
    others = of_own + 4 * n * d + (5 + 7 * laid_out) * tile + rank**2
    return kept_bytes(own, method.num_devices, recipe, itemsize) + itemsize * others


def num_pivots(size: LayerSize, recipe: ConjugateGradients) -> int:
    """Returns the columns of the preconditioner's factor: its rank in whole rounds of pivots."""
    of_round = min(PIVOTS_PER_ROUND, size.num_train)
    return -(-min(recipe.rank, size.num_train) // of_round) * of_round


def _agop(size: LayerSize, method: LayerMethod, itemsize: int) -> tuple[float, int]:
    """Returns the flops and the bytes of an AGOP, as the layer forms it."""
    n, d, c = size.num_train, size.in_dim, size.num_outputs
    batch_bytes = method.solver.tile_bytes if isinstance(method.solver, ConjugateGradients) else BATCH_BYTES
    if isinstance(method.solver, ConjugateGradients) or method.agop_size is not None:
        q = n if method.agop_size is None else method.agop_size
        flops = q * n * (2 * d + KERNEL_FLOPS) + direct_flops(q, d, n, c)
        # Measured.
        numbers = 4 * n * d + 6 * d * d
        return flops, 6 * min(batch_bytes, itemsize * n * q) + itemsize * numbers
    if method.mixed:
        return min(mixed_flops(n, d, c)), int(itemsize * mixed_numbers(n, d, c))
    if not class_free_is_cheaper(n, d, n, c, at_centers=True):
        return direct_flops(n, d, n, c), int(itemsize * direct_numbers(n, d, c))
    flops = NARROW_PRODUCTS * class_free_flops_at_centers(n, d, c)
    # Measured: the eigenvectors of K are still there.
    eigenvectors = n * n if method.solver is eigh_solve else 0
    return flops, int(itemsize * (class_free_numbers(n, d, c) + eigenvectors))
