"""The estimators are the fits of the library: options, weights, warm starts, scikit-learn tools, refusals."""

from itertools import islice

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dnc_jax import Gaussian, Laplace, Polynomial, by_max, fit_deep_rfm, fit_rfm, relu_features, rfm_iterates
from dnc_jax.estimators import DeepRFMClassifier, RFMClassifier, RFMRegressor
from dnc_jax.estimators.probabilities import nearest_probabilities

N, D = 40, 5


def regression(seed=0):
    x = np.random.default_rng(seed).normal(size=(N, D))
    return x, x[:, 0] * x[:, 1] + 0.1 * x[:, 2]


def classification():
    x, codes = make_blobs(N, D, centers=3, cluster_std=4.0, random_state=0)
    return x, np.array(["one", "three", "two"])[codes], codes


def deep(**options):
    return DeepRFMClassifier(**{"depth": 2, "width": 8, "random_state": 0} | options)


def test_a_bare_regressor_is_laplace_of_bandwidth_10_and_ridge_1e_3():
    x, y = regression()
    model = RFMRegressor().fit(x, y)
    options = {"ridge": 1e-3, "num_iters": 5, "rescale": by_max}
    rfm = fit_rfm(Laplace(10.0), jnp.asarray(x), jnp.asarray(y[:, None]), **options)
    np.testing.assert_allclose(model.predict(x), rfm(jnp.asarray(x))[:, 0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(model.feature_matrix_, rfm.feature_matrix, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(model.transform(x), x @ np.asarray(rfm.feature_root), rtol=1e-9, atol=1e-12)
    diagonal = np.diagonal(rfm.feature_matrix)
    np.testing.assert_allclose(model.feature_importances_, diagonal / diagonal.sum(), rtol=1e-9)
    assert list(model.get_feature_names_out()) == [f"rfmregressor{index}" for index in range(D)]
    assert model.history_ is None


def test_several_targets_are_fitted_together():
    x, y = regression()
    both = np.stack([y, x[:, 3]], axis=1)
    model = RFMRegressor(num_iters=1).fit(x, both)
    rfm = fit_rfm(Laplace(10.0), jnp.asarray(x), jnp.asarray(both), ridge=1e-3, num_iters=1, rescale=by_max)
    np.testing.assert_allclose(model.predict(x), rfm(jnp.asarray(x)), rtol=1e-9, atol=1e-12)


def test_a_classifier_fits_plus_and_minus_one():
    x, labels, codes = classification()
    model = RFMClassifier(num_iters=1).fit(x, labels)
    targets = jnp.asarray(2 * np.eye(3)[codes] - 1)
    rfm = fit_rfm(Laplace(10.0), jnp.asarray(x), targets, ridge=1e-3, num_iters=1, rescale=by_max)
    scores = np.asarray(rfm(jnp.asarray(x)))
    np.testing.assert_allclose(model.decision_function(x), scores, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(model.predict(x), model.classes_[scores.argmax(axis=1)])
    np.testing.assert_allclose(model.predict_proba(x), nearest_probabilities(scores), rtol=1e-9, atol=1e-12)
    numbered = RFMClassifier(num_iters=1).fit(x, 7 * codes)
    np.testing.assert_array_equal(numbered.predict(x), 7 * scores.argmax(axis=1))


def test_two_classes_have_one_score():
    x, _, codes = classification()
    model = RFMClassifier(num_iters=1).fit(x, codes == 1)
    scores, probabilities = model.decision_function(x), model.predict_proba(x)
    assert scores.shape == (N,)
    np.testing.assert_array_equal(model.predict(x), scores > 0)
    np.testing.assert_allclose(probabilities[:, 1], np.clip((1 + scores) / 2, 0, 1), rtol=0, atol=1e-12)


def test_deep_rfm_is_the_fit_of_the_library():
    x, labels, codes = classification()
    model = deep().fit(x, labels)
    key = jax.random.key(int(np.random.RandomState(0).randint(np.iinfo(np.int32).max)))
    options = {"ridge": 1e-3, "sample_features": lambda key, dim: relu_features(key, dim, 8)}
    targets = jnp.asarray(2 * np.eye(3)[codes] - 1)
    fitted = fit_deep_rfm(key, jnp.asarray(x), targets, depth=2, kernel=Laplace(2.0), **options)
    np.testing.assert_allclose(model.decision_function(x), fitted(jnp.asarray(x)), rtol=1e-7, atol=1e-9)
    first, last = fitted.layers
    np.testing.assert_allclose(model.transform(x), last(first(jnp.asarray(x))), rtol=1e-7, atol=1e-9)
    diagonal = np.diagonal(first.feature_matrix)
    np.testing.assert_allclose(model.feature_importances_, diagonal / diagonal.sum(), rtol=1e-7)
    assert list(model.get_feature_names_out())[-1] == "deeprfmclassifier7"


def test_probabilities_are_the_nearest_of_a_simplex():
    scores = np.random.default_rng(0).normal(size=(20, 4))
    found = nearest_probabilities(scores)
    for row, probabilities in zip((scores + 1) / 2, found, strict=True):
        low, high = row.min() - 1, row.max()
        for _ in range(80):  # the shift t with sum max(v - t, 0) = 1, by bisection
            middle = (low + high) / 2
            low, high = (middle, high) if np.maximum(row - middle, 0).sum() > 1 else (low, middle)
        np.testing.assert_allclose(probabilities, np.maximum(row - low, 0), atol=1e-12)
    of_a_distribution = np.array([[0.2, 0.5, 0.3]])
    np.testing.assert_allclose(
        nearest_probabilities(2 * of_a_distribution - 1), of_a_distribution, atol=1e-15
    )


@pytest.mark.parametrize(
    "options",
    [
        {"kernel": "gaussian"},
        {"kernel": "ntk"},
        {"kernel": "polynomial"},
        {"bandwidth": 3.0},
        {"ridge": 1e-1},
        {"num_iters": 1},
        {"centered": True},
        {"diagonal": True},
        {"rescale": None},
        {"rescale": "trace"},
        {"power": 0.5},
        {"adapt_bandwidth": True},
        {"agop_size": 10},
        {"validation_fraction": 0.25},
        {"scaling": "standard"},
        {"scaling": "unit_rows"},
    ],
    ids=str,
)
def test_every_option_changes_the_regression(options):
    x, y = regression()
    base = {"num_iters": 2, "random_state": 0}
    predictions = RFMRegressor(**base).fit(x, y).predict(x)
    changed = RFMRegressor(**base | options).fit(x, y).predict(x)
    assert np.abs(predictions - changed).max() > 1e-6


@pytest.mark.parametrize(
    "options",
    [
        {"kernel": Gaussian(2.0)},
        {"bandwidth": 3.0},
        {"ridge": 1e-1},
        {"depth": 1},
        {"width": 9},
        {"num_iters": 2},
        {"features": "laplace_fourier", "feature_bandwidth": 1.0},
        {"features": "gaussian_fourier", "feature_bandwidth": 1.0},
        {"scaling": "standard"},
        {"random_state": 1},
    ],
    ids=str,
)
def test_every_option_changes_deep_rfm(options):
    x, labels, _ = classification()
    scores = deep().fit(x, labels).decision_function(x)
    changed = deep(**options).fit(x, labels).decision_function(x)
    assert np.abs(scores - changed).max() > 1e-6


def test_one_seed_draws_one_subset():
    x, y = regression()
    one, same, other = (
        RFMRegressor(num_iters=1, agop_size=10, random_state=seed).fit(x, y).predict(x) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1e-6


def test_a_kernel_object_is_its_name():
    x, y = regression()
    named = RFMRegressor(kernel="polynomial", num_iters=1).fit(x, y)
    given = RFMRegressor(kernel=Polynomial(2), num_iters=1).fit(x, y)
    np.testing.assert_array_equal(named.predict(x), given.predict(x))


def test_held_out_rows_choose_the_iteration():
    x, y = regression()
    model = RFMRegressor(num_iters=4, validation_fraction=0.25, random_state=0).fit(x, y)
    errors = model.history_.validation_errors
    assert errors.shape == (5,)
    assert model.history_.best == errors.argmin()
    np.testing.assert_array_equal(model.feature_matrix_, model.history_.feature_matrices[errors.argmin()])
    assert model.rfm_.machine.centers.shape == (30, D)
    rising = RFMRegressor(num_iters=4, validation_fraction=0.25, random_state=0, ridge=1e3, patience=1)
    stopped = rising.fit(x, y).history_
    assert stopped.validation_errors.shape[0] == min(stopped.best + 2, 5)


def test_weights_count_rows():
    x, y = regression()
    weights = np.arange(N) % 3
    options = {"num_iters": 1, "scaling": "standard"}
    weighted = RFMRegressor(**options).fit(x, y, sample_weight=weights)
    repeated = RFMRegressor(**options).fit(np.repeat(x, weights, axis=0), np.repeat(y, weights))
    np.testing.assert_allclose(weighted.predict(x), repeated.predict(x), rtol=1e-8, atol=1e-10)
    assert np.abs(weighted.predict(x) - RFMRegressor(**options).fit(x, y).predict(x)).max() > 1e-3


def test_a_class_of_weight_zero_is_left_out():
    x, labels, codes = classification()
    model = RFMClassifier(num_iters=1).fit(x, labels, sample_weight=(codes != 1).astype(float))
    assert list(model.classes_) == ["one", "two"]


def test_a_warm_start_goes_on_from_the_learned_matrix():
    x, y = regression()
    model = RFMRegressor(num_iters=2, warm_start=True).fit(x, y)
    learned = model.feature_matrix_
    model.set_params(num_iters=1).fit(x, y)
    whole = RFMRegressor(num_iters=3).fit(x, y)
    np.testing.assert_allclose(model.predict(x), whole.predict(x), rtol=1e-8, atol=1e-10)
    model = RFMRegressor(num_iters=2, warm_start=True).fit(x, y)
    warm = model.set_params(bandwidth=4.0, ridge=1e-2, num_iters=1).fit(x, y)
    options = {"ridge": 1e-2, "rescale": by_max, "feature_matrix": jnp.asarray(learned)}
    iterates = rfm_iterates(Laplace(4.0), jnp.asarray(x), jnp.asarray(y[:, None]), **options)
    continued = next(islice(iterates, 1, None))
    np.testing.assert_allclose(warm.predict(x), continued(jnp.asarray(x))[:, 0], rtol=1e-8, atol=1e-10)
    cold = RFMRegressor(bandwidth=4.0, ridge=1e-2, num_iters=1).fit(x, y)
    assert np.abs(warm.predict(x) - cold.predict(x)).max() > 1e-3


def test_a_warm_start_without_updates_keeps_the_matrix():
    x, y = regression()
    model = RFMRegressor(num_iters=2, warm_start=True).fit(x, y)
    learned, before = model.feature_matrix_, model.predict(x)
    model.set_params(num_iters=0, ridge=1.0).fit(x, y)
    np.testing.assert_array_equal(model.feature_matrix_, learned)
    assert np.abs(model.predict(x) - before).max() > 1e-3


@pytest.mark.parametrize(
    "estimator", [RFMRegressor(num_iters=1), RFMClassifier(num_iters=1), deep()], ids=str
)
def test_the_dtype_follows_the_input(estimator):
    (x, y), (_, labels, _) = regression(), classification()
    y = y if isinstance(estimator, RFMRegressor) else labels
    whole, narrow = clone(estimator).fit(x, y), clone(estimator).fit(x.astype(np.float32), y)
    assert whole.transform(x).dtype == np.float64
    assert narrow.transform(x).dtype == np.float32
    single = narrow.transform(x)
    jax.config.update("jax_enable_x64", False)
    alone, alone_narrow = clone(estimator).fit(x, y), clone(estimator).fit(x.astype(np.float32), y)
    assert alone.transform(x).dtype == np.float64
    np.testing.assert_allclose(alone.transform(x), whole.transform(x), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(alone_narrow.transform(x), single, rtol=1e-3, atol=1e-4)
    assert jnp.ones(1).dtype == jnp.float32


def test_a_pipeline_is_searched_and_cross_validated():
    x, labels, codes = classification()
    pipeline = make_pipeline(StandardScaler(), RFMClassifier(num_iters=1))
    grid = {"rfmclassifier__bandwidth": [5.0, 10.0], "rfmclassifier__ridge": [1e-3, 1e-1]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(x, labels)
    assert search.best_score_ > 0.6
    assert cross_val_score(deep(), x, codes, cv=2).mean() > 0.6
    kernels = GridSearchCV(RFMClassifier(num_iters=1), {"kernel": ["laplace", Gaussian(5.0)]}, cv=2)
    assert kernels.fit(x, labels).best_score_ > 0.6


def test_a_clone_has_the_options_and_no_fit():
    x, y = regression()
    model = RFMRegressor(kernel=Gaussian(3.0), num_iters=1, warm_start=True).fit(x, y)
    copy = clone(model)
    assert copy.get_params() == model.get_params()
    assert not hasattr(copy, "rfm_")
