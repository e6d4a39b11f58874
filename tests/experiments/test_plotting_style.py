"""Names and settings that a figure must survive, and ticks that fit on it."""

import io

import matplotlib
import pytest

from experiments.support.plotting import draw_figures, drawing
from experiments.support.plotting.style import layer_ticks
from tests.experiments.plotting_runs import make_run

SMALL = {
    "depth": 3,
    "seeds": (0,),
    "num_classes": 4,
    "image_shape": (6, 6, 3),
    "input_size": 30,
    "num_blocks": 20,
}


@pytest.mark.parametrize(
    "dataset", ["$x_{", "$x_{$", "<b>", "100%", "$a$", r"\frac{", "two\nlines\x00", "\ud800", "n" * 500]
)
def test_hostile_dataset_names_are_shown_as_they_are(tmp_path, dataset):
    figure = drawing.FIGURES["agop_spectra"](make_run(tmp_path, **SMALL, dataset=dataset))[0]
    figure.savefig(io.BytesIO(), format="pdf")
    setting = next(artist.get_text() for artist in figure.artists)
    shown = setting.split(", n = 50,000")[0]
    assert not any(artist.get_parse_math() for artist in figure.artists)
    assert shown.isprintable()
    assert len(shown) <= 40
    if dataset.isprintable() and len(dataset) <= 40:
        assert shown == dataset


def test_the_reader_own_latex_setting_is_not_used(tmp_path, monkeypatch):
    name = "accuracy_by_layer"
    monkeypatch.setattr(drawing, "FIGURES", {name: drawing.FIGURES[name]})
    run = make_run(tmp_path, **SMALL)
    with matplotlib.rc_context({"text.usetex": True}):
        assert draw_figures(run)[0].exists()


@pytest.mark.parametrize("last", [1, 3, 10, 11, 16, 17, 20, 40, 41, 99, 1000])
def test_layer_ticks_start_at_one_and_stay_few(last):
    ticks = layer_ticks(last)
    assert ticks[0] == 1
    assert ticks[-1] <= last
    assert len(ticks) <= 10
    assert ticks == sorted(set(ticks))
