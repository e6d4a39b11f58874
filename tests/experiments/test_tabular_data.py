"""The collection is read as it lies, and what is no whole task is named with the reason."""

import numpy as np
import pytest

from experiments.support.tabular_data import TaskError, find_tasks, read_task
from tests.experiments.tabular_files import points, write_table, write_task


def read(folder):
    return read_task(folder, standardize=True)


def rewrite(path, change):
    path.write_text(change(path.read_text()))


def test_a_task_of_one_file_has_four_folds(tmp_path):
    task = read(write_task(tmp_path, "one"))
    x, labels = points(24, 3, 0)
    np.testing.assert_array_equal(task.x, x)
    np.testing.assert_array_equal(task.labels, labels)
    assert (task.name, task.num_classes, len(task.evaluation), task.notes) == ("one", 3, 4, ())
    assert (len(task.tuning.train), len(task.tuning.test)) == (12, 12)
    tested = np.concatenate([split.test for split in task.evaluation])
    np.testing.assert_array_equal(np.sort(tested), np.arange(24))
    for split in task.evaluation:
        np.testing.assert_array_equal(np.sort(np.concatenate(split)), np.arange(24))


def test_a_given_test_set_replaces_the_folds(tmp_path):
    task = read(write_task(tmp_path, "two", num_test=10))
    assert task.x.shape == (34, 3)
    np.testing.assert_array_equal(task.x[24:], points(10, 3, 100)[0])
    (split,) = task.evaluation
    np.testing.assert_array_equal(split.train, np.arange(24))
    np.testing.assert_array_equal(split.test, np.arange(24, 34))
    assert max(*task.tuning.train, *task.tuning.test) == 23


def test_labels_count_from_zero_over_both_files(tmp_path):
    folder = write_task(tmp_path, "two", num_test=10)
    x, labels = points(24, 3, 0)
    write_table(folder / "two_train_R.dat", x, 2 * labels + 1)
    test_x, test_labels = points(10, 3, 100)
    write_table(folder / "two_test_R.dat", test_x, 2 * test_labels + 3)
    task = read(folder)
    assert task.num_classes == 4
    np.testing.assert_array_equal(task.labels, np.concatenate([labels, test_labels + 1]))


def test_a_file_that_breaks_the_naming_is_read_and_named(tmp_path):
    folder = write_task(tmp_path, "acute-nephritis")
    (folder / "acute-nephritis_R.dat").rename(folder / "acute_R.dat")
    assert find_tasks(tmp_path).num_rows == {"acute-nephritis": 24}
    task = read(folder)
    np.testing.assert_array_equal(task.x, points(24, 3, 0)[0])
    assert task.notes == ("acute_R.dat is read as the task's file",)


def test_a_file_of_the_tasks_name_wins_over_a_foreign_one(tmp_path):
    folder = write_task(tmp_path, "one")
    write_table(folder / "other_R.dat", *points(20, 2, 5))
    task = read(folder)
    assert task.x.shape == (24, 3)
    assert task.notes == ("other_R.dat is not of the task's name and not read",)


def test_incomplete_tasks_are_named_with_what_is_missing(tmp_path):
    write_task(tmp_path, "whole")
    (write_task(tmp_path, "no-train", num_test=5) / "no-train_train_R.dat").unlink()
    (write_task(tmp_path, "no-test", num_test=5) / "no-test_test_R.dat").unlink()
    (write_task(tmp_path, "no-data") / "no-data_R.dat").unlink()
    (write_task(tmp_path, "no-folds") / "conxuntos_kfold.dat").unlink()
    (tmp_path / "LIST").write_text("")
    found = find_tasks(tmp_path)
    assert found.num_rows == {"whole": 24}
    assert found.problems == {
        "LIST": "a file beside the folders of the tasks",
        "no-data": "no-data_R.dat is missing, other files _R.dat: none",
        "no-folds": "conxuntos_kfold.dat is missing",
        "no-test": "no-test_test_R.dat is missing",
        "no-train": "no-train_train_R.dat is missing",
    }


def test_points_of_training_and_test_files_count_together(tmp_path):
    write_task(tmp_path, "two", num_test=10)
    assert find_tasks(tmp_path).num_rows == {"two": 34}


def test_no_collection_is_an_error(tmp_path):
    with pytest.raises(TaskError, match="is no folder"):
        find_tasks(tmp_path / "absent")
    with pytest.raises(TaskError, match="holds no whole task"):
        find_tasks(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(TaskError, match=r"empty: empty_R\.dat is missing"):
        find_tasks(tmp_path)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("one_R.dat", lambda s: s[: s.rindex("\t")] + "\n", r"line 25: 4 columns, the heading has 5"),
        ("one_R.dat", lambda s: "\n".join(s.splitlines()[:10]), "file of its data truncated"),
        ("one_R.dat", lambda s: s.splitlines()[0], "has 1 lines of 5 columns"),
        ("one_R.dat", lambda s: s[:0], "has 0 lines of 0 columns"),
        ("one_R.dat", lambda s: s[: s.rindex("\t")] + "\tsn\n", "line 25: could not convert string to float"),
        ("one_R.dat", lambda s: s[: s.rindex("\t")] + "\tnan\n", "line 25: a value is not finite"),
        (
            "conxuntos.dat",
            lambda s: s.replace(" 23 ", " 24 "),
            r"split 1: rows 0..24, but the task has 0..23",
        ),
        ("conxuntos.dat", lambda s: s.replace(" 5 ", " -1 "), "rows -1..23"),
        ("conxuntos.dat", lambda s: s.splitlines()[0], "has 1 lines of rows: expected 2"),
        ("conxuntos.dat", lambda s: s.splitlines()[0] + "\n" + s, "has 3 lines of rows: expected 2"),
        ("conxuntos.dat", lambda s: s.replace(" 5 ", " five "), "invalid literal for int"),
        ("conxuntos_kfold.dat", lambda s: "\n".join(s.splitlines()[:7]), "has 7 lines of rows: expected 8"),
        ("conxuntos_kfold.dat", lambda s: s.replace(" 5 ", " 6 ", 1), "split 1: a row occurs twice"),
    ],
)
def test_damaged_files_are_named(tmp_path, file, change, message):
    folder = write_task(tmp_path, "one")
    before = (folder / file).read_text()
    rewrite(folder / file, change)
    assert (folder / file).read_text() != before
    with pytest.raises(TaskError, match=message) as raised:
        read(folder)
    assert file in str(raised.value) or "one_R.dat" in str(raised.value) or "truncated" in message


def test_bytes_that_are_no_text_are_named(tmp_path):
    folder = write_task(tmp_path, "one")
    (folder / "one_R.dat").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TaskError, match="cannot be read"):
        read(folder)
    with pytest.raises(TaskError, match="cannot be read"):
        find_tasks(tmp_path)


def test_files_of_different_widths_are_an_error(tmp_path):
    folder = write_task(tmp_path, "two", num_test=5)
    x, labels = points(5, 3, 1)
    write_table(folder / "two_test_R.dat", x[:, :2], labels)
    with pytest.raises(TaskError, match="differ in their numbers of columns"):
        read(folder)


def test_training_rows_of_one_class_are_an_error(tmp_path):
    folder = write_task(tmp_path, "one")
    write_table(folder / "one_R.dat", points(24, 3, 0)[0], np.zeros(24, dtype=int))
    with pytest.raises(TaskError, match="all of one class"):
        read(folder)


def test_only_files_that_are_not_standardized_are(tmp_path):
    folder = write_task(tmp_path, "two", num_test=10)
    x, labels = points(10, 3, 100)
    raw = np.round(3 + 2 * x, 5)
    raw[:, 2] = 7
    write_table(folder / "two_test_R.dat", raw, labels)
    task, as_is = read(folder), read_task(folder, standardize=False)
    np.testing.assert_array_equal(as_is.x[24:], raw)
    assert as_is.notes == ()
    np.testing.assert_array_equal(task.x[:24], as_is.x[:24])
    np.testing.assert_allclose(task.x[24:, :2], x[:, :2], atol=1e-4)
    np.testing.assert_array_equal(task.x[24:, 2], np.zeros(10))
    assert task.notes == ("two_test_R.dat was not standardized, now is by its own statistics",)


def test_the_digest_tells_every_change(tmp_path):
    folder = write_task(tmp_path, "one")
    digests = {read(folder).digest}
    for name in ("one_R.dat", "conxuntos.dat", "conxuntos_kfold.dat"):
        rewrite(folder / name, lambda s: s + "\n")
        digests.add(read(folder).digest)
    assert len(digests) == 4


def test_a_column_that_holds_no_classes_is_named(tmp_path):
    folder = write_task(tmp_path, "one")
    path = folder / "one_R.dat"
    rewrite(path, lambda text: text.replace("clase", "f4", 1))
    with pytest.raises(TaskError, match=r"one_R.dat has no column of classes: the heading must end with"):
        read(folder)
    write_table(path, *points(24, 3, 0))
    rewrite(path, lambda text: text.rstrip("\n").rpartition("\t")[0] + "\t0.5\n")
    with pytest.raises(TaskError, match=r"one_R.dat, line 25: the class 0.5 is no whole number"):
        read(folder)
