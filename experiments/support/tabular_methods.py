"""The methods of the tabular benchmark: their grids, how they are tuned, how the chosen one is evaluated.

A point of a grid is chosen by its accuracy on the tuning split. Many are equal there, on small tasks most: of
those, kernel methods take the one of the smallest mean squared error. scikit-learn's search has no second
measure: of its methods the first in the order in which the grid is printed is taken, where defaults stand.

References:
    Radhakrishnan, Beaglehole, Pandit and Belkin (2024), Science 383: grid and protocol of RFM. Which of equal
    accuracies is taken is not published.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dnc_jax import NTK, Laplace
from dnc_jax.errors import FitError
from dnc_jax.kernels import Kernel
from experiments.support import tabular_peers
from experiments.support.tabular_data import Split, Task
from experiments.support.tabular_kernels import (
    Fit,
    Grams,
    Padded,
    Score,
    fit_ridge,
    fit_ridges,
    grams,
    identity_root,
    pad,
    padded_shape,
    scores,
    updated_root,
)

BANDWIDTH = 10.0
RIDGES = (10.0, 1.0, 0.1, 1e-2, 1e-3)
UNIT_ROWS = (False, True)
NUM_UPDATES = 4
DEPTHS = (1, 2, 4)

FeatureMatrix = Literal["of_each_fold", "of_tuning_split"]
MethodName = Literal["rfm", "laplace", "ntk", "random_forest", "svm", "gradient_boosting"]
Values: TypeAlias = dict[str, Any]

GRIDS: dict[str, dict[str, tuple[Any, ...]]] = {
    "rfm": {"unit_rows": UNIT_ROWS, "iteration": tuple(range(NUM_UPDATES + 1)), "ridge": RIDGES},
    "laplace": {"unit_rows": UNIT_ROWS, "ridge": RIDGES},
    "ntk": {"unit_rows": UNIT_ROWS, "depth": DEPTHS, "ridge": RIDGES},
    **tabular_peers.GRIDS,
}


class Choice(NamedTuple):
    """The chosen point of a grid, its score on the tuning split, and the root of M that it has there."""

    values: Values
    tuning: Score
    root: Float[Array, "d d"] | None = None


class Result(NamedTuple):
    """What a method came to on a task: its choice, and its accuracy in each fold or on the test set."""

    values: Values
    tuning_accuracy: float
    test_accuracies: tuple[float, ...]


@dataclass(frozen=True)
class View:
    """A split of a task as kernel methods see it, with what they share of it."""

    task: Task
    split: Split
    padded: Padded
    where: str

    @cached_property
    def laplace(self) -> tuple[Grams, Fit]:
        """The plain Laplace kernel of all ridges, which is iteration 0 of RFM."""
        matrices = grams(Laplace(BANDWIDTH), self.padded, identity_root(self.columns))
        return matrices, fit_ridges(matrices, self.padded, jnp.asarray(RIDGES))

    @property
    def columns(self) -> int:
        """Columns of the padded rows."""
        return self.padded.x.shape[1]

    def scores(self, fit: Fit) -> list[Score]:
        """Returns the score of each ridge on the rows to predict."""
        return scores(fit, self.task.labels[self.split.test], self.task.num_classes, self.where)


@dataclass(frozen=True)
class Session:
    """A task with what its methods share: the tuning split, and the folds or the test set, as views."""

    task: Task
    feature_matrix: FeatureMatrix = "of_each_fold"

    @cached_property
    def tuning(self) -> dict[bool, View]:
        """The tuning split with rows as they are, and with unit rows."""
        shape = padded_shape(self.task, [self.task.tuning])
        split, where = self.task.tuning, f"the tuning split of {self.task.name}"
        return {
            unit: View(self.task, split, pad(self.task, split, shape, unit=unit), where) for unit in UNIT_ROWS
        }

    def folds(self, unit: bool) -> Iterator[View]:
        """Yields the splits of the evaluation."""
        shape = padded_shape(self.task, self.task.evaluation)
        for number, split in enumerate(self.task.evaluation, start=1):
            padded = pad(self.task, split, shape, unit=unit)
            yield View(self.task, split, padded, f"fold {number} of {self.task.name}")


def run_method(name: MethodName, session: Session) -> Result:
    """Returns the result of a method: tuned on the tuning split, then evaluated.

    Raises:
        FitError: If a fit of a kernel method failed.
    """
    if name in tabular_peers.GRIDS:
        return Result(*tabular_peers.run_peer(name, session.task))
    tune, evaluate = KERNEL_METHODS[name]
    choice = tune(session)
    views = session.folds(choice.values["unit_rows"])
    return Result(choice.values, choice.tuning.accuracy, tuple(evaluate(session, choice, v) for v in views))


def tune_laplace(session: Session) -> Choice:
    """Returns the best ridge and scaling of rows of the plain Laplace kernel."""
    return _best(
        Choice({"unit_rows": unit, "ridge": ridge}, score)
        for unit, view in session.tuning.items()
        for ridge, score in zip(RIDGES, view.scores(view.laplace[1]), strict=True)
    )


def tune_ntk(session: Session) -> Choice:
    """Returns the best depth, ridge and scaling of rows of the neural tangent kernel."""

    def points() -> Iterator[Choice]:
        for unit, view in session.tuning.items():
            for depth in DEPTHS:
                matrices = grams(NTK(depth), view.padded, _ntk_root(view))
                fit = fit_ridges(matrices, view.padded, jnp.asarray(RIDGES))
                for ridge, score in zip(RIDGES, view.scores(fit), strict=True):
                    yield Choice({"unit_rows": unit, "depth": depth, "ridge": ridge}, score)

    return _best(points())


def tune_rfm(session: Session) -> Choice:
    """Returns the best iteration, ridge and scaling of rows of RFM, with the root of its M.

    The plain kernel of iteration 0 is decomposed once for all ridges; from then on each ridge has its own M.
    A ridge whose AGOP vanishes, because its predictor is constant, has no further iterations.
    """

    def points() -> Iterator[Choice]:
        for unit, view in session.tuning.items():
            chains = [list(_iterates(view, ridge)) for ridge in RIDGES]
            for iteration in range(NUM_UPDATES + 1):
                for ridge, chain in zip(RIDGES, chains, strict=True):
                    if iteration < len(chain):
                        values = {"unit_rows": unit, "iteration": iteration, "ridge": ridge}
                        yield Choice(values, *chain[iteration])

    return _best(points())


def evaluate_laplace(_: Session, choice: Choice, view: View) -> float:
    """Returns the accuracy of the chosen Laplace kernel on a fold."""
    return _fit_one(Laplace(BANDWIDTH), view, identity_root(view.columns), choice.values["ridge"])[2].accuracy


def evaluate_ntk(_: Session, choice: Choice, view: View) -> float:
    """Returns the accuracy of the chosen neural tangent kernel on a fold."""
    return _fit_one(NTK(choice.values["depth"]), view, _ntk_root(view), choice.values["ridge"])[2].accuracy


def evaluate_rfm(session: Session, choice: Choice, view: View) -> float:
    """Returns the accuracy of the chosen RFM on a fold.

    M is learned anew from the training rows of the fold, or is that of the tuning split, as published, which
    has seen some of the rows that are predicted here.

    Raises:
        FitError: If the AGOP vanishes before the chosen iteration.
    """
    kernel, ridge = Laplace(BANDWIDTH), choice.values["ridge"]
    if session.feature_matrix == "of_tuning_split":
        assert choice.root is not None
        return _fit_one(kernel, view, choice.root, ridge)[2].accuracy
    root = identity_root(view.columns)
    for iteration in range(1, choice.values["iteration"] + 1):
        matrices, fit, _ = _fit_one(kernel, view, root, ridge)
        root, is_usable = updated_root(kernel, matrices.rooted, fit.weights[0], view.padded.counts, root)
        if not is_usable:
            raise FitError(
                f"the AGOP of iteration {iteration} on {view.where} is 0: its predictor is constant"
            )
    return _fit_one(kernel, view, root, ridge)[2].accuracy


KERNEL_METHODS: dict[str, tuple[Callable[[Session], Choice], Callable[[Session, Choice, View], float]]] = {
    "rfm": (tune_rfm, evaluate_rfm),
    "laplace": (tune_laplace, evaluate_laplace),
    "ntk": (tune_ntk, evaluate_ntk),
}


def _iterates(view: View, ridge: float) -> Iterator[tuple[Score, Float[Array, "d d"]]]:
    """Yields the score and the root of M of each iteration of one ridge."""
    kernel, number = Laplace(BANDWIDTH), RIDGES.index(ridge)
    matrices, plain = view.laplace
    fit, root = jax.tree.map(lambda a: a[number : number + 1], plain), identity_root(view.columns)
    yield view.scores(fit)[0], root
    for _ in range(NUM_UPDATES):
        root, is_usable = updated_root(kernel, matrices.rooted, fit.weights[0], view.padded.counts, root)
        if not is_usable:
            return
        matrices, fit, score = _fit_one(kernel, view, root, ridge)
        yield score, root


def _fit_one(kernel: Kernel, view: View, root: Float[Array, "d d"], ridge: float) -> tuple[Grams, Fit, Score]:
    matrices = grams(kernel, view.padded, root)
    fit = fit_ridge(matrices, view.padded, jnp.asarray([ridge]))
    return matrices, fit, view.scores(fit)[0]


def _ntk_root(view: View) -> Float[Array, "d d"]:
    # The kernel is homogeneous and divides by the number of columns: those that were added must not count.
    return identity_root(view.columns, (view.columns / view.task.x.shape[1]) ** 0.5)


def _best(points: Iterable[Choice]) -> Choice:
    return max(points, key=lambda choice: choice.tuning)
