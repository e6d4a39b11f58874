"""Deep neural collapse in JAX: collapse metrics, average gradient outer products, recursive feature machines.

Arrays in, arrays out: nothing here reads a file, a clock or the command line.
"""

from dnc_jax.agop import agop, kernel_agop
from dnc_jax.collapse import (
    ClassStats,
    class_stats,
    decision_mismatch,
    merge,
    nc1,
    nc1_trace_ratio,
    nc2,
    nc2_gram_mse,
    nc4,
    nearest_class_mean,
    within_class_rounding,
)
from dnc_jax.deep_rfm import (
    DeepRFM,
    DeepRFMLayer,
    deep_rfm_layer_core,
    fit_deep_rfm,
    fit_deep_rfm_layer,
    stages,
)
from dnc_jax.errors import FitError, NumericalError, PrecisionFloorError
from dnc_jax.features import (
    FourierFeatures,
    ReLUFeatures,
    gaussian_fourier_features,
    laplace_fourier_features,
    product_laplace_fourier_features,
    relu_features,
)
from dnc_jax.kernels import NTK, Gaussian, Kernel, Laplace, Polynomial, median_bandwidth
from dnc_jax.linalg import psd_power, squared_distances, unit_rows
from dnc_jax.machine import KernelMachine, fit_kernel_machine, kernel_machine_core
from dnc_jax.rfm import RFM, fit_rfm
from dnc_jax.types import Stages

__all__ = [
    "NTK",
    "RFM",
    "ClassStats",
    "DeepRFM",
    "DeepRFMLayer",
    "FitError",
    "FourierFeatures",
    "Gaussian",
    "Kernel",
    "KernelMachine",
    "Laplace",
    "NumericalError",
    "Polynomial",
    "PrecisionFloorError",
    "ReLUFeatures",
    "Stages",
    "agop",
    "class_stats",
    "decision_mismatch",
    "deep_rfm_layer_core",
    "fit_deep_rfm",
    "fit_deep_rfm_layer",
    "fit_kernel_machine",
    "fit_rfm",
    "gaussian_fourier_features",
    "kernel_agop",
    "kernel_machine_core",
    "laplace_fourier_features",
    "median_bandwidth",
    "merge",
    "nc1",
    "nc1_trace_ratio",
    "nc2",
    "nc2_gram_mse",
    "nc4",
    "nearest_class_mean",
    "product_laplace_fourier_features",
    "psd_power",
    "relu_features",
    "squared_distances",
    "stages",
    "unit_rows",
    "within_class_rounding",
]
