"""From labels to targets in {-1, +1}, and from predictions of these to decisions and probabilities."""

import numpy as np
from jaxtyping import Float, Int, Shaped
from sklearn.base import ClassifierMixin

from dnc_jax.estimators.inputs import ArrayLike, at_rows, predictions


def classes_and_targets(
    y: Shaped[np.ndarray, "n"], dtype: np.dtype
) -> tuple[Shaped[np.ndarray, "k"], Int[np.ndarray, "n"], Float[np.ndarray, "n k"]]:
    """Returns the classes, the index of each row's, and targets: +1 at it and -1 elsewhere.

    Raises:
        ValueError: If there is only one class.
    """
    classes, codes = np.unique(y, return_inverse=True)
    if classes.size < 2:
        raise ValueError(
            "This solver needs samples of at least 2 classes in the data, but the data contains only one "
            f"class: {classes[0]!r}"
        )
    return classes, codes, (2 * np.eye(classes.size, dtype=dtype) - 1)[codes]


def nearest_probabilities(scores: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
    """Returns the point of the simplex {p >= 0, sum p = 1} nearest to (scores + 1) / 2, row by row.

    That is max(v - t, 0), with t such that the sum is 1: the order of the classes is kept.

    References:
        Duchi, Shalev-Shwartz, Singer and Chandra (2008), Figure 1.
    """
    values = (scores + 1) / 2
    falling = -np.sort(-values, axis=1)
    excess = np.cumsum(falling, axis=1) - 1
    counts = np.arange(1, values.shape[1] + 1, dtype=values.dtype)
    num_positive = np.sum(falling * counts > excess, axis=1)
    shift = excess[np.arange(len(values)), num_positive - 1] / num_positive.astype(values.dtype)
    return np.maximum(values - shift[:, None], 0)


class ScoresMixin(ClassifierMixin):
    """Decisions of a classifier whose attribute `_fitted` is a machine that estimates targets in {-1, +1}."""

    _fitted: str
    classes_: Shaped[np.ndarray, "k"]

    def decision_function(self, X: ArrayLike) -> Float[np.ndarray, "n"] | Float[np.ndarray, "n k"]:
        """Returns the estimates of the targets, of two classes (second - first) / 2 alone."""
        outputs = at_rows(predictions, self, self._fitted, X)
        return (outputs[:, 1] - outputs[:, 0]) / 2 if self.classes_.size == 2 else outputs

    def predict(self, X: ArrayLike) -> Shaped[np.ndarray, "n"]:
        """Returns the class of the largest estimate."""
        scores = self.decision_function(X)
        return self.classes_[(scores > 0).astype(int) if scores.ndim == 1 else np.argmax(scores, axis=1)]

    def predict_proba(self, X: ArrayLike) -> Float[np.ndarray, "n k"]:
        """Returns probabilities: (decision + 1) / 2, moved to the nearest point of the simplex.

        Least squares on targets in {-1, +1} estimates 2 P(class | x) - 1. Where the estimates are those of a
        distribution nothing is moved. A softmax of them would give the larger of two classes at most 0.88.
        """
        scores = self.decision_function(X)
        return nearest_probabilities(np.stack([-scores, scores], axis=1) if scores.ndim == 1 else scores)
