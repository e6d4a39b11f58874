"""Recursive feature machines as scikit-learn estimators: the optional extra `estimators`.

    from dnc_jax.estimators import RFMClassifier

    RFMClassifier(bandwidth=5.0).fit(x, labels).score(other_x, other_labels)

Numpy in, numpy out. The dtype follows the input: float32 stays float32, float64 is computed in float64 also
where JAX has 64 bits switched off (they are switched on within the call, for this thread only), anything
else becomes float64.
"""

from dnc_jax.estimators.classification import RFMClassifier
from dnc_jax.estimators.deep import DeepRFMClassifier
from dnc_jax.estimators.regression import RFMRegressor

__all__ = ["DeepRFMClassifier", "RFMClassifier", "RFMRegressor"]
