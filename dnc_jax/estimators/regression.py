"""Regression by recursive feature machines."""

from typing import Self

import numpy as np
from jaxtyping import Float
from sklearn.base import RegressorMixin
from sklearn.utils import Tags

from dnc_jax.estimators.inputs import ArrayLike, at_rows, predictions, training_data, weighted_rows
from dnc_jax.estimators.learner import RFMLearner
from dnc_jax.rfm_selection import mean_squared_error


class RFMRegressor(RegressorMixin, RFMLearner):
    """Kernel ridge regression on x @ M^(1/2), with M learned from its AGOP, for one target or several.

    `fit_rfm` is the function behind it. No intercept and no scaling of targets: center targets that are far
    from 0 (`TransformedTargetRegressor`), or use `scaling` for x.

    Args:
        kernel: "laplace", "gaussian", "ntk" (depth 1), "polynomial" (degree 2), or a kernel of dnc_jax.
        bandwidth: Of "laplace" and "gaussian"; with any other kernel it cannot matter, and a value other
            than the default is refused.
        ridge: Added to the diagonal of the Gram matrix, not multiplied by the number of rows.
        num_iters: AGOP updates of M; 0 is the plain kernel.
        centered: Subtract the mean gradient of each output first.
        diagonal: Learn only the diagonal of M.
        rescale: Divide M by its largest entry ("max") or its trace ("trace") after each update, so that the
            units of y do not matter; None keeps the mean over rows.
        power: M is AGOP^power.
        adapt_bandwidth: Multiply the bandwidth by the median distance of the points x @ M^(1/2) before each
            fit; choose a bandwidth of about 1 then.
        agop_size: Rows whose gradients enter each AGOP, drawn anew for each; None takes all.
        validation_fraction: Share of the rows that is held out of the fit to choose the iteration of the
            lowest error; None holds out none, and takes the last iteration. The errors are not weighted.
        patience: Updates without a lower held-out error that end the fit; None makes all of them.
        scaling: "standard" (columns of mean 0 and variance 1), "unit_rows" or None.
        warm_start: A fit after another one starts from the M learned there instead of the identity, and
            updates it num_iters times more. M stays as it is with num_iters=0: one M, many bandwidths and
            ridges.
        random_state: Seeds held-out rows, subsets of rows and nothing else.

    Attributes:
        rfm_: The `RFM`, with numpy arrays; `scaler_` comes before it.
        feature_matrix_: M, (d, d) or its diagonal (d,).
        feature_importances_: The diagonal of M, divided by its sum.
        history_: `RFMHistory` where rows are held out, else None.
    """

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike = None) -> Self:
        """Fits the machine: minimizes sum_i s_i |f(x_i) - y_i|^2 + ridge |f|^2, and weighs the AGOP by s too.

        A row of weight 2 counts as two, one of weight 0 is left out.

        Raises:
            ValueError: If an argument or option is out of range.
            FitError: If a system is singular in the dtype of X, or an AGOP is 0.
        """
        x, y = training_data(self, X, y, is_numeric=True)
        x, targets, weights = weighted_rows(x, y.astype(x.dtype), sample_weight)
        self.is_single_output_ = targets.ndim == 1
        return self._learn(x, targets.reshape(len(targets), -1), weights, mean_squared_error)

    def predict(self, X: ArrayLike) -> Float[np.ndarray, "n"] | Float[np.ndarray, "n c"]:
        """Returns the predictions, a vector if the targets were one."""
        outputs = at_rows(predictions, self, "rfm_", X)
        return outputs[:, 0] if self.is_single_output_ else outputs

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
