"""The estimators pass the whole check suite of scikit-learn: every check, under x64, none excepted."""

from collections.abc import Iterator

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from dnc_jax.estimators import DeepRFMClassifier, RFMClassifier, RFMRegressor
from tests.builders import as_a_user

# JAX compiles for every new shape, of which the suite has many: the smallest instances that learn an M.
INSTANCES = [
    RFMRegressor(num_iters=1),
    RFMClassifier(num_iters=1),
    DeepRFMClassifier(depth=1, width=8, random_state=0),
]


@pytest.fixture(autouse=True)
def the_messages_of_a_user() -> Iterator[None]:
    with as_a_user():
        yield


@parametrize_with_checks(INSTANCES)
def test_the_suite_of_scikit_learn(estimator, check):
    check(estimator)
