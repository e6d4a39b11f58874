"""The table of members: a new kernel, sampler or metric is one line here, and the laws then hold for it."""

from functools import partial
from typing import NamedTuple

import jax
import numpy as np
import pytest

import dnc_jax
from tests import collapse_oracles, oracles


class KernelCase(NamedTuple):
    """A kernel, its Gram matrix by the oracle, and k'(r)/r by the oracle."""

    kernel: object
    gram: object
    radial_derivative: object
    bandwidth: float


class SamplerCase(NamedTuple):
    """A feature sampler of (key, in_dim, width) and the kernel of differences r that it approximates."""

    sample: object
    kernel_of: object


LAPLACE = KernelCase(
    dnc_jax.Laplace(1.7), partial(oracles.laplace_gram, bandwidth=1.7), oracles.laplace_radial_derivative, 1.7
)
GAUSSIAN = KernelCase(
    dnc_jax.Gaussian(1.3),
    partial(oracles.gaussian_gram, bandwidth=1.3),
    oracles.gaussian_radial_derivative,
    1.3,
)
KERNELS = [pytest.param(LAPLACE, id="laplace"), pytest.param(GAUSSIAN, id="gaussian")]

FOURIER_SAMPLERS = [
    pytest.param(
        SamplerCase(
            partial(dnc_jax.gaussian_fourier_features, bandwidth=1.3),
            lambda r: np.exp(-(r**2).sum(axis=-1) / (2 * 1.3**2)),
        ),
        id="gaussian",
    ),
    pytest.param(
        SamplerCase(
            partial(dnc_jax.laplace_fourier_features, bandwidth=1.7),
            lambda r: np.exp(-np.sqrt((r**2).sum(axis=-1)) / 1.7),
        ),
        id="laplace",
    ),
    pytest.param(
        SamplerCase(
            partial(dnc_jax.product_laplace_fourier_features, bandwidth=1.7),
            lambda r: np.exp(-np.abs(r).sum(axis=-1) / 1.7),
        ),
        id="product_laplace",
    ),
]
SAMPLERS = [
    pytest.param(dnc_jax.relu_features, id="relu"),
    *(pytest.param(p.values[0].sample, id=f"{p.id}_fourier") for p in FOURIER_SAMPLERS),
]


class MetricCase(NamedTuple):
    """A metric of (features, labels, num_classes, ...), the same of class statistics, and its oracle.

    jitted is the metric under jit; from_stats is None where statistics do not suffice; is_zero tells that
    collapse onto a simplex makes it 0.
    """

    metric: object
    jitted: object
    from_stats: object
    oracle: object
    is_zero: bool


def metric_case(name, is_zero=True):
    metric = getattr(dnc_jax, name)
    jitted = jax.jit(metric, static_argnames="num_classes")
    from_stats = getattr(dnc_jax, f"{name}_from_stats", None)
    case = MetricCase(metric, jitted, from_stats, getattr(collapse_oracles, name), is_zero)
    return pytest.param(case, id=name)


METRICS = [
    *(metric_case(name) for name in ("nc1", "nc1_trace_ratio", "nc1_within_fraction", "nc1_cdnv")),
    *(metric_case(name) for name in ("nc2", "nc2_gram_mse", "nc2_equinorm", "nc2_equiangularity")),
    metric_case("nc2_cosine_std"),
    metric_case("nc2_log_energy", is_zero=False),
    metric_case("nc2_riesz_energy", is_zero=False),
]
# The same with a classifier (d, k) as fourth argument.
CLASSIFIER_METRICS = [metric_case(name) for name in ("nc3", "nc3_self_duality", "nc3_uniform_duality")]
DTYPES = [pytest.param(np.dtype(np.float32), id="float32"), pytest.param(np.dtype(np.float64), id="float64")]
