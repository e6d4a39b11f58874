"""The tasks of `experiments.rfm`: what each is drawn with, and its published or default options."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

from experiments.support import options, rfm_tasks
from experiments.support.modular import Operation, all_pairs, is_prime, modular
from experiments.support.rfm_tasks import Problem

TaskName = Literal[
    "tutorial",
    "low_rank",
    "polynomial",
    "multi_index",
    "parity",
    "modular_addition",
    "modular_subtraction",
    "modular_multiplication",
    "modular_division",
]
Settings = Mapping[str, Any]
"""The options of a task, all with a value."""

Cell = dict[str, int]
"""Rank and degree of one target, those of the two that the task has."""

MODULAR = "modular_"
SMALLEST_PRIME = 5
# What is read of neither a random M nor the number of its updates.
OF_LEARNING = ("num_iters", "gradients", "rescale")


@dataclass(frozen=True)
class Task:
    """How a task is drawn from a seed, and the options that it has, with the values of its protocol.

    An option that is not among them means nothing to the task. min_dim is the least number of coordinates.
    """

    draw: Callable[..., Problem]
    options: Settings
    min_dim: int = 1

    @property
    def drawn_with(self) -> tuple[str, ...]:
        """Options that the draw takes."""
        return tuple(n for n in ("num_train", "num_test", "dim", "prime") if n in self.options)


LAPLACE = {
    "kernel": "laplace",
    "bandwidth": 10.0,
    "ridge": 1e-3,
    "gradients": "raw",
    "power": 1.0,
    "rescale": "none",
    "num_iters": 5,
}
RANDOM = LAPLACE | {"num_train": 2000, "num_test": 2000, "seeds": (0, 1, 2)}
GROKKING = {
    "prime": 61,
    "num_train": None,
    "kernel": "gaussian",
    "bandwidth": 2.5,
    "ridge": 0.0,
    "gradients": "centered",
    "power": 0.5,
    "rescale": "none",
    "num_iters": 30,
    "features": "learned",
    "seeds": (0, 1, 2),
}
TASKS: Mapping[str, Task] = {
    "tutorial": Task(
        rfm_tasks.tutorial,
        LAPLACE
        | {"num_train": 2000, "num_test": 10_000, "dim": 100}
        | {"ridge": 1e-4, "gradients": "centered", "seeds": (1717,)},
        min_dim=2,
    ),
    "low_rank": Task(
        rfm_tasks.low_rank,
        LAPLACE | {"num_train": 4000, "num_test": 4000, "dim": 20, "seeds": (0, 1, 2, 3, 4)},
        min_dim=6,
    ),
    "polynomial": Task(rfm_tasks.polynomial, RANDOM | {"dim": 50, "ranks": (1, 2, 4), "degrees": (2, 3, 4)}),
    "multi_index": Task(rfm_tasks.multi_index, RANDOM | {"dim": 50, "ranks": (1, 2, 4, 8)}),
    "parity": Task(rfm_tasks.parity, RANDOM | {"dim": 30, "degrees": (2, 3, 4)}),
} | {
    f"{MODULAR}{operation}": Task(partial(modular, operation=operation), GROKKING)
    for operation in get_args(Operation)
}
# Test R2 of the tutorial and test mean squared error of the notebook, by iteration.
PUBLISHED = {
    "tutorial": ("test_r2", (0.07895, 0.84483, 0.90519, 0.92092, 0.92314, 0.92314499)),
    "low_rank": ("test_mean_squared_error", (0.012285, 0.006296, 0.003174, 0.002353, 0.002091, 0.001997)),
}


def operation_of(task: str) -> Operation | None:
    """Returns the operation of a task of modular arithmetic, None of another task."""
    found = [operation for operation in get_args(Operation) if task == MODULAR + operation]
    return found[0] if found else None


def resolved(task: TaskName, given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options of a task, those that are given over its own; None in given is not given.

    Raises:
        ValueError: If an option means nothing to the task, or no run can use its value.
    """
    known = TASKS[task].options
    chosen = {name: value for name, value in given.items() if value is not None}
    for name, value in chosen.items():
        if name not in known:
            raise ValueError(
                f"{_flag(name)} means nothing to --task={task}: got {value}; leave it out, its options are "
                f"{', '.join(_flag(known_name) for known_name in known)}"
            )
    settings = {name: chosen.get(name, value) for name, value in known.items()}
    if settings["kernel"] == "quadratic":
        _drop(settings, chosen, ("bandwidth",), "--kernel=quadratic, which has none")
    if settings.get("features") == "random_circulant":
        _drop(settings, chosen, OF_LEARNING, "--features=random_circulant, where no M is learned")
    _check(task, settings)
    operation = operation_of(task)
    if operation is not None and settings["num_train"] is None:
        settings["num_train"] = len(all_pairs(settings["prime"], operation)) // 2
    return settings


def cells(settings: Settings) -> list[Cell]:
    """Returns the targets of one seed: every rank with every degree, of those that the task has."""
    by_rank = [{"rank": rank} for rank in settings["ranks"]] if "ranks" in settings else [{}]
    degrees = [{"degree": degree} for degree in settings["degrees"]] if "degrees" in settings else [{}]
    return [rank | degree for rank in by_rank for degree in degrees]


def cell_name(cell: Cell) -> str:
    """Returns the name of a target in files: rank and degree, or iterates where there is one target only."""
    return "_".join(f"{name}_{value}" for name, value in cell.items()) or "iterates"


def draw(task: TaskName, settings: Settings, seed: int, cell: Cell) -> Problem:
    """Returns the points and targets of one seed and cell."""
    taken = {name: settings[name] for name in TASKS[task].drawn_with}
    return TASKS[task].draw(seed, **taken, **cell)


def num_updates(settings: Settings) -> int:
    """Returns how many machines come after the plain one; a random M makes one."""
    return settings.get("num_iters", 1)


def _drop(settings: dict[str, Any], chosen: Settings, names: tuple[str, ...], reason: str) -> None:
    for name in names:
        if name in chosen:
            raise ValueError(f"{_flag(name)} means nothing with {reason}: got {chosen[name]}; leave it out")
        del settings[name]


def _check(task: TaskName, settings: Settings) -> None:
    counts = ("num_train", "num_test", "dim", "num_iters")
    options.check_sizes(**{n: settings[n] for n in counts if settings.get(n) is not None})
    options.check_positive(**{n: settings[n] for n in ("bandwidth", "power") if n in settings})
    options.check_ridge(settings["ridge"])
    options.check_seeds(settings["seeds"])
    dim, min_dim = settings.get("dim"), TASKS[task].min_dim
    if dim is not None and dim < min_dim:
        raise ValueError(f"--dim must be at least {min_dim} for --task={task}: got {dim}")
    for name in ("ranks", "degrees"):
        _check_cells(name, settings.get(name), dim if task == "parity" or name == "ranks" else None)
    operation = operation_of(task)
    if operation is not None:
        _check_modular(operation, settings["prime"], settings["num_train"])


def _check_cells(name: str, values: tuple[int, ...] | None, largest: int | None) -> None:
    if values is None:
        return
    if not values or len(set(values)) < len(values) or min(values) < 1:
        raise ValueError(f"{_flag(name)} must be one or more different numbers of at least 1: got {values}")
    if largest is not None and max(values) > largest:
        raise ValueError(f"{_flag(name)} must be at most {largest}, the dimension: got {values}")


def _check_modular(operation: Operation, prime: int, num_train: int | None) -> None:
    if prime < SMALLEST_PRIME or not is_prime(prime):
        raise ValueError(f"--prime must be a prime number of at least {SMALLEST_PRIME}: got {prime}")
    total = len(all_pairs(prime, operation))
    if num_train is not None and not num_train < total:
        raise ValueError(
            f"--num-train must leave some of the {total} pairs of --prime={prime} for the test: "
            f"got {num_train}"
        )


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
