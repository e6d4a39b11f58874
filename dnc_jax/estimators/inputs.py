"""What users pass and get: precision, rows, sample weights, and options by name."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from numbers import Real
from typing import Any, TypeAlias, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, Shaped
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from dnc_jax.deep_rfm import DeepRFM
from dnc_jax.estimators.scaling import Scaler
from dnc_jax.kernels import NTK, Gaussian, Kernel, Laplace, Polynomial
from dnc_jax.rfm import RFM
from dnc_jax.rfm_steps import Rescale, by_max, by_trace

Tree = TypeVar("Tree", bound=PyTree)

ArrayLike: TypeAlias = Any
"""What scikit-learn takes for rows, labels or weights: arrays, lists, data frames; checked when used."""

FLOATS = [np.float64, np.float32]
"""The dtypes that are kept; others become the first."""

WITH_BANDWIDTH = {"laplace": Laplace, "gaussian": Gaussian}
WITHOUT_BANDWIDTH = {"ntk": partial(NTK, 1), "polynomial": partial(Polynomial, 2)}
RESCALES = {"max": by_max, "trace": by_trace, None: None}


def precision(dtype: np.dtype) -> AbstractContextManager:
    """Returns the context of a computation in dtype: with 64 bits in this thread where it is float64."""
    return jax.enable_x64(True) if dtype == np.float64 else nullcontext()


def to_numpy(tree: Tree, dtype: np.dtype) -> Tree:
    """Returns the tree with numpy arrays of dtype as leaves, whatever precision JAX is set to."""
    return jax.tree.map(lambda leaf: np.asarray(leaf, dtype), tree)


def key_from(random: np.random.RandomState) -> PRNGKeyArray:
    """Returns a key drawn from scikit-learn's kind of randomness."""
    return jax.random.key(int(random.randint(np.iinfo(np.int32).max)))


def training_data(
    estimator: ArrayLike, rows: ArrayLike, targets: ArrayLike, *, is_numeric: bool = False
) -> tuple[Shaped[np.ndarray, "n d"], Shaped[np.ndarray, "n ..."]]:
    """Returns x in float64 or float32 and y, checked; numeric targets may have several columns.

    Raises:
        ValueError: If there are fewer than two rows, or x or y holds what no fit can use.
    """
    options = {"dtype": FLOATS, "multi_output": is_numeric, "y_numeric": is_numeric, "ensure_min_samples": 2}
    x, y = validate_data(estimator, rows, targets, **options)
    return np.asarray(x), np.asarray(y)


def at_rows(
    fn: Callable[..., Float[Array, "n p"]], estimator: ArrayLike, fitted: str, rows: ArrayLike
) -> Float[np.ndarray, "n p"]:
    """Returns fn(scaler, fitted, x) for an attribute of a fitted estimator, in the dtype it was fitted in."""
    check_is_fitted(estimator)
    learned = getattr(estimator, fitted)
    dtype = jax.tree.leaves(learned)[0].dtype
    x = validate_data(estimator, rows, dtype=dtype, reset=False)
    with precision(dtype):
        return np.asarray(fn(estimator.scaler_, learned, jnp.asarray(x)))


@jax.jit
def predictions(scaler: Scaler, model: RFM | DeepRFM, x: Float[Array, "n d"]) -> Float[Array, "n c"]:
    """Returns what a machine predicts at the scaled rows of x."""
    return model(scaler(x))


def importances(matrix: Float[np.ndarray, "..."]) -> Float[np.ndarray, "d"]:
    """Returns the diagonal of M, or M where it is one, divided by its sum."""
    diagonal = matrix if matrix.ndim == 1 else np.diagonal(matrix)
    return diagonal / diagonal.sum()


def kernel_of(kernel: object, bandwidth: object, default: float) -> Kernel:
    """Returns the kernel of a name and a bandwidth, or the kernel itself.

    Raises:
        ValueError: If there is no such kernel, or a bandwidth other than the default cannot matter.
    """
    if isinstance(kernel, str) and kernel in WITH_BANDWIDTH:
        if isinstance(bandwidth, bool) or not isinstance(bandwidth, Real):
            raise ValueError(f"bandwidth must be a positive number: got {bandwidth!r}")
        return WITH_BANDWIDTH[kernel](bandwidth)
    if isinstance(bandwidth, str) or bandwidth != default:
        _check_known(kernel)
        raise ValueError(
            f"bandwidth is that of the kernels 'laplace' and 'gaussian', and cannot matter for {kernel!r}: "
            f"got {bandwidth!r}; leave it at {default}, or give the kernel object its own"
        )
    _check_known(kernel)
    return WITHOUT_BANDWIDTH[kernel]() if isinstance(kernel, str) else cast("Kernel", kernel)


def _check_known(kernel: object) -> None:
    names = [*WITH_BANDWIDTH, *WITHOUT_BANDWIDTH]
    is_object = isinstance(kernel, Kernel) and not isinstance(kernel, type)
    if not is_object and kernel not in names:
        raise ValueError(f"kernel must be one of {names} or a kernel such as Laplace(10.0): got {kernel!r}")


def rescale_of(name: object) -> Rescale | None:
    """Returns the function that gives M another scale, by name.

    Raises:
        ValueError: If there is no such name.
    """
    if not isinstance(name, str | None) or name not in RESCALES:
        raise ValueError(f"rescale must be one of {list(RESCALES)}: got {name!r}")
    return RESCALES[name]


def weighted_rows(
    x: Shaped[np.ndarray, "n d"], y: Shaped[np.ndarray, "n ..."], sample_weight: ArrayLike
) -> tuple[Shaped[np.ndarray, "r d"], Shaped[np.ndarray, "r ..."], Shaped[np.ndarray, "r"] | None]:
    """Returns the rows of positive weight, and their weights in the dtype of x; None counts all alike.

    Raises:
        ValueError: If weights are negative, not finite, of another number, or fewer than two are positive.
    """
    if sample_weight is None:
        return x, y, None
    weights = _check_sample_weight(sample_weight, x, dtype=x.dtype, ensure_non_negative=True)
    kept = weights > 0
    if not kept.any():
        raise ValueError("Sample weights must contain at least one non-zero number.")
    if kept.sum() == 1:
        raise ValueError(
            f"Found {x.shape[0]} samples, of which 1 sample has a weight above 0, while a minimum of 2 is "
            "required."
        )
    return x[kept], y[kept], weights[kept]
