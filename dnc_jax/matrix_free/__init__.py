"""Kernel machines whose kernel matrix never exists whole, on one device or with rows shared by many."""

from dnc_jax.matrix_free.solve import (
    ConjugateGradients,
    Keep,
    MatrixFreeSolution,
    check_solver,
    solve_matrix_free,
)

__all__ = ["ConjugateGradients", "Keep", "MatrixFreeSolution", "check_solver", "solve_matrix_free"]
