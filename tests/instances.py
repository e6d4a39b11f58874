"""The table of members: a new kernel, sampler or metric is one line here, and the laws then hold for it."""

from functools import partial
from typing import NamedTuple

import jax
import numpy as np
import pytest

import dnc_jax
from tests import collapse_oracles, kernel_oracles, oracles


class KernelCase(NamedTuple):
    """A kernel, its Gram matrix by the oracle, and the gradients of a machine by the oracle.

    gram is a function of (x, z), gradients of (x, centers, weights).
    """

    kernel: object
    gram: object
    gradients: object


class RadialCase(NamedTuple):
    """The same for a kernel of the distance r, and k'(r)/r by the oracle, a function of (r, bandwidth)."""

    kernel: object
    gram: object
    gradients: object
    radial_derivative: object
    bandwidth: float


class SamplerCase(NamedTuple):
    """A feature sampler of (key, in_dim, width) and the kernel of differences r that it approximates."""

    sample: object
    kernel_of: object


def radial(kernel, gram, derivative):
    """A radial case; its oracles take the bandwidth of the kernel."""
    bandwidth = kernel.bandwidth
    gradients = partial(oracles.gradients, radial_derivative=derivative, bandwidth=bandwidth)
    return RadialCase(kernel, partial(gram, bandwidth=bandwidth), gradients, derivative, bandwidth)


def dot_product(kernel, pair, **parameters):
    """A case whose oracle is a function of one pair of rows and the hyper-parameters of the kernel."""
    pair = partial(pair, **parameters)
    return KernelCase(
        kernel, partial(kernel_oracles.gram, kernel=pair), partial(kernel_oracles.gradients, kernel=pair)
    )


LAPLACE = radial(dnc_jax.Laplace(1.7), oracles.laplace_gram, oracles.laplace_radial_derivative)
GAUSSIAN = radial(dnc_jax.Gaussian(1.3), oracles.gaussian_gram, oracles.gaussian_radial_derivative)
SMOOTH_LAPLACE, SHARP_LAPLACE = (
    radial(
        dnc_jax.Laplace(1.7, exponent),
        partial(oracles.laplace_gram, exponent=exponent),
        partial(oracles.laplace_radial_derivative, exponent=exponent),
    )
    for exponent in (1.4, 0.7)
)
POLYNOMIAL = dot_product(
    dnc_jax.Polynomial(3, 0.5, 0.7), kernel_oracles.polynomial, degree=3, offset=0.5, scale=0.7
)
NTK = dot_product(dnc_jax.NTK(2), kernel_oracles.ntk, depth=2, bias=0.0)
BIASED_NTK = dot_product(dnc_jax.NTK(3, 0.4), kernel_oracles.ntk, depth=3, bias=0.4)

# Kernels of the distance: invariant to translation, 1 at a point itself and below 1 elsewhere.
RADIAL = [
    pytest.param(LAPLACE, id="laplace"),
    pytest.param(GAUSSIAN, id="gaussian"),
    pytest.param(SMOOTH_LAPLACE, id="laplace_1.4"),
    pytest.param(SHARP_LAPLACE, id="laplace_0.7"),
]
# Every kernel: symmetric, positive semidefinite, invariant to rotation, with gradient terms.
KERNELS = [
    *RADIAL,
    pytest.param(POLYNOMIAL, id="polynomial"),
    pytest.param(NTK, id="ntk"),
    pytest.param(BIASED_NTK, id="ntk_with_bias"),
]
# One kernel of each kind, for what takes long to compile and treats members of a kind alike.
KINDS = [param for param in KERNELS if param.id in ("laplace", "gaussian", "polynomial", "ntk_with_bias")]

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
