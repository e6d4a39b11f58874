"""Kernels: frozen pytrees of hyper-parameters, called on two sets of rows."""

from dnc_jax.kernels.bandwidth import median_bandwidth, median_scaled
from dnc_jax.kernels.convolutional import ConvNTK
from dnc_jax.kernels.dot_product import NTK, Polynomial
from dnc_jax.kernels.protocol import ClosedFormKernel, ImageKernel, Kernel, check_kernel
from dnc_jax.kernels.radial import Gaussian, Laplace, Radial, RadialAt, anywhere, at_rows

__all__ = [
    "NTK",
    "ClosedFormKernel",
    "ConvNTK",
    "Gaussian",
    "ImageKernel",
    "Kernel",
    "Laplace",
    "Polynomial",
    "Radial",
    "RadialAt",
    "anywhere",
    "at_rows",
    "check_kernel",
    "median_bandwidth",
    "median_scaled",
]
