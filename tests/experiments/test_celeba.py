"""The CelebA experiment on a tiny planted dataset: numbers, records, resumption, options, figures."""

import csv
import dataclasses
import json
import re
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from experiments import celeba
from experiments.support import celeba_cost, celeba_runs, checkpoint
from experiments.support.celeba_rows import choose
from experiments.support.data.celeba import open_faces
from experiments.support.data.images import DataError
from experiments.support.plotting import celeba_figures
from experiments.support.records import RecordsError
from tests.experiments import celeba_files as files
from tests.experiments.kills import killed_at_write

SMALL = celeba.Config(attributes=("Smiling", "Eyeglasses"), image_size=files.GRID, num_per_class=150)


def rows(workdir: Path) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def value(workdir: Path, metric: str, iteration: int = 1, **place) -> float:
    place = {"attribute": "Smiling", "metric": metric, "iteration": iteration} | place
    return next(row["value"] for row in rows(workdir) if place.items() <= row.items())


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> Path:
    return files.prepare(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def _without_the_probe_of_speed(monkeypatch):
    monkeypatch.setattr(celeba_cost.estimate, "run_seconds", lambda *_: 100.0)


@pytest.fixture
def run(data_dir, monkeypatch):
    """Runs the experiment in a workdir, without its figures."""
    monkeypatch.setattr(celeba.celeba_figures, "draw_figures", lambda _: [])

    def run_in(workdir: Path, **changes) -> Path:
        config = dataclasses.replace(SMALL, data_dir=data_dir, workdir=workdir)
        assert celeba.main(dataclasses.replace(config, **changes)) == workdir
        return workdir

    return run_in


@pytest.fixture(scope="module")
def finished(data_dir, tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("finished")
    celeba.main(dataclasses.replace(SMALL, data_dir=data_dir, workdir=workdir))
    return workdir


def kept(workdir: Path, attribute: str = "Smiling") -> dict[str, np.ndarray]:
    return checkpoint.load_arrays(workdir / "arrays" / f"{attribute}.npz")


def by_equations(data_dir: Path) -> tuple[list[dict[str, float]], np.ndarray]:
    """Scores of iterations 0 and 1 and M of Smiling, in numpy, every point's gradient written out."""
    parts = choose(open_faces(data_dir, ("Smiling",)), "Smiling", num_per_class=150, seed=0)
    points = {}
    for name in ("train", "validation", "test"):
        part = getattr(parts, name)
        x = part.split.images(part.rows, files.GRID).reshape(len(part.rows), -1) / 255
        points[name] = x / np.linalg.norm(x, axis=1, keepdims=True), np.eye(2)[part.labels.astype(int)]
    x, y = points["train"]
    matrix, scores = np.eye(x.shape[1]), []
    for _ in range(2):
        distances = partial(mahalanobis, matrix)
        weights = np.linalg.solve(np.exp(-distances(x, x) / 10) + 1e-3 * np.eye(len(x)), y)
        score = {}
        for name, (z, t) in points.items():
            f = np.exp(-distances(z, x) / 10) @ weights
            score[f"{name}_accuracy"] = np.mean(f.argmax(axis=1) == t.argmax(axis=1))
            score[f"{name}_mean_squared_error"] = np.mean((f - t) ** 2)
        scores.append(score)
        if len(scores) == 1:
            matrix = agop(x, weights)
    return scores, matrix


def mahalanobis(matrix: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    difference = a[:, None, :] - b[None, :, :]
    return np.sqrt(np.maximum(np.einsum("ijk,kl,ijl->ij", difference, matrix, difference, optimize=True), 0))


def agop(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The mean over points, and the sum over outputs, of gradients of a Laplace machine's outputs."""
    total = np.zeros((x.shape[1], x.shape[1]))
    for point in x:
        difference = point - x
        norms = np.linalg.norm(difference, axis=1)
        slopes = np.where(norms > 0, -np.exp(-norms / 10) / 10 / np.where(norms > 0, norms, 1), 0)
        gradient = (slopes[:, None] * difference).T @ weights
        total += gradient @ gradient.T
    return total / len(x)


def test_numbers_are_those_of_the_equations(finished, data_dir):
    scores, matrix = by_equations(data_dir)
    for iteration, score in enumerate(scores):
        for metric, want in score.items():
            assert value(finished, metric, iteration) == pytest.approx(want, rel=1e-6), metric
    images = kept(finished)
    np.testing.assert_allclose(images["diagonal"].ravel(), np.diag(matrix), rtol=1e-8)
    values, vectors = np.linalg.eigh(matrix)
    top = vectors[:, -1] / vectors[np.abs(vectors[:, -1]).argmax(), -1]
    np.testing.assert_allclose(images["top_eigenvector"].ravel(), top, atol=1e-7)
    assert images["top_eigenvector"].shape == (files.GRID, files.GRID, 3)
    share = value(finished, "top_eigenvalue_share")
    assert share == pytest.approx(values[-1] / values.sum(), rel=1e-8)


def test_the_mean_image_is_of_those_that_have_the_attribute(finished, data_dir):
    part = choose(open_faces(data_dir, ("Smiling",)), "Smiling", num_per_class=150, seed=0).train
    images = part.split.images(part.rows[part.labels], files.GRID) / 255
    np.testing.assert_allclose(kept(finished)["mean_image"], images.mean(axis=0), rtol=1e-12)


@pytest.mark.parametrize("attribute", files.PLACES)
def test_m_looks_where_the_attribute_is_and_this_helps(finished, attribute):
    summed = kept(finished, attribute)["diagonal"].sum(axis=-1)
    row, columns = files.PLACES[attribute]
    inside = np.zeros(summed.shape, bool)
    inside[row, columns] = True
    assert summed[inside].min() > 1.5 * summed[~inside].max()
    plain, learned = (value(finished, "test_accuracy", i, attribute=attribute) for i in (0, 1))
    assert learned > plain + 0.08


def test_files_of_a_run(finished):
    config = json.loads((finished / "config.json").read_text())
    assert config["attributes"] == ["Smiling", "Eyeglasses"]
    assert re.fullmatch("[0-9a-f]{64}", config["data_sha256"])
    assert {"data_dir", "workdir", "resume"}.isdisjoint(config)
    assert json.loads((finished / "environment.json").read_text())["num_devices"] == 1
    places = [(row["attribute"], row["iteration"]) for row in rows(finished)]
    assert places == sorted(places, key=lambda place: (config["attributes"].index(place[0]), place[1]))
    timings = [json.loads(line) for line in (finished / "timings.jsonl").read_text().splitlines()]
    assert [(row["attribute"], row["iteration"]) for row in timings] == list(dict.fromkeys(places))
    for name, length in (("feature_images", 2 * files.GRID**2 * 3), ("accuracies", 4)):
        assert (finished / "figures" / f"{name}.png").stat().st_size > 10_000
        assert (finished / "figures" / f"{name}.pdf").stat().st_size > 5_000
        with (finished / "figures" / f"{name}.csv").open() as file:
            assert len(list(csv.DictReader(file))) == length


def test_pictures_are_over_their_largest_entry_and_the_csv_has_their_numbers(finished):
    with (finished / "figures" / "feature_images.csv").open() as file:
        table = [row for row in csv.DictReader(file) if row["attribute"] == "Eyeglasses"]
    images = kept(finished, "Eyeglasses")
    drawn = {name: np.asarray([float(row[name]) for row in table]) for name, _ in celeba_figures.PICTURES}
    diagonal = images["diagonal"]
    np.testing.assert_allclose(drawn["diagonal"], diagonal.ravel() / diagonal.max(), rtol=1e-12)
    summed = np.repeat(diagonal.sum(axis=-1).ravel(), 3)
    np.testing.assert_allclose(drawn["channel_sum"], summed / summed.max(), rtol=1e-12)
    assert np.abs(drawn["top_eigenvector"]).max() == drawn["top_eigenvector"].max() == 1
    assert 0 < drawn["mean_image"].min() < drawn["mean_image"].max() < 1


@pytest.mark.parametrize("writes", [1, 7, 10, 11, 13, 20])
def test_a_run_killed_at_any_write_resumes_to_the_same_bytes(finished, run, tmp_path, writes):
    with killed_at_write(writes):
        run(tmp_path)
    run(tmp_path)
    assert (tmp_path / "metrics.jsonl").read_bytes() == (finished / "metrics.jsonl").read_bytes()
    for attribute in SMALL.attributes:
        assert checkpoint.digest(kept(tmp_path, attribute)) == checkpoint.digest(kept(finished, attribute))


def test_finished_attributes_are_loaded_and_damaged_ones_fitted_again(
    finished, run, tmp_path, monkeypatch, capsys
):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    whole = (finished / "metrics.jsonl").read_bytes()
    fit_attribute = celeba_runs.fit_attribute
    with monkeypatch.context() as patch:
        patch.setattr(celeba_runs, "fit_attribute", None)
        run(tmp_path)
    assert (tmp_path / "metrics.jsonl").read_bytes() == whole
    assert capsys.readouterr().out.count("loaded") == 2
    fitted = []

    def counted(session, seed, attribute, parts):
        fitted.append(attribute)
        return fit_attribute(session, seed, attribute, parts)

    monkeypatch.setattr(celeba_runs, "fit_attribute", counted)
    path = tmp_path / "checkpoints" / "seed_0" / "Eyeglasses.npz"
    path.write_bytes(path.read_bytes()[:500])
    run(tmp_path)
    assert fitted == ["Eyeglasses"]
    assert "Eyeglasses.npz is damaged" in capsys.readouterr().out
    assert (tmp_path / "metrics.jsonl").read_bytes() == whole
    with pytest.raises(RecordsError, match=r"(?s)another configuration.*ridge: 0.001 there, 0.1 now"):
        run(tmp_path, ridge=0.1)
    run(tmp_path, resume=False)
    assert fitted == ["Eyeglasses", *SMALL.attributes]


def test_other_data_under_the_same_options_are_refused(finished, run, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "data").mkdir()
    with pytest.raises(RecordsError, match=r"another configuration:\s+data_sha256"):
        run(tmp_path / "run", data_dir=files.prepare(tmp_path / "data", seed=1))


OPTIONS = {
    "attributes": ("Eyeglasses",),
    "image_size": 3,
    "num_per_class": 100,
    "bandwidth": 1.0,
    "ridge": 1.0,
    "agop_size": 100,
    "seeds": (1,),
    "precision": "float32",
}


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_changes_the_result(finished, run, tmp_path, option):
    changes = {"attributes": ("Smiling",)} | {option: OPTIONS[option]}
    run(tmp_path, **changes)
    error = "test_mean_squared_error"
    found = value(tmp_path, error, attribute=changes["attributes"][0])
    assert found != pytest.approx(value(finished, error), rel=1e-9)
    # What is measured before the first AGOP does not depend on how many gradients enter it.
    plain = value(tmp_path, error, 0, attribute=changes["attributes"][0])
    assert (plain == value(finished, error, 0)) == (option == "agop_size")


def test_more_iterations_and_seeds_add_rows_and_columns(finished, run, tmp_path, capsys):
    run(tmp_path, num_iters=2, seeds=(0, 1), attributes=("Smiling",))
    for metric in ("test_accuracy", "top_eigenvalue_share", "validation_mean_squared_error"):
        assert value(tmp_path, metric, 1, seed=0) == value(finished, metric, 1)
    assert value(tmp_path, "top_eigenvalue_share", 2) != value(tmp_path, "top_eigenvalue_share", 1)
    assert np.any(kept(tmp_path)["diagonal"] != kept(finished)["diagonal"])
    out = capsys.readouterr().out
    assert "AGOP 1" in out
    assert "AGOP 2" in out
    means = [np.mean([value(tmp_path, "test_accuracy", i, seed=s) for s in (0, 1)]) for i in (0, 2)]
    assert re.search(rf"mean .*{means[0]:.2%}.*{means[1]:.2%} +\{100 * (means[1] - means[0]):+.2f}", out)
    figure, table = celeba_figures.accuracies(celeba_figures.read_records(tmp_path))
    assert {(row["iteration"], row["num_seeds"]) for row in table} == {(0, 2), (1, 2), (2, 2)}
    assert "after 2 AGOP updates" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_table_is_printed_as_the_run_goes(run, tmp_path, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(celeba_runs, "iterates", killed_at("Eyeglasses", celeba_runs.iterates))
        with pytest.raises(KeyboardInterrupt, match="What is finished"):
            run(tmp_path)
    out = capsys.readouterr().out
    scores = [value(tmp_path, "test_accuracy", i) for i in (0, 1)]
    assert re.search(rf"Smiling +240 +60 +{scores[0]:.2%} +{scores[1]:.2%} +\+", out)
    assert re.search("attribute +train +test +plain Laplace +with AGOP +gain", out)
    assert "Eyeglasses   " not in out


def killed_at(name, iterates):
    def until(session, seed, attribute, sets):
        if attribute == name:
            raise KeyboardInterrupt
        return iterates(session, seed, attribute, sets)

    return until


def test_an_attribute_with_too_few_images_is_named(run, tmp_path):
    with pytest.raises(DataError, match="too few images for Wearing_Hat: the training split has 4 with it"):
        run(tmp_path, attributes=("Wearing_Hat",))


def test_damaged_records_are_named_where_figures_need_them(finished, tmp_path):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    (tmp_path / "arrays" / "Smiling.npz").unlink()
    with pytest.raises(RecordsError, match=r"records in .* cannot be read: .*Smiling\.npz"):
        celeba_figures.draw_figures(tmp_path)
