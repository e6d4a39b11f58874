"""The peers of scikit-learn in the tabular benchmark, with their grids."""

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.svm import SVC

from experiments.support.tabular_data import Task

SEED = 0
NUM_TREES = 500
# Boosting grows a tree per class and round: with a hundred classes the rounds are cut to this many trees.
MAX_ROUNDS, MAX_BOOSTED_TREES = 100, 2000

# Of equal accuracies the first is chosen: scikit-learn's defaults come first.
GRIDS: dict[str, dict[str, tuple[Any, ...]]] = {
    "random_forest": {"max_features": ("sqrt", 0.25, 0.5, 1.0)},
    "svm": {
        "C": (1.0, 10.0, 100.0, 1000.0, 0.1),
        "gamma": ("scale", 1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0),
    },
    "gradient_boosting": {"min_samples_leaf": (20, 5), "max_leaf_nodes": (31, 4)},
}
MAKERS: dict[str, Callable[..., BaseEstimator]] = {
    "random_forest": lambda **values: RandomForestClassifier(NUM_TREES, random_state=SEED, **values),
    "svm": lambda **values: SVC(kernel="rbf", cache_size=400, **values),
    "gradient_boosting": lambda **values: HistGradientBoostingClassifier(
        early_stopping=False,  # pyright: ignore[reportArgumentType]
        random_state=SEED,
        **values,
    ),
}


def run_peer(name: str, task: Task) -> tuple[dict[str, Any], float, tuple[float, ...]]:
    """Returns the chosen values, their accuracy on the tuning split, and the accuracy of each fold."""
    grid = {key: list(values) for key, values in GRIDS[name].items()}
    fixed = {"max_iter": boosting_rounds(task.num_classes)} if name == "gradient_boosting" else {}
    search = GridSearchCV(
        MAKERS[name](**fixed),
        grid,
        cv=[tuple(task.tuning)],
        scoring="accuracy",
        refit=False,
        error_score="raise",  # pyright: ignore[reportArgumentType]
    )
    search.fit(task.x, task.labels)
    chosen = search.best_params_
    splits = [tuple(split) for split in task.evaluation]
    scores = cross_val_score(
        MAKERS[name](**fixed, **chosen),
        task.x,
        task.labels,
        cv=splits,
        scoring="accuracy",
        error_score="raise",  # pyright: ignore[reportArgumentType]
    )
    return chosen, float(search.best_score_), tuple(np.asarray(scores).tolist())


def boosting_rounds(num_classes: int) -> int:
    """Returns the rounds of gradient boosting for a number of classes; two classes share one tree a round."""
    return min(MAX_ROUNDS, MAX_BOOSTED_TREES // num_classes)
