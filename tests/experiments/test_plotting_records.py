"""A missing or damaged record is named, with what to do about it."""

import json

import numpy as np
import pytest

from experiments.support.plotting import draw_figures, drawing
from experiments.support.records import RecordsError
from tests.experiments.plotting_runs import make_run, read_rows, write_rows

SMALL = {"depth": 2, "num_classes": 2, "image_shape": (2, 2, 1), "input_size": 4, "num_blocks": 4}


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run", **SMALL)


def set_config(run, **changes):
    path = run / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def set_arrays(run, layer, **changes):
    path = run / "arrays" / f"layer_{layer:02d}.npz"
    with np.load(path) as stored:
        arrays = dict(stored) | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})


def draw(run, name):
    return drawing.FIGURES[name](run)


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "arrays/layer_02.npz"])
def test_missing_file(run, name):
    (run / name).unlink()
    with pytest.raises(
        RecordsError, match=rf"a record is missing: got no file .*{name}.*; check the workdir"
    ):
        draw_figures(run)


def test_nothing_is_written_where_a_record_is_missing(run):
    (run / "arrays" / "layer_02.npz").unlink()
    with pytest.raises(RecordsError, match="a record is missing"):
        draw_figures(run)
    assert not (run / "figures").exists()


def test_missing_workdir(tmp_path):
    with pytest.raises(RecordsError, match="a record is missing"):
        draw_figures(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ['{"dataset": ', "[1, 2]"])
def test_damaged_config(run, text):
    (run / "config.json").write_text(text)
    with pytest.raises(
        RecordsError, match=r"config.json is damaged: got .*, expected a JSON object; run the"
    ):
        draw_figures(run)


def test_text_that_is_no_text(run):
    (run / "config.json").write_bytes(b"\xff\xfe")
    with pytest.raises(RecordsError, match="got bytes that are not text, expected UTF-8; restore it"):
        draw_figures(run)


def test_config_without_ridge(run):
    path = run / "config.json"
    config = json.loads(path.read_text())
    del config["ridge"]
    path.write_text(json.dumps(config))
    with pytest.raises(RecordsError, match=r"config.json lacks 'ridge': got .*; correct the record"):
        draw_figures(run)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_train": "many"}, "'num_train' in .* has the wrong type: got 'many'"),
        ({"num_train": True}, "'num_train' in .* has the wrong type: got True"),
        (
            {"precision": "float8"},
            "precision in .* is unknown: got 'float8', expected one of float32, float64, mixed",
        ),
        ({"seeds": []}, r"seeds in .* is empty: got \[\]"),
        ({"seeds": [5]}, "lacks the first seed: got no row of seed 5"),
        ({"image_shape": [2, 2]}, r"image_shape in .* is malformed: got \[2, 2\], expected \[height, width"),
        (
            {"image_shape": [2, 3, 1]},
            r"does not fit the first layer's M: got \[2, 3, 1\], expected a product of 4",
        ),
    ],
)
def test_unusable_config(run, changes, message):
    set_config(run, **changes)
    with pytest.raises(RecordsError, match=message):
        draw_figures(run)


def test_half_a_line_is_named_by_its_number(run):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text("\n".join(lines[:3]) + '\n{"seed": 0, "lay')
    with pytest.raises(
        RecordsError, match=r"metrics.jsonl, line 4 is damaged: .*; delete that line and resume"
    ):
        draw_figures(run)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": "0.5"}, "'value' in .*, line 1 has the wrong type: got '0.5'"),
        ({"layer": 1.5}, "'layer' in .*line 1"),
    ],
)
def test_a_row_of_wrong_types(run, change, message):
    rows = read_rows(run)
    write_rows(run, [rows[0] | change, *rows[1:]])
    with pytest.raises(RecordsError, match=message):
        draw_figures(run)


def test_no_rows(run):
    (run / "metrics.jsonl").write_text("\n")
    with pytest.raises(RecordsError, match=r"metrics.jsonl is empty: got no row"):
        draw_figures(run)


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        ("nc1", "collapse_by_layer"),
        ("nc2", "collapse_by_layer"),
        ("train_accuracy", "accuracy_by_layer"),
        ("nc4", "accuracy_by_layer"),
    ],
)
def test_missing_metric(run, metric, name):
    write_rows(run, [row for row in read_rows(run) if row["metric"] != metric])
    with pytest.raises(RecordsError, match=f"metrics.jsonl lacks the metric '{metric}': got no row"):
        draw(run, name)


@pytest.mark.parametrize("damage", [b"", b"no archive", None])
def test_damaged_archive(run, damage):
    path = run / "arrays" / "layer_02.npz"
    path.write_bytes(path.read_bytes()[:-60] if damage is None else damage)
    with pytest.raises(RecordsError, match=r"layer_02.npz is damaged: .*; delete .*layer_02.npz and resume"):
        draw(run, "agop_spectra")


def test_flipped_byte_in_an_archive(run):
    path = run / "arrays" / "layer_02.npz"
    stored = bytearray(path.read_bytes())
    stored[stored.index(b"agop_spectrum.npy") + 170] ^= 255
    path.write_bytes(bytes(stored))
    with pytest.raises(RecordsError, match=r"layer_02.npz is damaged: got Bad CRC"):
        draw(run, "agop_spectra")


def test_pickled_array_is_refused(run):
    set_arrays(run, 1, agop_spectrum=np.array([{}], dtype=object))
    with pytest.raises(RecordsError, match=r"layer_01.npz is damaged: got it is no npz archive of numbers"):
        draw(run, "agop_spectra")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (None, "is incomplete: got no array 'agop_spectrum', expected one; delete"),
        (np.full(4, np.nan), "'agop_spectrum' in .* is unusable: got NaN or infinity"),
        (np.ones((2, 2)), r"'agop_spectrum' in .* has the wrong form: got float64 of shape \(2, 2\)"),
        (np.array(["a"]), "'agop_spectrum' in .* has the wrong form: got <U1"),
        (np.zeros(4), "agop_spectrum is not drawable: got largest eigenvalue 0.0, expected a positive one"),
    ],
)
def test_unusable_array(run, array, message):
    set_arrays(run, 2, agop_spectrum=array)
    with pytest.raises(RecordsError, match=message):
        draw(run, "agop_spectra")


def test_first_layer_arrays_of_different_sizes(run):
    set_arrays(run, 1, agop_eigenvectors=np.ones((3, 5)))
    with pytest.raises(
        RecordsError, match="disagree in size: got a spectrum of 4 and eigenvectors of 5 entries"
    ):
        draw(run, "agop_first_layer")
