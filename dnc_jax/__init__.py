"""Deep neural collapse in JAX: collapse metrics, average gradient outer products, recursive feature machines.

Arrays in, arrays out: nothing here reads a file, a clock or the command line.
"""

from dnc_jax.agop import agop, kernel_agop
from dnc_jax.agop_estimates import Estimate, agop_by_probes, egop
from dnc_jax.agop_layers import layer_agops
from dnc_jax.ansatz import (
    agop_alignment,
    centered_nfa_correlation,
    centered_nfc,
    cosine_nfa,
    nfa_correlation,
    nfm,
    subspace_alignment,
    svd_stages,
)
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
from dnc_jax.kernels import Gaussian, Laplace
from dnc_jax.linalg import psd_power, squared_distances, unit_rows
from dnc_jax.machine import KernelMachine, fit_kernel_machine, kernel_machine_core
from dnc_jax.rfm import RFM, fit_rfm
from dnc_jax.similarity import cosine, effective_rank, pearson, stable_rank
from dnc_jax.types import Stages

__all__ = [
    "RFM",
    "ClassStats",
    "DeepRFM",
    "DeepRFMLayer",
    "Estimate",
    "FitError",
    "FourierFeatures",
    "Gaussian",
    "KernelMachine",
    "Laplace",
    "NumericalError",
    "PrecisionFloorError",
    "ReLUFeatures",
    "Stages",
    "agop",
    "agop_alignment",
    "agop_by_probes",
    "centered_nfa_correlation",
    "centered_nfc",
    "class_stats",
    "cosine",
    "cosine_nfa",
    "decision_mismatch",
    "deep_rfm_layer_core",
    "effective_rank",
    "egop",
    "fit_deep_rfm",
    "fit_deep_rfm_layer",
    "fit_kernel_machine",
    "fit_rfm",
    "gaussian_fourier_features",
    "kernel_agop",
    "kernel_machine_core",
    "laplace_fourier_features",
    "layer_agops",
    "merge",
    "nc1",
    "nc1_trace_ratio",
    "nc2",
    "nc2_gram_mse",
    "nc4",
    "nearest_class_mean",
    "nfa_correlation",
    "nfm",
    "pearson",
    "product_laplace_fourier_features",
    "psd_power",
    "relu_features",
    "squared_distances",
    "stable_rank",
    "stages",
    "subspace_alignment",
    "svd_stages",
    "unit_rows",
    "within_class_rounding",
]
