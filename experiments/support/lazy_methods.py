"""The "lazy" methods, which learn no features, beside RFM and Deep RFM: tuned, refitted, tested.

Every method is tuned alike: the point of its grid with the highest accuracy on the validation points; of
equal ones that of the smallest mean squared error from targets in {-1, +1}, which a linear SVM does not have;
of those the first in the order of the grid.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from sklearn.svm import LinearSVC

from dnc_jax import (
    NTK,
    DeepRFM,
    Gaussian,
    Laplace,
    Polynomial,
    fit_deep_rfm,
    fit_kernel_machine,
    fit_rfm,
    median_scaled,
    relu_features,
    rfm_iterates,
    unit_rows,
)
from dnc_jax.kernels import Kernel
from experiments.support.lazy_data import Trial
from experiments.support.lazy_grids import (
    DEEP_RFM,
    GRIDS,
    PLAIN_KERNELS,
    Choice,
    MethodName,
    Values,
    best,
    points_of,
)
from experiments.support.preprocess import Prepared
from experiments.support.tabular_kernels import (
    Padded,
    Score,
    fit_ridges,
    grams,
    identity_root,
    scores_of,
)

# What targets are where they are not 1, as in Deep RFM.
OFF_TARGET = -1.0
RADIAL = {"gaussian": Gaussian, "laplace": Laplace}


class Result(NamedTuple):
    """What a method came to: its choice, and its accuracies on validation and on test points."""

    values: Values
    validation_accuracy: float
    test_accuracy: float


def run_method(name: MethodName, trial: Trial) -> Result:
    """Returns the result of a method, tuned on validation points, refitted with them, tested once.

    Raises:
        FitError: If a system is singular in the precision of the run.
    """
    choices, evaluate = METHODS[name]
    chosen = best(choices(trial.tuning, trial.seed))
    tested = evaluate(chosen.values, trial.final, trial.seed)
    return Result(chosen.values, chosen.score.accuracy, tested.accuracy)


def linear_svm_choices(prepared: Prepared, seed: int) -> Iterator[Choice]:
    """Yields the linear SVM of every C, on pixels as they are."""
    for values in points_of(GRIDS["linear_svm"]):
        yield Choice(values, evaluate_linear_svm(values, prepared, seed))


def evaluate_linear_svm(values: Values, prepared: Prepared, _: int) -> Score:
    """Returns the score of scikit-learn's LinearSVC, one class against the rest, squared hinge loss.

    The primal problem is solved, where nothing is drawn at random.
    """
    model = LinearSVC(C=values["C"], dual=False)  # pyright: ignore[reportArgumentType]
    model.fit(prepared.train.inputs, prepared.train.labels)
    predicted = model.predict(prepared.test.inputs)
    return Score(float(np.mean(predicted == prepared.test.labels)), 0.0)


def plain_choices(name: MethodName, prepared: Prepared, _: int) -> Iterator[Choice]:
    """Yields a plain kernel at every point of its grid, from one eigendecomposition for all ridges."""
    ridges = GRIDS[name]["ridge"]
    for values in points_of(GRIDS[name], "ridge"):
        rows = rows_of(prepared, values["unit_rows"])
        matrices = grams(kernel_of(name, values, rows.x), rows, identity_root(rows.x.shape[1]))
        fit = fit_ridges(matrices, rows, jnp.asarray(ridges, rows.x.dtype))
        found = _scores(fit.predictions, prepared, f"{name} with {values}")
        for ridge, score in zip(ridges, found, strict=True):
            yield Choice(values | {"ridge": ridge}, score)


def evaluate_plain(name: MethodName, values: Values, prepared: Prepared, _: int) -> Score:
    """Returns the score of the kernel regression of one point of the grid of a plain kernel."""
    rows = rows_of(prepared, values["unit_rows"])
    kernel = kernel_of(name, values, rows.x)
    machine = fit_kernel_machine(kernel, rows.x, rows.targets, ridge=values["ridge"])
    return score_of(machine(rows.test_x), prepared, f"{name} with {values}")


def kernel_of(name: MethodName, values: Values, x: Float[Array, "n d"]) -> Kernel:
    """Returns a plain kernel: (x.z / d + 1)^degree, the NTK, or a radial one on its median scale."""
    if name == "polynomial":
        return Polynomial(values["degree"], offset=1.0, scale=1 / x.shape[1])
    if name == "ntk":
        return NTK(values["depth"])
    return follow_median(RADIAL[name](values["bandwidth"]), x)


def follow_median(kernel: Kernel, x: Float[Array, "n d"]) -> Kernel:
    """Returns a radial kernel with its bandwidth times the median distance of all rows of x."""
    assert isinstance(kernel, Laplace | Gaussian)
    return median_scaled(kernel, x, max_points=None)


def rfm_choices(prepared: Prepared, _: int) -> Iterator[Choice]:
    """Yields RFM at every point of its grid, the iterations of a bandwidth and a ridge from one run."""
    iterations = GRIDS["rfm"]["iteration"]
    for values in points_of(GRIDS["rfm"], "iteration"):
        rows = rows_of(prepared, values["unit_rows"])
        kernel, ridge = Laplace(values["bandwidth"]), values["ridge"]
        iterates = rfm_iterates(kernel, rows.x, rows.targets, ridge=ridge, adapt_kernel=follow_median)
        # The range first: the update after the last iteration is never asked for.
        for iteration, rfm in zip(range(max(iterations) + 1), iterates, strict=False):
            if iteration in iterations:
                at = values | {"iteration": iteration}
                score = score_of(rfm(rows.test_x), prepared, f"rfm with {at}")
                yield Choice(at, score)


def evaluate_rfm(values: Values, prepared: Prepared, _: int) -> Score:
    """Returns the score of RFM after the chosen number of updates of M."""
    rows = rows_of(prepared, values["unit_rows"])
    rfm = fit_rfm(
        Laplace(values["bandwidth"]),
        rows.x,
        rows.targets,
        ridge=values["ridge"],
        num_iters=values["iteration"],
        adapt_kernel=follow_median,
    )
    return score_of(rfm(rows.test_x), prepared, f"rfm with {values}")


def deep_rfm_choices(prepared: Prepared, seed: int) -> Iterator[Choice]:
    """Yields Deep RFM at every point of its grid; a fit of many layers holds those of fewer."""
    depths = GRIDS["deep_rfm"]["depth"]
    for values in points_of(GRIDS["deep_rfm"], "depth"):
        deepest = fitted_deep_rfm(values | {"depth": max(depths)}, prepared, seed)
        for depth in depths:
            deep, at = DeepRFM(deepest.layers[:depth]), values | {"depth": depth}
            yield Choice(at, score_deep_rfm(deep, prepared, f"deep_rfm with {at}"))


def evaluate_deep_rfm(values: Values, prepared: Prepared, seed: int) -> Score:
    """Returns the score of a Deep RFM whose random features the seed draws."""
    return score_deep_rfm(fitted_deep_rfm(values, prepared, seed), prepared, f"deep_rfm with {values}")


def fitted_deep_rfm(values: Values, prepared: Prepared, seed: int) -> DeepRFM:
    """Returns the Deep RFM of one point of its grid; each layer gives its rows unit norm itself."""
    return fit_deep_rfm(
        jax.random.key(seed),
        jnp.asarray(prepared.train.inputs),
        jnp.asarray(prepared.train.targets),
        depth=values["depth"],
        kernel=Laplace(DEEP_RFM["bandwidth"]),
        ridge=values["ridge"],
        sample_features=partial(relu_features, width=int(DEEP_RFM["width"])),
    )


def score_deep_rfm(deep: DeepRFM, prepared: Prepared, where: str) -> Score:
    """Returns how well a Deep RFM predicts."""
    return score_of(deep(jnp.asarray(prepared.test.inputs)), prepared, where)


def rows_of(prepared: Prepared, unit: bool) -> Padded:
    """Returns the points of a problem for the kernel machines of a grid, none merged and none padded."""

    def scaled(inputs: Float[np.ndarray, "n d"]) -> Float[Array, "n d"]:
        x = jnp.asarray(inputs)
        return x.shape[1] ** 0.5 * unit_rows(x) if unit else x

    x = scaled(prepared.train.inputs)
    targets = jnp.asarray(prepared.train.targets)
    return Padded(x, jnp.ones(len(x), x.dtype), targets, scaled(prepared.test.inputs))


def score_of(predictions: Float[Array, "m c"], prepared: Prepared, where: str) -> Score:
    """Returns how well the points to predict were predicted."""
    return _scores(predictions[None], prepared, where)[0]


def _scores(predictions: Float[Array, "r m c"], prepared: Prepared, where: str) -> list[Score]:
    return scores_of(np.asarray(predictions), prepared.test.labels, where, off_target=OFF_TARGET)


METHODS: dict[
    MethodName,
    tuple[Callable[[Prepared, int], Iterator[Choice]], Callable[[Values, Prepared, int], Score]],
] = {
    "linear_svm": (linear_svm_choices, evaluate_linear_svm),
    **{name: (partial(plain_choices, name), partial(evaluate_plain, name)) for name in PLAIN_KERNELS},
    "rfm": (rfm_choices, evaluate_rfm),
    "deep_rfm": (deep_rfm_choices, evaluate_deep_rfm),
}
