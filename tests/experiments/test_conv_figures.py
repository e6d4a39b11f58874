"""The figures of a convolutional RFM show what its records say."""

import json

import numpy as np
import pytest
from matplotlib.colors import to_hex

from experiments.support.checkpoint import load_arrays, save_arrays
from experiments.support.plotting import conv_figures
from experiments.support.plotting.conv_reading import read_records
from experiments.support.records import RecordsError
from tests.experiments.conv_runs_small import (
    NAMES,
    figure_of,
    make_run,
    read_rows,
    table_of,
    texts_of,
    write_rows,
)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    workdir = make_run(tmp_path_factory.mktemp("run"))
    return workdir, conv_figures.draw_figures(workdir)


def legend_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def kept(workdir):
    return load_arrays(workdir / "arrays" / "patches.npz")


def test_every_figure_is_written_three_times(drawn):
    workdir, paths = drawn
    assert paths == [workdir / "figures" / f"{name}.png" for name in NAMES]
    for path in paths:
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
        assert table_of(path.with_suffix(".csv"))


def test_the_table_by_iteration_equals_the_records(drawn):
    workdir, _ = drawn
    table = table_of(workdir / "figures" / "by_iteration.csv")
    published = [line for line in table if line["metric"] == "published_test_accuracy"]
    assert [(line["iteration"], line["mean"]) for line in published] == [("0", "0.7795"), ("1", "0.9483")]
    assert len(table) == 6 * 3 + 2
    for line in [line for line in table if line not in published]:
        of = [
            r
            for r in read_rows(workdir)
            if (r["metric"], str(r["iteration"])) == (line["metric"], line["iteration"])
        ]
        values = [row["value"] for row in of]
        assert float(line["mean"]) == pytest.approx(np.mean(values), rel=1e-14)
        assert (float(line["min"]), float(line["max"]), line["num_seeds"]) == (min(values), max(values), "2")


def test_lines_are_means_and_the_band_is_the_range_of_test_images(drawn):
    for axes, (low, high) in zip(
        figure_of(drawn[0], "by_iteration").axes, [(0.6, 0.92), (0.08, 0.4)], strict=True
    ):
        by_color = {line.get_color(): line for line in axes.lines if line.get_linestyle() != ":"}
        test = by_color[conv_figures.SETS["test"][0]]
        means = np.array([0.61, 0.91, 0.81])
        np.testing.assert_allclose(test.get_ydata(), means if low == 0.6 else 1 - means)
        assert by_color[conv_figures.SETS["train"][0]].get_linestyle() == "--"
        (band,) = axes.collections
        heights = band.get_paths()[0].vertices[:, 1]
        assert (heights.min(), heights.max()) == pytest.approx((low, high))


def test_what_validation_picks_is_marked_and_in_the_headline(drawn, tmp_path):
    figure = figure_of(drawn[0], "by_iteration")
    for axes in figure.axes:
        marks = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == ":"]
        assert marks == [1, 2]
    texts = texts_of(figure)
    assert texts.count("1 of 2 seeds") == 4
    # Seed 0 picks iteration 1, seed 1 iteration 2: the mean of 0.9 and 0.82.
    assert "Test accuracy: 61.0% plain, 86.0% at the iteration that validation picks" in texts
    assert "picked by validation" in legend_of(figure)
    one = figure_of(make_run(tmp_path, seeds=[3], picks=(1,)), "by_iteration")
    assert "picked" in texts_of(one)
    assert "test images" in legend_of(one)


def test_without_validation_the_last_iteration_is_shown(tmp_path):
    workdir = make_run(tmp_path, picks=())
    figure = figure_of(workdir, "by_iteration")
    assert not [line for line in figure.axes[0].lines if line.get_linestyle() == ":"]
    assert "Test accuracy: 61.0% plain, 81.0% after 2 AGOP updates" in texts_of(figure)
    assert legend_of(figure)[:2] == ["test images, mean and range", "training images"]
    assert "Images filtered by the top eigenvectors of M of iteration 2" in texts_of(
        figure_of(workdir, "filtered_images")
    )


@pytest.mark.parametrize(
    ("dataset", "marks", "slides"),
    [("noisy_mnist", 4, "72.55% to 79.03%"), ("svhn", 0, "81.38% to 85.02%"), ("folder", 0, None)],
)
def test_published_values_stand_beside(tmp_path, dataset, marks, slides):
    figure = figure_of(make_run(tmp_path, dataset=dataset), "by_iteration")
    found = [line for line in figure.axes[0].lines if to_hex(line.get_color()) == conv_figures.NOTEBOOK[0]]
    assert sum(len(line.get_xdata()) for line in found) == marks
    legend = legend_of(figure)
    notebook = ["published notebook, n = 4,000, patch 3, depth 3"] if marks else []
    assert [entry for entry in legend if "notebook" in entry] == notebook
    assert [entry for entry in legend if "slides" in entry] == (
        [f"slides: {slides} (setting not known)"] if slides else []
    )


def test_eigenpatches_stand_with_their_shares(drawn):
    workdir, _ = drawn
    arrays = kept(workdir)
    figure = figure_of(workdir, "eigenpatches")
    pictures = [axes for axes in figure.axes if axes.images]
    assert len(pictures) == 3 * 8
    shares = [values / values.sum() for values in arrays["eigenvalues"]]
    titles = [axes.get_title() for axes in pictures if axes.get_title()]
    assert titles == [f"{100 * share:.3g}%" for t in (1, 2) for share in shares[t][:8]]
    first = np.asarray(pictures[0].images[0].get_array())
    np.testing.assert_allclose(first, 0.5 + 0.5 * arrays["eigenpatches"][0, 0], atol=1e-6)
    last = np.asarray(pictures[17].images[0].get_array())
    np.testing.assert_allclose(last, 0.5 + 0.5 * arrays["eigenpatches"][1, 1], atol=1e-6)
    # Below the eigenvectors of the iteration that is shown: the patches that they are largest on.
    below = [axes.get_xlabel() for axes in pictures[8:16]]
    owners = zip(arrays["strongest_labels"], arrays["strongest_cosines"], strict=True)
    assert below == [f"{['noise', 'star'][label]}\ncos {cosine:.2f}" for label, cosine in owners]
    spectrum = figure.axes[-1]
    np.testing.assert_allclose(spectrum.lines[1].get_ydata(), shares[2], rtol=1e-5)
    assert spectrum.lines[2].get_ydata()[0] == pytest.approx(1 / 27)
    table = table_of(workdir / "figures" / "eigenpatches.csv")
    assert len(table) == 2 * 8 * 27
    assert float(table[0]["value"]) == pytest.approx(arrays["eigenpatches"][0, 0, 0, 0, 0])


@pytest.mark.parametrize(("padding", "stride"), [("valid", 1), ("same", 2), ("valid", 2)])
def test_maps_lie_at_the_centers_of_their_patches(tmp_path, padding, stride):
    workdir = make_run(tmp_path, padding=padding, stride=stride)
    arrays = kept(workdir)
    figure = figure_of(workdir, "filtered_images")
    # A row is an eigenvector, the maps of 6 images, and their scale; the first row is of the images.
    axes = figure.axes[8 + 1]
    np.testing.assert_allclose(np.asarray(axes.images[0].get_array()), arrays["filtered"][0, 0])
    left, right, bottom, top = axes.images[0].get_extent()
    rows, columns = arrays["filtered"].shape[2:]
    assert ((right - left) / columns, (bottom - top) / rows) == (stride, stride)
    # The first patch of 9 rows and 8 columns begins at 0, or at the margin: 1 above, none at the left.
    first = {("valid", 1): (1, 1), ("same", 2): (0, 1), ("valid", 2): (1, 1)}[padding, stride]
    assert (top + stride / 2, left + stride / 2) == first
    assert axes.get_xlim() == (-0.5, 7.5)


def test_maps_of_a_row_share_their_scale(drawn):
    workdir, _ = drawn
    arrays = kept(workdir)
    for name, maps in (
        ("filtered_images", arrays["filtered"][:, 0]),
        ("transformed_images", arrays["norms_before"]),
    ):
        shown = [axes.images[0] for axes in figure_of(workdir, name).axes if axes.images]
        row = [
            image
            for image in shown
            if image.get_cmap().name in ("RdBu_r", "cividis") and image.get_array().ndim == 2
        ]
        largest = np.abs(maps).max()
        low = -largest if name == "filtered_images" else 0
        assert {image.get_clim() for image in row[: len(maps)]} == {(low, largest)}
    table = table_of(workdir / "figures" / "transformed_images.csv")
    found = [float(line["norm_after"]) for line in table]
    np.testing.assert_allclose(found, arrays["norms_after"].ravel(), rtol=1e-6)


def test_one_channel_is_gray_and_signed_red_and_blue(tmp_path):
    workdir = make_run(tmp_path, channels=1)
    figure = figure_of(workdir, "transformed_images")
    after = figure.axes[2 * 7].images[0]
    assert (after.get_cmap().name, after.get_clim()) == ("RdBu_r", (-1, 1))
    images = kept(workdir)["transformed_images"]
    np.testing.assert_allclose(
        np.asarray(after.get_array()), images[0, ..., 0] / np.abs(images).max(), rtol=1e-6
    )
    assert figure.axes[0].images[0].get_cmap().name == "gray"
    assert any("white zero" in text.replace("\n", " ") for text in texts_of(figure))


def test_pixels_in_0_to_1_are_drawn_as_they_are(tmp_path):
    workdir = make_run(tmp_path)
    assert any("pixels from -2." in text for text in texts_of(figure_of(workdir, "samples")))
    arrays = kept(workdir)
    arrays["sample_images"] = np.clip(arrays["sample_images"], 0.25, 0.75)
    save_arrays(workdir / "arrays" / "patches.npz", arrays)
    figure = figure_of(workdir, "samples")
    assert "held-out images; pixels from 0 (black) to 1 (white)" in texts_of(figure)
    shown = figure.axes[0].images[0].get_array()
    np.testing.assert_array_equal(np.asarray(shown), arrays["sample_images"][0])


def test_a_row_of_samples_is_a_class(drawn):
    workdir, _ = drawn
    arrays = kept(workdir)
    figure = figure_of(workdir, "samples")
    drawn_images = [np.asarray(axes.images[0].get_array()) for axes in figure.axes]
    low, high = np.quantile(arrays["sample_images"], (0.005, 0.995))
    want = np.clip((arrays["sample_images"] - low) / (high - low), 0, 1)
    np.testing.assert_allclose(drawn_images, want, atol=1e-5)
    table = table_of(workdir / "figures" / "samples.csv")
    assert [line["class_name"] for line in table] == ["noise"] * 3 + ["star"] * 3
    for line, image in zip(table, arrays["sample_images"], strict=True):
        found = [float(line[name]) for name in ("smallest", "mean", "largest")]
        np.testing.assert_allclose(found, [image.min(), image.mean(), image.max()], rtol=1e-4, atol=1e-6)


def test_few_of_many_classes_are_samples(tmp_path):
    names = [f"class {k}" for k in range(12)]
    figure, table = conv_figures.samples(read_records(make_run(tmp_path, class_names=names)))
    assert sorted({row["class_name"] for row in table}) == sorted(names[:10])
    assert any("the first 10 of 12 classes" in text for text in texts_of(figure))


def test_damaged_records_are_named(tmp_path):
    workdir = make_run(tmp_path)
    rows = read_rows(workdir)
    write_rows(workdir, [row for row in rows if (row["seed"], row["iteration"]) != (1, 2)])
    with pytest.raises(
        RecordsError, match="no test_accuracy of 1 of 6 fits, the first of seed 1, iteration 2"
    ):
        conv_figures.draw_figures(workdir)
    write_rows(workdir, rows)
    path = workdir / "arrays" / "patches.npz"
    arrays = kept(workdir)
    save_arrays(path, {name: array for name, array in arrays.items() if name != "filtered"})
    with pytest.raises(RecordsError, match=r"patches\.npz lacks filtered; delete it"):
        conv_figures.draw_figures(workdir)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RecordsError, match=r"cannot be read: .*patches\.npz is damaged"):
        conv_figures.draw_figures(workdir)
    (workdir / "config.json").write_text(json.dumps({})[:1])
    with pytest.raises(RecordsError, match=r"records in .* cannot be read"):
        conv_figures.draw_figures(workdir)
    assert not (workdir / "figures").exists()
