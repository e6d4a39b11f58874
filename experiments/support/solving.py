"""How the system of each layer is solved: the choices of the command line and the solvers that they name."""

from typing import Literal

from dnc_jax.matrix_free import ConjugateGradients, Keep, check_solver
from dnc_jax.mixed_solver import mixed_cholesky_solve
from dnc_jax.solvers import Solver, cholesky_solve, eigh_solve
from experiments.support.options import check_sizes

SolverName = Literal["cholesky", "eigh", "cg"]
SOLVERS: dict[str, Solver] = {"cholesky": cholesky_solve, "eigh": eigh_solve}


def solver_of(
    name: SolverName,
    ridge: float,
    *,
    mixed: bool,
    tolerance: float | None,
    rank: int | None,
    keep: Keep | None,
) -> Solver | ConjugateGradients:
    """Returns the solver of a name; None is the default of `ConjugateGradients`, which all options are of.

    Raises:
        ValueError: If options of conjugate gradients are out of range or given to another solver, the ridge
            is 0, or a solver other than Cholesky is to be of mixed precision.
    """
    if mixed and name != "cholesky":
        remedy = "--precision=float64 with --cg-keep=float32" if name == "cg" else "--precision=float64"
        raise ValueError(f"--precision=mixed needs --solver=cholesky: got --solver={name}; use {remedy}")
    options = {"tolerance": tolerance, "rank": rank, "keep": keep}
    given = {key: value for key, value in options.items() if value is not None}
    if name != "cg":
        if given:
            flags = ", ".join(f"--cg-{key}={value}" for key, value in given.items())
            raise ValueError(f"{flags} needs --solver=cg: got --solver={name}")
        return mixed_cholesky_solve if mixed else SOLVERS[name]
    if rank is not None:
        check_sizes(cg_rank=rank)
    if tolerance is not None and not 0 < tolerance < 1:
        raise ValueError(f"--cg-tolerance must lie between 0 and 1: got {tolerance}")
    solver = ConjugateGradients(**given)
    check_solver(solver, ridge)
    return solver
