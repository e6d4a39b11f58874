"""What the page of a network shows of the AGOP at its layers, and how large it may become."""

import json

import jax
import jax.numpy as jnp
import numpy as np

from dnc_jax import agop
from dnc_jax.networks import Dense
from experiments import report
from experiments.support.checkpoint import load_arrays, save_arrays
from experiments.support.network_measures import measure_agops
from experiments.support.report.frames import MOST_VALUES
from experiments.support.snapshots import (
    MAX_LENGTH,
    NUM_EIGENVECTORS,
    agop_arrays,
    epoch_arrays,
    layer_arrays,
)
from tests.experiments import plotting_runs
from tests.experiments.report_runs import data_in, heat_of, make_network, page_of


def test_agops_are_kept_as_their_spectra_and_eigenvectors():
    rng = np.random.default_rng(0)
    shapes = ((30, 12), (12, 12), (9, 12))
    weights = [rng.normal(size=shape) for shape in shapes]
    roots = [rng.normal(size=(shape[1], 4)) for shape in shapes]
    kept = agop_arrays([jnp.asarray(w) for w in weights], [jnp.asarray(r @ r.T) for r in roots])
    for number, (matrix, root) in enumerate(zip(weights, roots, strict=True), 1):
        agop = matrix @ root @ root.T @ matrix.T
        spectrum, vectors = kept[f"agop_spectrum_{number:02d}"], kept[f"agop_eigenvectors_{number:02d}"]
        expected = np.linalg.eigvalsh(agop)[::-1][: min(matrix.shape)]
        np.testing.assert_allclose(spectrum, expected, atol=1e-5 * expected[0])
        assert vectors.shape == (NUM_EIGENVECTORS, len(matrix))
        np.testing.assert_allclose(vectors[:4] @ vectors[:4].T, np.eye(4), atol=1e-5)
        np.testing.assert_allclose(vectors[:4] @ agop, spectrum[:4, None] * vectors[:4], rtol=0, atol=1e-2)


def test_spectra_are_of_the_agop_at_the_input_of_a_layer():
    rng = np.random.default_rng(1)
    first = Dense(jnp.asarray(rng.normal(size=(7, 5))), jnp.asarray(rng.normal(size=5)), jax.nn.relu)
    layers = [first, Dense(jnp.asarray(rng.normal(size=(5, 3))), jnp.zeros(3))]
    x = jnp.asarray(rng.normal(size=(20, 7)))
    kept = agop_arrays([layer.matrix for layer in layers], measure_agops(layers, x))
    for number, fn, points in ((1, lambda row: layers[1](first(row)), x), (2, layers[1], first(x))):
        expected = np.linalg.eigvalsh(agop(fn, points))[::-1]
        spectrum = kept[f"agop_spectrum_{number:02d}"]
        np.testing.assert_allclose(spectrum, expected[: len(spectrum)], atol=1e-5 * expected[0])


def test_cosines_of_points_are_those_that_a_layer_of_deep_rfm_keeps():
    rng, labels = np.random.default_rng(2), np.arange(30) % 3
    features = np.eye(3)[labels] + rng.normal(size=(30, 3))
    kept = epoch_arrays(jnp.asarray(features), jnp.asarray(labels), 3)
    expected = layer_arrays(np.eye(3), {"input": features}, labels, 3)
    np.testing.assert_allclose(kept["gram"], expected["gram_input"], atol=1e-6)
    np.testing.assert_array_equal(kept["gram_class_edges"], [0, 10, 20, 30])


def test_a_network_shows_the_cosines_of_its_points(tmp_path):
    path = make_network(tmp_path / "run")
    found = data_in(page_of(path))
    assert [figure["name"] for figure in found["figures"]][:2] == ["gram", "heat"]
    frame = found["runs"][0]["views"][0]["frames"]["5"]
    gram = load_arrays(path / "arrays" / "epoch_00005.npz")["gram"]
    np.testing.assert_allclose(heat_of(frame["gram"]), gram, atol=0.51 / 127)
    assert "collapsed: 1 and −0.25" in frame["gram"]["caption"]


def test_long_eigenvectors_are_kept_of_the_first_layer_alone():
    long = jnp.ones((MAX_LENGTH + 1, 2))
    kept = agop_arrays([long, long], [jnp.eye(2), jnp.eye(2)])
    assert "agop_eigenvectors_01" in kept
    assert "agop_eigenvectors_02" not in kept
    assert "agop_spectrum_02" in kept


def test_every_layer_of_a_network_shows_its_agop(tmp_path):
    path = make_network(tmp_path / "run", image_shape=[8, 8, 3])
    found = data_in(page_of(path))
    assert [figure["name"] for figure in found["figures"]][-2:] == ["spectrum", "vectors"]
    arrays = load_arrays(path / "arrays" / "epoch_00005.npz")
    for number, view in enumerate(found["runs"][0]["views"], 1):
        spectrum = arrays[f"agop_spectrum_{number:02d}"]
        shown = view["frames"]["5"]["spectrum"]["values"]
        np.testing.assert_allclose(shown, spectrum / spectrum.max(), rtol=6e-3)
    # Of a convolution, its patches.
    shapes = [view["frames"]["5"]["vectors"]["shape"] for view in found["runs"][0]["views"]]
    assert shapes == [[3, 3, 3], None]
    whole = make_network(tmp_path / "whole", image_shape=[3, 9, 1])
    views = data_in(page_of(whole))["runs"][0]["views"]
    assert views[0]["frames"]["0"]["vectors"]["shape"] == [3, 9, 1]
    assert "heat" not in views[1]["frames"]["0"]


def test_a_network_of_an_older_version_says_what_is_not_recorded(tmp_path):
    path = make_network(tmp_path / "run")
    for file in (path / "arrays").iterdir():
        older = ("agop", "gram")
        kept = {name: array for name, array in load_arrays(file).items() if not name.startswith(older)}
        save_arrays(file, kept)
    found = data_in(page_of(path))
    assert not {"spectrum", "gram"} & {figure["name"] for figure in found["figures"]}
    assert "heat" in {figure["name"] for figure in found["figures"]}
    assert "Cosines of points are not recorded in run" in found["note"]
    assert found["note"].startswith("Spectra of AGOPs are not recorded in run")
    assert data_in(page_of(make_network(tmp_path / "new")))["note"] == ""


def test_the_page_of_a_wide_network_measured_often_stays_small(tmp_path):
    path, epochs = make_network(tmp_path / "run", seeds=(0,), image_shape=[32, 32, 3]), 100
    rows = [row for row in plotting_runs.read_rows(path) if row["epoch"] == 0]
    rows = [row | {"epoch": at} for at in range(epochs + 1) for row in rows]
    plotting_runs.write_rows(path, rows)
    (path / "config.json").write_text(
        json.dumps(json.loads((path / "config.json").read_text()) | {"epochs": epochs})
    )
    rng, file = np.random.default_rng(0), path / "arrays" / "epoch_00000.npz"
    arrays = load_arrays(file)
    arrays |= {f"agop_spectrum_{number:02d}": rng.uniform(size=1000) for number in (1, 2)}
    arrays |= {"agop_eigenvectors_01": rng.normal(size=(8, 3072)).astype(np.float32)}
    arrays |= {"agop_eigenvectors_02": rng.normal(size=(8, 1000)).astype(np.float32)}
    units = rng.normal(size=(200, 10))
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    arrays |= {"gram": units @ units.T, "gram_class_edges": np.linspace(0, 200, 11)}
    for at in range(epochs + 1):
        save_arrays(file.with_name(f"epoch_{at:05d}.npz"), arrays)
    page = report.main(report.Config(runs=(path,)))
    assert page.stat().st_size < 10e6
    first, second = data_in(page.read_text())["runs"][0]["views"]
    spectrum = first["frames"]["7"]["spectrum"]
    assert (spectrum["index"][0], spectrum["index"][-1]) == (1, 1000)
    assert len(spectrum["values"]) == len(spectrum["index"]) <= MOST_VALUES
    assert len(first["frames"]["7"]["vectors"]["vectors"]) == 4
    assert len(second["frames"]["7"]["vectors"]["vectors"]) == 8
