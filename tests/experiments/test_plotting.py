"""The figures of a run show what its records say, and nothing else."""

import csv
import io

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from experiments.support.plotting import draw_figures, drawing
from experiments.support.plotting.layer_curves import BELOW_FLOOR
from experiments.support.plotting.reading import STAGES
from experiments.support.plotting.style import STAGE_STYLES
from tests.experiments.plotting_runs import make_run, read_rows, write_rows

NAMES = ["collapse_by_layer", "accuracy_by_layer", "gram_heat_maps", "agop_spectra", "agop_first_layer"]
SMALL = {"depth": 3, "num_classes": 4, "image_shape": (6, 6, 3), "input_size": 30, "num_blocks": 20}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    workdir = make_run(tmp_path_factory.mktemp("run"), **SMALL, floor_from=2)
    return workdir, draw_figures(workdir)


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run", **SMALL)


def figure_of(workdir, name):
    return drawing.FIGURES[name](workdir)[0]


def table_of(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def legend_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def draw_only(monkeypatch, name):
    monkeypatch.setattr(drawing, "FIGURES", {name: drawing.FIGURES[name]})


def change_rows(workdir, change):
    write_rows(workdir, [change(row) or row for row in read_rows(workdir)])


def test_every_figure_is_written_three_times(drawn):
    workdir, paths = drawn
    assert paths == [workdir / "figures" / f"{name}.png" for name in NAMES]
    assert {p.name for p in (workdir / "figures").iterdir()} == {
        f"{name}.{ending}" for name in NAMES for ending in ("png", "pdf", "csv")
    }
    for path in paths:
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size > 20_000
        assert path.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
        assert len(table_of(path.with_suffix(".csv"))) > 10


def test_collapse_table_equals_the_records(drawn):
    workdir, _ = drawn
    table = table_of(workdir / "figures" / "collapse_by_layer.csv")
    assert len(table) == 4 * 3 * 3
    for line in table:
        keys = (line["metric"], line["stage"], line["layer"])
        rows = [r for r in read_rows(workdir) if (r["metric"], r["stage"], str(r["layer"])) == keys]
        values = [row["value"] for row in rows]
        assert float(line["mean"]) == pytest.approx(np.mean(values), rel=1e-14)
        assert (float(line["min"]), float(line["max"])) == (min(values), max(values))
        assert (line["num_seeds"], line["num_dropped"]) == ("3", "0")
        assert line["below_floor"] == str(line["metric"] == "nc1" and int(line["layer"]) >= 2)


def test_the_band_reaches_from_min_to_max(drawn):
    workdir, _ = drawn
    axes = figure_of(workdir, "collapse_by_layer").axes[0]
    values = {
        s: [r["value"] for r in read_rows(workdir) if (r["metric"], r["stage"]) == ("nc1", s)] for s in STAGES
    }
    assert len(axes.collections) == 3
    for stage, band in zip(STAGES, axes.collections, strict=True):
        heights = band.get_paths()[0].vertices[:, 1]
        assert (heights.min(), heights.max()) == (min(values[stage]), max(values[stage]))


def test_held_out_is_dashed_and_training_solid(run):
    lines = {line.get_label(): line for line in figure_of(run, "collapse_by_layer").axes[1].lines}
    assert (lines["nc2"].get_linestyle(), lines["test_nc2"].get_linestyle()) == ("-", "--")
    assert lines["nc2"].get_linewidth() > lines["test_nc2"].get_linewidth()


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_points_below_the_floor_are_hollow(tmp_path, precision):
    figure = figure_of(make_run(tmp_path, **SMALL, floor_from=2, precision=precision), "collapse_by_layer")
    hollow = [
        line for line in figure.axes[0].lines if line.get_gid() == BELOW_FLOOR and len(line.get_xdata())
    ]
    assert [line.get_markeredgecolor() for line in hollow] == [STAGE_STYLES[s].color for s in STAGES]
    for line in hollow:
        assert list(line.get_xdata()) == [2, 3]
        assert to_hex(line.get_markerfacecolor()) == "#ffffff"
    filled = [line for line in figure.axes[0].lines if line.get_label() == "nc1"]
    assert all(np.isnan(line.get_ydata()).tolist() == [False, True, True] for line in filled)
    assert f"below {precision} floor" in legend_of(figure)


def test_no_floor_in_the_legend_without_points_below_it(run):
    assert not any("floor" in entry for entry in legend_of(figure_of(run, "collapse_by_layer")))


def test_undrawable_values_are_dropped_and_counted(run):
    def spoil(row):
        if (row["metric"], row["layer"], row["stage"]) == ("nc1", 2, "linear"):
            row["value"] = [0.0, float("nan"), 0.5][row["seed"]]

    change_rows(run, spoil)
    figure, table = drawing.FIGURES["collapse_by_layer"](run)
    point = next(p for p in table if (p["metric"], p["layer"], p["stage"]) == ("nc1", 2, "linear"))
    assert (point["mean"], point["num_seeds"], point["num_dropped"]) == (0.5, 1, 2)
    assert figure.axes[0].get_xlabel() == "layer\n(2 values not drawn: zero, negative or not finite)"
    assert figure.axes[1].get_xlabel() == "layer"


def test_a_panel_without_drawable_values_says_so(run):
    change_rows(run, lambda row: row.update(value=0.0) if row["metric"].endswith("nc2") else None)
    figure = figure_of(run, "collapse_by_layer")
    figure.savefig(io.BytesIO(), format="png")
    assert [[text.get_text() for text in axes.texts] for axes in figure.axes] == [[], ["no value to draw"]]


def test_a_number_measured_again_replaces_the_older_one(run):
    again = {"seed": 0, "layer": 1, "stage": "machine", "metric": "train_accuracy", "value": 0.25}
    write_rows(run, [*read_rows(run), again])
    _, table = drawing.FIGURES["accuracy_by_layer"](run)
    point = next(p for p in table if (p["metric"], p["layer"]) == ("train_accuracy", 1))
    assert (point["min"], point["num_seeds"]) == (0.25, 3)


def test_one_seed_one_layer_two_classes_no_image_no_held_out(tmp_path):
    run = make_run(tmp_path, depth=1, seeds=(7,), num_classes=2, image_shape=None, input_size=5, num_blocks=2)
    write_rows(run, [row for row in read_rows(run) if not row["metric"].startswith("test_")])
    assert len(draw_figures(run)) == len(NAMES)
    legend = legend_of(figure_of(run, "collapse_by_layer"))
    assert "training points" in legend
    assert not any("held-out" in entry or "seeds" in entry for entry in legend)


@pytest.mark.parametrize("name", ["collapse_by_layer", "gram_heat_maps"])
def test_equal_records_give_equal_bytes(drawn, monkeypatch, name):
    workdir, _ = drawn
    before = [(workdir / "figures" / f"{name}.{ending}").read_bytes() for ending in ("png", "pdf", "csv")]
    draw_only(monkeypatch, name)
    draw_figures(workdir)
    assert before == [(workdir / "figures" / f"{name}.{e}").read_bytes() for e in ("png", "pdf", "csv")]


def test_a_failed_write_leaves_the_old_figure(run, monkeypatch):
    draw_only(monkeypatch, "agop_spectra")
    (old,) = draw_figures(run)
    before = old.read_bytes()

    def fail(self, path, **options):
        path.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        draw_figures(run)
    assert old.read_bytes() == before
    assert not list(old.parent.glob(".*"))
