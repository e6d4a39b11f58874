"""Recursive feature machines: a kernel machine on x M^(1/2), with M learned from its own AGOP.

References:
    Radhakrishnan, Beaglehole, Pandit and Belkin (2024), Science 383, Algorithm 1.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from dnc_jax.agop import kernel_agop
from dnc_jax.kernels import Kernel
from dnc_jax.linalg import Solver, matmul, psd_power
from dnc_jax.machine import KernelMachine, fit_kernel_machine
from dnc_jax.types import pytree


@pytree
class RFM:
    """A fitted recursive feature machine: a machine on x @ feature_root.

    feature_matrix is M and feature_root M^(1/2), both (d, d); for a diagonal M both are its (d,) diagonal.
    """

    machine: KernelMachine
    feature_matrix: Array
    feature_root: Array

    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, "n c"]:
        """Returns the predictions at the rows of x."""
        return self.machine(apply_root(x, self.feature_root))


def apply_root(x: Float[Array, "n d"], root: Float[Array, "d d"] | Float[Array, "d"]) -> Float[Array, "n d"]:
    """Returns x @ root, root a matrix or the diagonal of one."""
    return x * root[None, :] if root.ndim == 1 else matmul(x, root)


def by_max(feature_matrix: Array) -> Array:
    """Returns M divided by its largest entry, as the released rfm package does."""
    return feature_matrix / jnp.max(feature_matrix)


def fit_rfm(
    kernel: Kernel,
    x: Float[Array, "n d"],
    targets: Float[Array, "n c"],
    *,
    ridge: float,
    num_iters: int,
    centered: bool = False,
    diagonal: bool = False,
    rescale: Callable[[Array], Array] | None = None,
    power: float = 1.0,
    solver: Solver | None = None,
) -> RFM:
    """Returns the machine after num_iters updates M <- AGOP^power, from M = I, and a last refit.

    The AGOP is that of f in x, root @ (AGOP of the machine in x @ root) @ root, the mean over rows.

    Args:
        centered: Subtract the mean gradient of each output before the outer product.
        diagonal: Keep only the diagonal of the AGOP.
        rescale: Applied to M after each update, such as `by_max`; None keeps the mean over rows.

    Raises:
        ValueError: If an argument is out of range, or x or targets hold values that are not finite.
        FitError: If a system is singular in the dtype of x.
    """
    if num_iters < 0:
        raise ValueError(f"num_iters must be at least 0 AGOP updates: got {num_iters}")
    matrix = jnp.ones(x.shape[1], x.dtype) if diagonal else jnp.eye(x.shape[1], dtype=x.dtype)
    root = matrix
    machine = fit_kernel_machine(kernel, x, targets, ridge=ridge, solver=solver)
    for _ in range(num_iters):
        gram = kernel_agop(machine, centered=centered, diagonal=diagonal)
        matrix = root * gram * root if diagonal else matmul(root, matmul(gram, root))
        matrix = _power(matrix, power)
        matrix = matrix if rescale is None else rescale(matrix)
        root = _power(matrix, 0.5)
        machine = fit_kernel_machine(kernel, apply_root(x, root), targets, ridge=ridge, solver=solver)
    return RFM(machine, matrix, root)


def _power(matrix: Array, power: float) -> Array:
    if power == 1.0:
        return matrix
    return matrix**power if matrix.ndim == 1 else psd_power(matrix, power)
