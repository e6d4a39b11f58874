"""Names and settings that figures of a convolutional RFM must survive, and what they say of them."""

import io
import itertools

import pytest

from experiments.support.plotting import conv_figures
from tests.experiments.conv_runs_small import NAMES, figure_of, make_run, table_of, texts_of

HOSTILE = ["$x_{$", "100%", r"\frac{", "two\nlines\x00", "\ud800", " ", "W" * 500, "n m " * 99]


@pytest.mark.parametrize("figure_name", NAMES)
def test_hostile_class_names_are_shown_as_they_are(tmp_path, figure_name):
    figure = figure_of(make_run(tmp_path, class_names=HOSTILE, dataset="folder"), figure_name)
    figure.savefig(io.BytesIO(), format="pdf")
    texts = texts_of(figure)
    lines = [line for text in texts for line in text.splitlines()]
    assert all(line.isprintable() for line in lines)
    if figure_name == "samples":
        assert {"$x_{$", "100%", r"\frac{", "two lines", "class 4", "class 5"} <= set(texts)
    if figure_name == "filtered_images":
        assert all(len(line) <= 16 for axes in figure.axes for line in axes.get_title().splitlines())
        # No title is wider than its picture and half of what lies between two.
        for axes in figure.axes[1:7]:
            picture = axes.get_window_extent()
            assert axes.title.get_window_extent().width < 1.2 * picture.width


def test_a_class_whose_name_is_no_text_has_its_row_in_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr(conv_figures, "FIGURES", {"samples": conv_figures.samples})
    workdir = make_run(tmp_path, class_names=["caf\udce9", "two\nlines"])
    conv_figures.draw_figures(workdir)
    names = {line["class_name"] for line in table_of(workdir / "figures" / "samples.csv")}
    assert names == {r"caf\udce9", "two\nlines"}


@pytest.mark.parametrize(
    ("title", "name"), [*zip(HOSTILE, itertools.repeat("samples")), *zip(["W" * 40] * 5, NAMES, strict=True)]
)
def test_the_setting_fits_whatever_the_title(tmp_path, title, name):
    workdir = make_run(tmp_path, title=title, padding="same", stride=2, pooling=True, agop_size=20)
    figure = figure_of(workdir, name)
    figure.draw_without_rendering()
    (setting,) = figure.artists
    assert all(line.isprintable() for line in setting.get_text().splitlines())
    whole, found = figure.get_window_extent(), setting.get_window_extent()
    assert whole.x0 <= found.x0 < found.x1 <= whole.x1
    # Below the headline, above the panels.
    assert found.y0 > max(axes.get_window_extent().y1 for axes in figure.axes)


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ({"padding": "same"}, "padding same"),
        ({"stride": 2}, "stride 2"),
        ({"pooling": True}, "pooling"),
        ({"agop_size": 20}, "AGOP of 20 images"),
    ],
)
def test_what_is_unusual_is_in_the_setting(tmp_path, option, text):
    def setting(workdir):
        figure = figure_of(workdir, "by_iteration")
        (found,) = [artist.get_text() for artist in figure.artists]
        return found.replace("\n", " ")

    assert setting(make_run(tmp_path / "usual")) == (
        "Stars in noise, 50 training images, convolutional NTK of depth 1, patches 3 x 3, "
        "ridge 0.001, float64, 2 seeds"
    )
    assert f", {text}, " in setting(make_run(tmp_path / "unusual", **option))
