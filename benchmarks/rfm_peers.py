"""Recursive feature machines of others in PyTorch, with the seconds of their parts."""

import importlib
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float

Tensor: TypeAlias = Any
"""A torch.Tensor: torch is imported only where it is installed."""

INSTALL = "pip install -e '.[benchmarks]'"


class Settings(NamedTuple):
    """What all implementations are asked for: Laplace kernel, M divided by its largest entry."""

    bandwidth: float
    ridge: float
    num_iters: int


class Fitted(NamedTuple):
    """Predictions at new points, and the seconds of the parts of the fit."""

    predictions: Float[np.ndarray, "v c"]
    parts: dict[str, float]


Arrays = tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n c"], Float[np.ndarray, "v d"]]
Fit = Callable[[], Callable[[], Fitted]]
"""Fits when called, and returns what predicts when it is called: predictions are not timed."""


class Stopwatch:
    """Adds up the seconds of named parts."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def timed(self, name: str, fn: Callable) -> Callable:
        """Returns fn, whose calls count as a part."""

        def call(*args: Any, **options: Any) -> Any:  # noqa: ANN401
            start = time.perf_counter()
            result = fn(*args, **options)
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
            return result

        return call


def mahalanobis_distances(a: Tensor, b: Tensor, m: Tensor) -> Tensor:
    """Returns the distances (n, m) of rows, from |a|_M^2 + |b|_M^2 - 2 a M b clamped at 0.

    An expansion that leaves sqrt(eps) rather than 0 between a row and itself.
    """
    moved = b @ m
    squared = -2 * a @ moved.T
    squared.add_(((a @ m) * a).sum(1)[:, None]).add_((moved * b).sum(1)[None])
    return squared.clamp_(min=0).sqrt_()


def laplace_kernel(a: Tensor, b: Tensor, m: Tensor, bandwidth: float) -> Tensor:
    """Returns exp(-|a - b|_M / bandwidth) for the rows of a and b."""
    return mahalanobis_distances(a, b, m).mul_(-1 / bandwidth).exp_()


def package_algorithm(arrays: Arrays, settings: Settings) -> Fit:
    """Returns the algorithm of the rfm package, written anew.

    K from |x|_M^2 + |z|_M^2 - 2 x M z, an LU solve, then K and the distances once more for the gradients of
    all outputs, whose outer products are added up and divided by the largest entry. Held-out points, which
    the package looks at in every round, are left out here.
    """
    torch = importlib.import_module("torch")
    x, targets, new = map(torch.from_numpy, arrays)
    bandwidth, ridge, num_iters = settings

    def kernel(a: Tensor, b: Tensor, m: Tensor) -> Tensor:
        return laplace_kernel(a, b, m, bandwidth)

    def solve(gram: Tensor) -> Tensor:
        gram.diagonal().add_(ridge)
        return torch.linalg.solve(gram, targets)

    def update(m: Tensor, weights: Tensor) -> Tensor:
        slope, apart = kernel(x, x, m), mahalanobis_distances(x, x, m)
        slope.div_(torch.where(apart < 1e-10, torch.inf, apart))
        moved = x @ m
        own = (slope @ weights)[:, :, None] * moved[:, None, :]
        others = slope @ (weights[:, :, None] * moved[:, None, :]).reshape(len(x), -1)
        gradients = (others.reshape(own.shape) - own) / bandwidth
        total = torch.einsum("ncd,nce->de", gradients, gradients)
        return total / total.max()

    def fit() -> Callable[[], Fitted]:
        watch = Stopwatch()
        grams, solves, updates = (
            watch.timed(name, fn) for name, fn in (("kernel", kernel), ("solve", solve), ("agop", update))
        )
        m = torch.eye(x.shape[1], dtype=x.dtype)
        weights = solves(grams(x, x, m))
        for _ in range(num_iters):
            m = updates(m, weights)
            weights = solves(grams(x, x, m))
        return lambda: Fitted((kernel(new, x, m) @ weights).numpy(), watch.seconds)

    return fit


def xrfm(arrays: Arrays, settings: Settings, solver: str) -> Fit:
    """Returns xRFM's RFM, without the parts of it that choose an iteration.

    Its AGOP takes all points, and its validation set is ten of the new ones, so that it costs nothing.
    """
    torch = importlib.import_module("torch")
    machine = importlib.import_module("xrfm").RFM
    x, targets, new = map(torch.from_numpy, arrays)

    def fit() -> Callable[[], Fitted]:
        watch = Stopwatch()
        model = machine(
            "laplace",
            bandwidth=settings.bandwidth,
            iters=settings.num_iters,
            device="cpu",
            verbose=False,
            solver=solver,
        )
        plain_kernel, plain_fit = model.kernel, model.fit_predictor

        def fit_predictor(*arguments: Any, **options: Any) -> None:  # noqa: ANN401
            # Its kernel of validation points is no part of a fit.
            model.kernel = watch.timed("kernel", plain_kernel)
            plain_fit(*arguments, **options)
            model.kernel = plain_kernel

        model.fit_predictor = watch.timed("kernel and solve", fit_predictor)
        model.fit_M = watch.timed("agop", model.fit_M)
        model.fit(
            (x, targets),
            (new[:10], targets[:10]),
            reg=settings.ridge,
            iters=settings.num_iters,
            total_points_to_sample=len(x),
            solver=solver,
            return_best_params=False,
            early_stop_rfm=False,
        )
        parts = watch.seconds
        parts["solve"] = parts.pop("kernel and solve") - parts["kernel"]
        return lambda: Fitted(model.predict(new).numpy(), parts)

    return fit


def peers(arrays: Arrays, settings: Settings) -> dict[str, Fit]:
    """Returns the peers that are installed, and says which are left out."""
    found: dict[str, Fit] = {}
    if find_spec("torch") is None:
        print(f"torch is not installed, and all peers are left out: {INSTALL}")
        return found
    found["rfm's algorithm"] = package_algorithm(arrays, settings)
    if find_spec("xrfm") is None:
        print(f"xrfm is not installed, and left out: {INSTALL}")
        return found
    for solver in ("solve", "cholesky"):
        found[f"xRFM, {solver}"] = xrfm(arrays, settings, solver)
    return found
