"""The summary statistics, against values computed by hand."""

import pytest

from experiments.support.tabular_summary import losses, summarize

# Shares of the best: first 1, 0.95, 0.5; second 0.9, 1, 1; third 0.9, 0.9, 0.25.
TABLE = {
    "t1": {"first": 1.0, "second": 0.9, "third": 0.9},
    "t2": {"first": 0.76, "second": 0.8, "third": 0.72},
    "t3": {"first": 0.4, "second": 0.8, "third": 0.2},
}


def test_statistics_are_those_computed_by_hand():
    standings = {standing.method: standing for standing in summarize(TABLE)}
    assert [standing.method for standing in summarize(TABLE)] == ["second", "first", "third"]
    assert standings["first"][1:] == pytest.approx((2.16 / 3, 2 / 3, 2 / 3, 2.45 / 3, 5 / 3))
    assert standings["second"][1:] == pytest.approx((2.5 / 3, 1, 2 / 3, 2.9 / 3, 1.5))
    assert standings["third"][1:] == pytest.approx((1.82 / 3, 2 / 3, 0, 2.05 / 3, 8.5 / 3))


def test_equal_accuracies_share_their_rank():
    ranks = {s.method: s.friedman_rank for s in summarize({"t": {"a": 0.5, "b": 0.5, "c": 0.7, "d": 0.5}})}
    assert ranks == {"c": 1, "a": 3, "b": 3, "d": 3}


def test_a_task_that_all_get_wrong_counts_for_none():
    (first, second) = summarize({"t": {"a": 0.0, "b": 0.0}})
    assert first[1:] == second[1:] == (0, 1, 1, 1, 1.5)


def test_losses_are_those_beyond_the_margin_the_worst_first():
    assert losses(TABLE, "first", 0.03) == [("t3", 0.4, "second", 0.8), ("t2", 0.76, "second", 0.8)]
    assert [loss.task for loss in losses(TABLE, "first", 0.04)] == ["t3"]
    assert losses(TABLE, "second", 0.03) == [("t1", 0.9, "first", 1.0)]
    assert losses({"t": {"first": 0.1}}, "first", 0.03) == []


def test_an_empty_or_ragged_table_is_an_error():
    with pytest.raises(ValueError, match="nothing to summarize"):
        summarize({})
    with pytest.raises(ValueError, match="t2 has the methods"):
        summarize({"t1": {"a": 0.5}, "t2": {"b": 0.5}})
