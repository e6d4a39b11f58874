"""Classification by Deep RFM."""

from collections.abc import Callable
from functools import partial
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from dnc_jax.deep_rfm import DeepRFM, fit_deep_rfm
from dnc_jax.estimators.inputs import (
    ArrayLike,
    at_rows,
    importances,
    kernel_of,
    key_from,
    precision,
    to_numpy,
    training_data,
)
from dnc_jax.estimators.probabilities import ScoresMixin, classes_and_targets
from dnc_jax.estimators.saving import SavableEstimator
from dnc_jax.estimators.scaling import Scaler, fit_scaler, scaled
from dnc_jax.features import (
    gaussian_fourier_features,
    laplace_fourier_features,
    product_laplace_fourier_features,
    relu_features,
)
from dnc_jax.kernels import Kernel
from dnc_jax.types import FeatureSampler

BANDWIDTH = 2.0
FOURIER: dict[str, Callable[..., Callable]] = {
    "gaussian_fourier": gaussian_fourier_features,
    "laplace_fourier": laplace_fourier_features,
    "product_laplace_fourier": product_laplace_fourier_features,
}


class DeepRFMClassifier(ScoresMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, SavableEstimator):
    """Deep RFM: layers of a kernel machine, its AGOP M, and random features of M^(1/2) x.

    `fit_deep_rfm` is the function behind it; every layer scales its rows to unit norm. It predicts with the
    machine of the last layer. Fits take no weights of rows.

    Args:
        kernel: "laplace", "gaussian", "ntk" (depth 1), "polynomial" (degree 2), or a kernel of dnc_jax.
        bandwidth: Of "laplace" and "gaussian"; with any other kernel it cannot matter, and a value other
            than the default is refused.
        ridge: Added to the diagonal of the Gram matrix, not multiplied by the number of rows.
        depth: Layers.
        width: Random features per layer.
        num_iters: AGOP updates of M in each layer.
        features: "relu", "gaussian_fourier", "laplace_fourier" or "product_laplace_fourier".
        feature_bandwidth: Of the Fourier features, which need it; None for "relu".
        scaling: "standard" (columns of mean 0 and variance 1) or None.
        random_state: Seeds the random features.

    Attributes:
        classes_: The labels, sorted.
        deep_rfm_: The `DeepRFM`, with numpy arrays; `scaler_` comes before it.
        feature_importances_: The diagonal of M of the first layer, divided by its sum.
    """

    _fitted = "deep_rfm_"

    def __init__(
        self,
        kernel: str | Kernel = "laplace",
        *,
        bandwidth: float = BANDWIDTH,
        ridge: float = 1e-3,
        depth: int = 3,
        width: int = 512,
        num_iters: int = 1,
        features: str = "relu",
        feature_bandwidth: float | None = None,
        scaling: str | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.kernel = kernel
        self.bandwidth = bandwidth
        self.ridge = ridge
        self.depth = depth
        self.width = width
        self.num_iters = num_iters
        self.features = features
        self.feature_bandwidth = feature_bandwidth
        self.scaling = scaling
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Fits the layers, each on what the one before passes on.

        Raises:
            ValueError: If an argument or option is out of range, or there is one class only.
            FitError: If a system is singular in the dtype of X, or an AGOP is 0.
        """
        x, y = training_data(self, X, y)
        check_classification_targets(y)
        if x.shape[1] == 1:
            raise ValueError(
                "X must have 2 columns or more: got n_features=1; layers scale rows to unit norm, which "
                "leaves no more than a sign of one column"
            )
        self.classes_, _, targets = classes_and_targets(y, x.dtype)
        scaler = fit_scaler(self.scaling, x, allowed=(None, "standard"))
        with precision(x.dtype):
            deep = fit_deep_rfm(
                key_from(check_random_state(self.random_state)),
                jnp.asarray(scaled(scaler, x)),
                jnp.asarray(targets),
                depth=self.depth,
                kernel=kernel_of(self.kernel, self.bandwidth, BANDWIDTH),
                ridge=self.ridge,
                sample_features=self._sampler(),
                num_iters=self.num_iters,
            )
            self.scaler_, self.deep_rfm_ = scaler, to_numpy(deep, x.dtype)
        return self

    def transform(self, X: ArrayLike) -> Float[np.ndarray, "n p"]:
        """Returns what the last layer would pass on: phi(M^(1/2) x) of its unit rows."""
        return at_rows(_features, self, "deep_rfm_", X)

    @property
    def feature_importances_(self) -> Float[np.ndarray, "d"]:
        """The diagonal of M of the first layer, divided by its sum."""
        check_is_fitted(self)
        return importances(np.asarray(self.deep_rfm_.layers[0].feature_matrix))

    @property
    def _n_features_out(self) -> int:
        return self.width

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _sampler(self) -> FeatureSampler:
        name, bandwidth = self.features, self.feature_bandwidth
        if name == "relu" and bandwidth is None:
            return partial(relu_features, width=self.width)
        if name in FOURIER and bandwidth is not None:
            return partial(FOURIER[name], width=self.width, bandwidth=bandwidth)
        raise ValueError(
            f"features must be 'relu', without a feature_bandwidth, or one of {list(FOURIER)}, with one: got "
            f"{name!r} and {bandwidth!r}"
        )


@jax.jit
def _features(scaler: Scaler, deep: DeepRFM, x: Float[Array, "n d"]) -> Float[Array, "n p"]:
    x = scaler(x)
    for layer in deep.layers:
        x = layer(x)
    return x
