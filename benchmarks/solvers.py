"""How long do the solvers take, how near to the flops of a Cholesky factorization, and how exact are they?

Laplace kernel of bandwidth 2 on normal classes of unit norm, plus a ridge of 1e-3, and targets of -1 and 1.
Every solver is compiled alone; all are taken in turns beside a product of two n x n matrices, by whose rate
n^3 / 3 flops take the seconds that over_cholesky is measured over, and the flops that `cost` counts those of
over_predicted. cg is not given the matrix, and its seconds are those of making tiles of it too. mixed is of
float64 alone. The residual is |A w - y| / |y| in the Frobenius norm, and the condition number is what the
solver says of it.

    python -m benchmarks.solvers --num_rows 1000 2000 4000 --output=timings.jsonl
"""

import argparse
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from benchmarks import flags, timing
from benchmarks.metrics import make_classes
from dnc_jax import Laplace
from dnc_jax.cost import DENSE_SOLVERS, LayerSize, cg_flops, dense_flops
from dnc_jax.linalg import matmul, norm, unit_rows
from dnc_jax.matrix_free import ConjugateGradients, solve_matrix_free
from dnc_jax.mixed_solver import mixed_cholesky_solve
from dnc_jax.solvers import Solution, Solver, cholesky_solve, eigh_solve, quick_cholesky_solve

BANDWIDTH, RIDGE = 2.0, 1e-3
SOLVERS: dict[str, Solver] = {
    "cholesky": cholesky_solve,
    "quick_cholesky": quick_cholesky_solve,
    "eigh": eigh_solve,
    "mixed": mixed_cholesky_solve,
}
"""What is measured: any function of a system and its right-hand sides that returns a `Solution`."""
OF_FLOAT64 = ("mixed",)
BY_CG = ConjugateGradients()


def make_system(
    num_rows: int, dim: int, num_outputs: int, dtype: str
) -> tuple[Float[Array, "n d"], Float[Array, "n n"], Float[Array, "n c"]]:
    """Returns rows, their kernel matrix with its ridge, and targets."""
    x, labels = make_classes(num_rows, dim, num_outputs)
    rows = unit_rows(jnp.asarray(x, dtype))
    system = Laplace(BANDWIDTH)(rows, rows) + RIDGE * jnp.eye(num_rows, dtype=dtype)
    return rows, system, 2 * jax.nn.one_hot(labels, num_outputs, dtype=dtype) - 1


@jax.jit
def solve_by_cg(rows: Float[Array, "n d"], targets: Float[Array, "n c"]) -> Solution:
    """Returns the same by conjugate gradients, with a bound on the condition number from above."""
    added = jnp.full(len(rows), RIDGE, rows.dtype)
    found = solve_matrix_free(Laplace(BANDWIDTH), rows, targets, added, BY_CG)
    return Solution(found.weights, found.condition_bound)


def predicted_flops(name: str, size: LayerSize, itemsize: int) -> float | None:
    """Returns the flops that `cost` counts for a solution, None for a solver that it does not know."""
    if name == "cg":
        return sum(cg_flops(size, BY_CG, itemsize))
    solver = SOLVERS[name]
    return sum(dense_flops(size, solver)[1:]) if solver in DENSE_SOLVERS else None


def measure(num_rows: int, dim: int, num_outputs: int, dtype: str, repeats: int) -> list[dict[str, Any]]:
    """Returns a row for each solver: seconds, those over n^3 / 3 flops, residual and condition number."""
    x, system, targets = make_system(num_rows, dim, num_outputs, dtype)
    names = [name for name in SOLVERS if dtype == "float64" or name not in OF_FLOAT64]
    solvers = {name: partial(jax.jit(SOLVERS[name]), system, targets) for name in names}
    solvers |= {"cg": partial(solve_by_cg, x, targets)}
    sizes = LayerSize(num_rows, 0, dim, dim, num_outputs)
    product, product_flops = timing.large_product(num_rows, jnp.dtype(dtype))
    seconds = timing.medians(solvers | {"product": product}, repeats=repeats)
    rate = product_flops / seconds["product"]
    rows = []
    for name, solve in solvers.items():
        solution = solve()
        residual = norm(matmul(system, solution.weights) - targets) / norm(targets)
        row = {"solver": name, "seconds": seconds[name]}
        row |= {"over_cholesky": seconds[name] * rate / (num_rows**3 / 3)}
        predicted = predicted_flops(name, sizes, jnp.dtype(dtype).itemsize)
        row |= {"over_predicted": seconds[name] * rate / predicted if predicted else None}
        numbers = {"residual": float(residual), "condition_estimate": float(solution.condition_estimate)}
        rows.append(row | numbers)
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures at the sizes given on the command line and reports, a table for each size and dtype."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--num_rows", type=flags.count, nargs="+", default=[1000, 2000, 4000])
    parser.add_argument("--dim", type=flags.count, default=512)
    parser.add_argument("--num_outputs", type=flags.count, default=10)
    parser.add_argument("--dtype", choices=("float64", "float32"), nargs="+", default=["float64", "float32"])
    parser.add_argument("--repeats", type=flags.count, default=5)
    parser.add_argument(
        "--output", type=flags.file_to_write, default=None, help="file that lines of JSON are appended to"
    )
    options = parser.parse_args(arguments)
    for dtype in options.dtype:
        for num_rows in options.num_rows:
            sizes = {"num_rows": num_rows, "dim": options.dim, "num_outputs": options.num_outputs}
            with jax.enable_x64(dtype == "float64"):
                rows = measure(**sizes, dtype=dtype, repeats=options.repeats)
            timing.report_rows("solvers", sizes, rows, jnp.dtype(dtype), options.output)


if __name__ == "__main__":
    main()
