"""The summary statistics of methods over many tasks, from a table of accuracies.

With a_tm the accuracy of method m on task t and b_t the best accuracy of any method there: the average of
a_tm; P90 and P95, the share of tasks with a_tm >= 0.90 b_t and 0.95 b_t; PMA, the mean of a_tm / b_t; and the
Friedman rank, the mean over tasks of the rank of a_tm, 1 the best, equal accuracies sharing their mean rank.

References:
    Fernandez-Delgado, Cernadas, Barro and Amorim (2014), JMLR 15, Section 3.
    Radhakrishnan, Beaglehole, Pandit and Belkin (2024), Science 383: the statistics of the tabular table.
"""

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

import numpy as np
from scipy.stats import rankdata

Table: TypeAlias = Mapping[str, Mapping[str, float]]
"""Accuracies by task and method; every task has all methods."""

# Shares of the best accuracy are compared with this much room for rounding.
ROUNDING = 1e-12


class Standing(NamedTuple):
    """How a method did over all tasks."""

    method: str
    average_accuracy: float
    p90: float
    p95: float
    pma: float
    friedman_rank: float


class Loss(NamedTuple):
    """A task on which another method was clearly better."""

    task: str
    accuracy: float
    best_method: str
    best_accuracy: float


def summarize(table: Table) -> list[Standing]:
    """Returns the standings of all methods, the best Friedman rank first.

    Where no method has an accuracy above 0, all count as equal to the best.

    Raises:
        ValueError: If the table has no task, or tasks differ in their methods.
    """
    methods = _methods(table)
    scores = np.asarray([[row[method] for method in methods] for row in table.values()])
    best = scores.max(axis=1, keepdims=True)
    shares = np.where(best > 0, scores / np.where(best > 0, best, 1.0), 1.0)
    ranks = np.mean([rankdata(-row) for row in scores], axis=0)
    standings = [
        Standing(
            method,
            float(scores[:, i].mean()),
            float(np.mean(shares[:, i] >= 0.90 - ROUNDING)),
            float(np.mean(shares[:, i] >= 0.95 - ROUNDING)),
            float(shares[:, i].mean()),
            float(ranks[i]),
        )
        for i, method in enumerate(methods)
    ]
    return sorted(standings, key=lambda standing: (standing.friedman_rank, standing.method))


def losses(table: Table, method: str, margin: float) -> list[Loss]:
    """Returns the tasks on which the best other method is better by more than margin, the worst first."""
    found = []
    for task, row in table.items():
        others = {name: value for name, value in row.items() if name != method}
        best = max(others, key=lambda name: others[name], default=method)
        if row[best] - row[method] > margin + ROUNDING:
            found.append(Loss(task, row[method], best, row[best]))
    return sorted(found, key=lambda loss: loss.accuracy - loss.best_accuracy)


def _methods(table: Table) -> list[str]:
    rows = [list(row) for row in table.values()]
    if not rows or not rows[0]:
        raise ValueError("the table of accuracies is empty: there is nothing to summarize")
    for task, row in zip(table, rows, strict=True):
        if set(row) != set(rows[0]):
            raise ValueError(f"{task} has the methods {sorted(row)}, the first task {sorted(rows[0])}")
    return rows[0]
