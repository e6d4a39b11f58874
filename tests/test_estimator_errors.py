"""What estimators refuse, in words that name the option."""

import numpy as np
import pytest

from dnc_jax import Gaussian, Laplace
from dnc_jax.estimators import RFMClassifier, RFMRegressor
from tests.builders import as_a_user
from tests.test_estimators import D, N, classification, deep, regression


def refused(match, estimator, x=None, y=None, **fit_options):
    rows, targets = regression()
    if not isinstance(estimator, RFMRegressor):
        targets = classification()[1]
    with as_a_user(), pytest.raises(ValueError, match=match):
        estimator.fit(rows if x is None else x, targets if y is None else y, **fit_options)


def test_options_that_no_fit_can_use_are_refused():
    refused(r"kernel must be one of \['laplace'.*got 'rbf'", RFMRegressor("rbf"))
    refused(
        r"kernel must be one of .* or a kernel such as Laplace\(10.0\): got <class", RFMRegressor(Laplace)
    )
    refused(r"bandwidth .* cannot matter for 'ntk': got 3.0; leave", RFMRegressor("ntk", bandwidth=3.0))
    refused(r"cannot matter for Gaussian.*: got 3.0", deep(kernel=Gaussian(1.0), bandwidth=3.0))
    refused(r"rescale must be one of \['max', 'trace', None\]: got 'mean'", RFMRegressor(rescale="mean"))
    refused(r"scaling must be one of .*: got 'minmax'", RFMRegressor(scaling="minmax"))
    refused(r"scaling must be one of \[None, 'standard'\]: got 'unit_rows'", deep(scaling="unit_rows"))
    refused(r"num_iters must be a whole number of at least 0", RFMRegressor(num_iters=-1))
    refused(r"centered must be True or False: got 'no'", RFMRegressor(centered="no"))
    refused(r"diagonal must be True or False: got 1", RFMRegressor(diagonal=1))
    refused(r"ridge must be a number: got 'a'", RFMRegressor(ridge="a"))
    refused(r"power must be a positive finite number: got 0.0", RFMRegressor(power=0.0))
    refused(r"bandwidth must be a positive number: got 'auto'", RFMRegressor(bandwidth="auto"))
    refused(r"patience must be a whole number", RFMRegressor(validation_fraction=0.2, patience=1.5))
    refused(r"patience counts errors on held-out rows: got patience 2", RFMRegressor(patience=2))
    refused(r"validation_fraction must be a number between 0 and 1", RFMRegressor(validation_fraction=1.5))
    refused(r"adapt_bandwidth multiplies .*: got NTK", RFMRegressor("ntk", adapt_bandwidth=True))
    refused(r"features must be 'relu', without .* got 'relu' and 1.0", deep(feature_bandwidth=1.0))
    refused(
        r"features must be .*, with one: got 'gaussian_fourier' and None", deep(features="gaussian_fourier")
    )


def test_data_that_no_fit_can_use_is_refused():
    refused(r"Found array with 1 sample\(s\)", RFMRegressor(), x=np.ones((1, D)), y=[1.0])
    one_class = r"needs samples of at least 2 classes in the data, but the data contains only one class"
    refused(one_class, RFMClassifier(), y=np.ones(N, int))
    refused(one_class, deep(), y=np.ones(N, int))
    negative = np.where(np.arange(N) == 0, -1.0, 1.0)
    refused(r"Negative values in data passed to `sample_weight`", RFMRegressor(), sample_weight=negative)
    refused(r"at least one non-zero number", RFMRegressor(), sample_weight=np.zeros(N))
    alone = (np.arange(N) == 3).astype(float)
    refused(r"Found 40 samples, of which 1 sample has a weight above 0", RFMRegressor(), sample_weight=alone)
    warm = RFMRegressor(num_iters=0, warm_start=True).fit(*regression()).set_params(diagonal=True)
    refused(r"warm_start goes on from M of shape \(5, 5\), but now M has shape \(5,\)", warm)
