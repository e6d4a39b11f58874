"""What the regressor and the classifier share: options, the fit, features, importances."""

from functools import partial
from numbers import Integral, Real
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, Shaped
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.model_selection import train_test_split
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted

from dnc_jax.estimators.inputs import (
    ArrayLike,
    at_rows,
    importances,
    kernel_of,
    key_from,
    precision,
    rescale_of,
    to_numpy,
)
from dnc_jax.estimators.saving import SavableEstimator
from dnc_jax.estimators.scaling import Scaler, fit_scaler, scaled
from dnc_jax.kernels import Gaussian, Kernel, Laplace, median_scaled
from dnc_jax.rfm import RFM, fit_rfm, rfm_iterates
from dnc_jax.rfm_selection import HeldOut, PredictionError, RFMHistory, Rows, select_rfm
from dnc_jax.rfm_steps import AdaptKernel, apply_root

BANDWIDTH = 10.0
# Rows beyond which the median distance is that of a random subset.
MEDIAN_POINTS = 1000


class RFMLearner(ClassNamePrefixFeaturesOutMixin, TransformerMixin, SavableEstimator):
    """The options of `RFMRegressor` and `RFMClassifier`, and what does not depend on what is predicted."""

    _fitted = "rfm_"
    rfm_: RFM
    n_features_in_: int

    def __init__(
        self,
        kernel: str | Kernel = "laplace",
        *,
        bandwidth: float = BANDWIDTH,
        ridge: float = 1e-3,
        num_iters: int = 5,
        centered: bool = False,
        diagonal: bool = False,
        rescale: str | None = "max",
        power: float = 1.0,
        adapt_bandwidth: bool = False,
        agop_size: int | None = None,
        validation_fraction: float | None = None,
        patience: int | None = None,
        scaling: str | None = None,
        warm_start: bool = False,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.kernel = kernel
        self.bandwidth = bandwidth
        self.ridge = ridge
        self.num_iters = num_iters
        self.centered = centered
        self.diagonal = diagonal
        self.rescale = rescale
        self.power = power
        self.adapt_bandwidth = adapt_bandwidth
        self.agop_size = agop_size
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.scaling = scaling
        self.warm_start = warm_start
        self.random_state = random_state

    def transform(self, X: ArrayLike) -> Float[np.ndarray, "n d"]:
        """Returns the learned features: the scaled x @ M^(1/2), whose distances the kernel sees."""
        return at_rows(_features, self, "rfm_", X)

    @property
    def feature_matrix_(self) -> Float[np.ndarray, "d d"] | Float[np.ndarray, "d"]:
        """The learned M, or its diagonal."""
        check_is_fitted(self)
        return np.asarray(self.rfm_.feature_matrix)

    @property
    def feature_importances_(self) -> Float[np.ndarray, "d"]:
        """The diagonal of M, divided by its sum."""
        return importances(self.feature_matrix_)

    @property
    def _n_features_out(self) -> int:
        return self.n_features_in_

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _learn(
        self,
        x: Float[np.ndarray, "n d"],
        targets: Float[np.ndarray, "n c"],
        weights: Float[np.ndarray, "n"] | None,
        error: PredictionError,
        labels: Shaped[np.ndarray, "n"] | None = None,
    ) -> Self:
        """Fits `scaler_` and `rfm_`, and `history_` where rows are held out."""
        random = check_random_state(self.random_state)
        train, held_out = self._split(x.shape[0], labels, random)
        weights = None if weights is None else weights[train]
        scaler = fit_scaler(self.scaling, x[train], weights)
        with precision(x.dtype):
            points = scaled(scaler, x)
            rows = jnp.asarray(points[train]), jnp.asarray(targets[train])
            others = jnp.asarray(points[held_out]), jnp.asarray(targets[held_out])
            options = self._options(train.size, random)
            if weights is not None:
                options["sample_weights"] = jnp.asarray(weights)
            if self.warm_start and hasattr(self, "rfm_"):
                options["feature_matrix"] = jnp.asarray(self._start(x))
            rfm, history = self._best(options, rows, others, error)
        self.scaler_, self.rfm_, self.history_ = scaler, to_numpy(rfm, x.dtype), history
        return self

    def _best(
        self, options: dict[str, Any], rows: Rows, others: HeldOut, error: PredictionError
    ) -> tuple[RFM, RFMHistory | None]:
        """Returns the last machine, or with rows held out the best on these, and the history."""
        num_iters, patience = self.num_iters, self.patience
        if not isinstance(num_iters, Integral) or num_iters < 0:
            raise ValueError(
                f"num_iters must be a whole number of at least 0 AGOP updates: got {num_iters!r}"
            )
        if self.validation_fraction is None:
            if patience is not None:
                raise ValueError(
                    f"patience counts errors on held-out rows: got patience {patience} without any; set "
                    "validation_fraction"
                )
            return fit_rfm(x=rows[0], targets=rows[1], num_iters=int(num_iters), **options), None
        iterates = rfm_iterates(x=rows[0], targets=rows[1], **options)
        rfm, history = select_rfm(
            iterates, rows, num_iters=num_iters, validation=others, patience=patience, error=error
        )
        return rfm, to_numpy(history, rows[0].dtype)._replace(best=history.best)

    def _options(self, num_rows: int, random: np.random.RandomState) -> dict[str, Any]:
        """Returns the options of `fit_rfm` and of `rfm_iterates`."""
        self._check_options()
        return {
            "kernel": kernel_of(self.kernel, self.bandwidth, BANDWIDTH),
            "ridge": self.ridge,
            "centered": self.centered,
            "diagonal": self.diagonal,
            "rescale": rescale_of(self.rescale),
            "power": self.power,
            "adapt_kernel": self._adapt_kernel(num_rows, random),
            "agop_size": self.agop_size,
            "key": None if self.agop_size is None else key_from(random),
        }

    def _check_options(self) -> None:
        for name in ("centered", "diagonal", "adapt_bandwidth", "warm_start"):
            if not isinstance(getattr(self, name), bool | np.bool):
                raise ValueError(f"{name} must be True or False: got {getattr(self, name)!r}")
        for name in ("ridge", "power"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Real):
                raise ValueError(f"{name} must be a number: got {value!r}")
        if self.patience is not None and not isinstance(self.patience, Integral):
            raise ValueError(f"patience must be a whole number of updates, or None: got {self.patience!r}")

    def _adapt_kernel(self, num_rows: int, random: np.random.RandomState) -> AdaptKernel | None:
        if not self.adapt_bandwidth:
            return None
        return _adapted if num_rows <= MEDIAN_POINTS else partial(_adapted, key=key_from(random))

    def _split(
        self, num_rows: int, labels: Shaped[np.ndarray, "n"] | None, random: np.random.RandomState
    ) -> tuple[Int[np.ndarray, "t"], Int[np.ndarray, "v"]]:
        """Returns the rows to fit on and the rows held out, of every class alike."""
        rows = np.arange(num_rows)
        if self.validation_fraction is None:
            return rows, rows[:0]
        fraction = self.validation_fraction
        if isinstance(fraction, bool) or not isinstance(fraction, Real) or not 0 < fraction < 1:
            raise ValueError(
                f"validation_fraction must be a number between 0 and 1, or None: got {fraction!r}"
            )
        train, held_out = train_test_split(rows, test_size=fraction, stratify=labels, random_state=random)
        return np.sort(train), np.sort(held_out)

    def _start(self, x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "..."]:
        """Returns the M of the fit before, to go on from."""
        matrix, num_columns = self.feature_matrix_, x.shape[1]
        shape = (num_columns,) if self.diagonal else (num_columns, num_columns)
        if matrix.shape != shape:
            raise ValueError(
                f"warm_start goes on from M of shape {matrix.shape}, but now M has shape {shape}; set "
                "warm_start=False or fit a clone"
            )
        return matrix.astype(x.dtype)


@jax.jit
def _features(scaler: Scaler, rfm: RFM, x: Float[Array, "n d"]) -> Float[Array, "n d"]:
    return apply_root(scaler(x), rfm.feature_root)


def _adapted(kernel: Kernel, x: Float[Array, "n d"], key: PRNGKeyArray | None = None) -> Kernel:
    if not isinstance(kernel, Laplace | Gaussian):
        raise ValueError(
            f"adapt_bandwidth multiplies the bandwidth of a Laplace or Gaussian kernel: got {kernel!r}"
        )
    return median_scaled(kernel, x, max_points=MEDIAN_POINTS, key=key)
