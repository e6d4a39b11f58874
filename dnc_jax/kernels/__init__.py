"""Kernels: frozen pytrees of hyper-parameters, called on two sets of rows."""

from dnc_jax.kernels.protocol import ClosedFormKernel, Kernel, check_kernel
from dnc_jax.kernels.radial import Gaussian, Laplace, Radial

__all__ = ["ClosedFormKernel", "Gaussian", "Kernel", "Laplace", "Radial", "check_kernel"]
