"""Kernels: frozen pytrees of hyper-parameters, called on two sets of rows."""

from dnc_jax.kernels.radial import Gaussian, Laplace, Radial

__all__ = ["Gaussian", "Laplace", "Radial"]
