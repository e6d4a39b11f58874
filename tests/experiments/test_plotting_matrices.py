"""Heat maps, spectra and eigenvectors show the recorded arrays of the first seed."""

import numpy as np
import pytest

from experiments.support.plotting import drawing
from experiments.support.plotting.agop_figures import agop_spectra, spectrum_table
from experiments.support.plotting.first_layer import eigenvalue_shares, signed_image
from experiments.support.plotting.heat_maps import GramMaps, class_cosine_table, selected_layers
from experiments.support.plotting.reading import read_config
from tests.experiments.plotting_runs import make_run

SMALL = {"depth": 3, "num_classes": 4, "image_shape": (6, 6, 3), "input_size": 30, "num_blocks": 20}


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run", **SMALL)


@pytest.mark.parametrize(
    ("depth", "expected"),
    [(1, [1]), (5, [1, 2, 3, 4, 5]), (6, [1, 2, 3, 5, 6]), (12, [1, 4, 7, 9, 12]), (20, [1, 3, 7, 13, 19])],
)
def test_selected_layers(depth, expected):
    assert selected_layers(range(1, depth + 1)) == expected


def test_heat_maps_share_one_scale_and_mark_the_classes(run):
    figure = drawing.FIGURES["gram_heat_maps"](run)[0]
    images = [axes.images[0] for axes in figure.axes if axes.images]
    assert [image.get_clim() for image in images] == [(-1, 1)] * 9
    assert all(list(image.axes.get_xticks()) == [0, 5, 10, 15, 20] for image in images)
    with np.load(run / "arrays" / "layer_02.npz") as arrays:
        np.testing.assert_array_equal(images[4].get_array(), arrays["gram_linear"])


def test_class_cosines_are_means_over_the_blocks_of_two_classes():
    gram = np.array([[1.0, 0.5, -0.5], [0.5, 1.0, -0.25], [-0.5, -0.25, 1.0]])
    table = class_cosine_table({4: GramMaps({"input": gram}, np.array([0, 2, 3]))})
    assert [(line["class_row"], line["class_column"], line["mean_cosine"]) for line in table] == [
        (0, 0, 0.75),
        (0, 1, -0.375),
        (1, 1, 1.0),
    ]


def test_spectra_are_clipped_at_the_floor_of_the_precision_but_not_in_the_table(tmp_path):
    spectrum = {1: np.array([2.0, 1.0, 2e-9, -1e-20])}
    heights = {}
    for precision in ("float32", "float64", "mixed"):
        config = read_config(make_run(tmp_path / precision, depth=1, seeds=(0,), precision=precision))
        heights[precision] = list(agop_spectra(spectrum, config).axes[0].lines[0].get_ydata())
        table = spectrum_table(spectrum, config)
        assert [line["relative_eigenvalue"] for line in table] == [1.0, 0.5, 1e-9, -5e-21]
        assert [line["below_floor"] for line in table] == [False, False, precision == "float32", True]
    assert heights["float32"] == [1.0, 0.5, 2.0**-23, 2.0**-23]
    assert heights["float64"] == [1.0, 0.5, 1e-9, 2.0**-52]
    assert heights["mixed"] == [1.0, 0.5, 1e-9, 2.0**-46]


def test_eigenvector_colors_are_symmetric_about_the_middle():
    vector = np.array([-2.0, 0.0, 1.0]).reshape(1, 1, 3)
    np.testing.assert_array_equal(signed_image(vector), [[[0.0, 0.5, 0.75]]])
    np.testing.assert_array_equal(signed_image(-vector), [[[1.0, 0.5, 0.25]]])
    np.testing.assert_array_equal(signed_image(vector[..., :1]), [[-1.0]])
    np.testing.assert_array_equal(signed_image(np.zeros((1, 1, 1))), [[0.0]])


def test_first_layer_titles_are_shares_of_the_sum(run):
    figure, table = drawing.FIGURES["agop_first_layer"](run)
    with np.load(run / "arrays" / "layer_01.npz") as arrays:
        shares = eigenvalue_shares(arrays["agop_spectrum"])
        diagonal = arrays["agop_diagonal"].reshape(6, 6, 3).sum(axis=-1)
    assert shares.sum() == pytest.approx(1)
    assert [axes.get_title() for axes in figure.axes[:8]] == [f"{100 * share:.2g}%" for share in shares[:8]]
    np.testing.assert_allclose(figure.axes[8].images[0].get_array(), diagonal)
    assert len(table) == 9 * 6 * 6 * 3
    assert sum(line["value"] for line in table if line["image"] == "diagonal") == pytest.approx(
        diagonal.sum()
    )


def test_gray_images_are_drawn_on_a_symmetric_scale(tmp_path):
    run = make_run(tmp_path, **SMALL | {"image_shape": (6, 6, 1)})
    images = [axes.images[0] for axes in drawing.FIGURES["agop_first_layer"](run)[0].axes[:8]]
    assert all(image.get_clim() == (-1, 1) for image in images)
    assert all(np.abs(image.get_array()).max() == 1 for image in images)


def test_matrices_below_the_floor_are_marked(tmp_path):
    run = make_run(tmp_path, **SMALL, floor_from=2)
    figure, table = drawing.FIGURES["gram_heat_maps"](run)
    notes = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert "~ below floor" in notes
    assert {line["below_floor"] for line in table if line["layer"] == 1} == {False}
    assert {line["below_floor"] for line in table if line["layer"] == 3} == {True}
    figure, table = drawing.FIGURES["agop_spectra"](run)
    styles = [line.get_linestyle() for line in figure.axes[0].lines[:3]]
    assert styles == ["-", "--", "--"]
    assert all(line["below_floor"] for line in table if line["layer"] == 3)
    assert any(text.get_text().startswith("dashed: from layer 2 on") for text in figure.axes[0].texts)
