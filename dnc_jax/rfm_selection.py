"""Recursive feature machines with a history, and the best of them on held-out points."""

import math
from collections.abc import Callable, Iterable
from itertools import islice
from typing import NamedTuple, Protocol, TypeAlias, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dnc_jax.checks import check_finite
from dnc_jax.errors import NumericalError
from dnc_jax.linalg import share

PredictionError: TypeAlias = Callable[[Float[Array, "n c"], Float[Array, "n c"]], Float[Array, ""]]
"""How wrong predictions of targets are: a number, the smaller the better."""

Rows: TypeAlias = tuple[Float[Array, "n *shape"], Float[Array, "n c"]]
"""Points and their targets."""

HeldOut: TypeAlias = tuple[Float[Array, "v *other"], Float[Array, "v c"]]
"""Other points and their targets."""


@runtime_checkable
class Learned(Protocol):
    """A fitted recursive feature machine, of rows or of images."""

    @property
    def feature_matrix(self) -> Array:
        """M."""
        ...

    def __call__(self, x: Float[Array, "n *shape"], /) -> Float[Array, "n c"]:
        """Returns the predictions at points."""
        ...


Machine = TypeVar("Machine", bound=Learned)


def mean_squared_error(predictions: Float[Array, "n c"], targets: Float[Array, "n c"]) -> Float[Array, ""]:
    """Returns the mean over points and outputs of (prediction - target)^2."""
    return jnp.mean((predictions - targets) ** 2)


def misclassification(predictions: Float[Array, "n c"], targets: Float[Array, "n c"]) -> Float[Array, ""]:
    """Returns the share of points whose largest prediction is not where their target is largest.

    Of a single output, the share whose sign is not that of the target.
    """
    if targets.shape[1] == 1:
        wrong = (predictions[:, 0] > 0) != (targets[:, 0] > 0)
    else:
        wrong = jnp.argmax(predictions, axis=1) != jnp.argmax(targets, axis=1)
    return share(wrong.astype(predictions.dtype))


class RFMHistory(NamedTuple):
    """What became of M and of the errors, iteration 0 being the plain kernel.

    feature_matrices are (t, d, d), or (t, d) for a diagonal M; spectra are their eigenvalues, falling. best
    is the first iteration of the lowest validation error, the last one of all without validation.
    """

    feature_matrices: Array
    spectra: Float[Array, "t d"]
    train_errors: Float[Array, "t"]
    validation_errors: Float[Array, "t"] | None
    best: int


def select_rfm(
    iterates: Iterable[Machine],
    train: Rows,
    *,
    num_iters: int,
    validation: HeldOut | None = None,
    patience: int | None = None,
    error: PredictionError = mean_squared_error,
) -> tuple[Machine, RFMHistory]:
    """Returns the best of the first num_iters updates on held-out points, and the history until the end.

    Without validation points that is the last one. Only the best machine and the history are kept.

    Args:
        iterates: From `rfm_iterates` or `conv_rfm_iterates`, the plain machine first.
        train: The points and targets of the fit, for its errors.
        patience: Updates without a lower validation error after which the rest is not computed; None
            computes all.

    Raises:
        ValueError: If a number is out of range, or patience is given without validation.
        NumericalError: If an error is not finite. And whatever the iterates raise.
    """
    _check(num_iters, validation, patience)
    best, best_machine, matrices, errors, held_out = 0, None, [], [], []
    for iteration, machine in enumerate(islice(iterates, num_iters + 1)):
        matrices.append(machine.feature_matrix)
        errors.append(_finite(error(machine(train[0]), train[1]), "training", iteration))
        if validation is not None:
            predictions = machine(validation[0])
            held_out.append(_finite(error(predictions, validation[1]), "validation", iteration))
        if best_machine is None or validation is None or held_out[-1] < held_out[best]:
            best, best_machine = iteration, machine
        if patience is not None and iteration - best >= patience:
            break
    assert best_machine is not None
    stacked = jnp.stack(matrices)
    found = jnp.asarray(held_out, stacked.dtype) if validation is not None else None
    return best_machine, RFMHistory(
        stacked, _spectra(stacked), jnp.asarray(errors, stacked.dtype), found, best
    )


@jax.jit
def _spectra(matrices: Array) -> Float[Array, "t d"]:
    values = matrices if matrices.ndim == 2 else jnp.linalg.eigvalsh(matrices)
    return jnp.sort(values, axis=1)[:, ::-1]


def _finite(value: Float[Array, ""], of: str, iteration: int) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise NumericalError(
            f"the {of} error of iteration {iteration} must be finite: got {number}; raise the ridge, or let "
            "error return finite numbers"
        )
    return number


def _check(num_iters: int, validation: HeldOut | None, patience: int | None) -> None:
    if num_iters < 0:
        raise ValueError(f"num_iters must be at least 0 AGOP updates: got {num_iters}")
    if patience is not None and (validation is None or patience < 1):
        raise ValueError(
            f"patience must be at least 1 update and needs validation points: got patience {patience}, "
            f"validation {'given' if validation is not None else None}"
        )
    if validation is not None:
        check_finite("validation points", validation[0])
        check_finite("validation targets", validation[1])
