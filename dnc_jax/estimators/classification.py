"""Classification by recursive feature machines."""

from typing import Self

from sklearn.utils.multiclass import check_classification_targets

from dnc_jax.estimators.inputs import ArrayLike, training_data, weighted_rows
from dnc_jax.estimators.learner import RFMLearner
from dnc_jax.estimators.probabilities import ScoresMixin, classes_and_targets
from dnc_jax.rfm_selection import misclassification


class RFMClassifier(ScoresMixin, RFMLearner):
    """A recursive feature machine on one output per class, +1 for rows of the class and -1 for others.

    Labels are integers or strings. The options are those of `RFMRegressor`; with `validation_fraction` rows
    of every class are held out alike, and the error is the share of them that is misclassified.

    Attributes:
        classes_: The labels, sorted, of rows whose weight is not 0.
        rfm_: The `RFM`, with numpy arrays; `scaler_` comes before it.
        feature_matrix_: M, (d, d) or its diagonal (d,).
        feature_importances_: The diagonal of M, divided by its sum.
        history_: `RFMHistory` where rows are held out, else None.
    """

    _fitted = "rfm_"

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike = None) -> Self:
        """Fits the machine, with weights of rows as in `RFMRegressor.fit`.

        Raises:
            ValueError: If an argument or option is out of range, or there is one class only.
            FitError: If a system is singular in the dtype of X, or an AGOP is 0.
        """
        x, y = training_data(self, X, y)
        check_classification_targets(y)
        x, y, weights = weighted_rows(x, y, sample_weight)
        self.classes_, codes, targets = classes_and_targets(y, x.dtype)
        return self._learn(x, targets, weights, misclassification, codes)
