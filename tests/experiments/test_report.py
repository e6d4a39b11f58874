"""A report as a file: it holds what the records hold, runs nothing but its script, and stays small."""

import base64
import dataclasses
import hashlib
import json
import re

import numpy as np
import pytest

from experiments import report
from experiments.support.checkpoint import load_arrays, save_arrays
from experiments.support.records import OWN_FILES, RecordsError
from experiments.support.report import tables
from experiments.support.report.reading import read_run_records, read_runs
from experiments.support.report.texts import number
from tests.experiments import conv_runs_small, plotting_runs
from tests.experiments.report_runs import (
    HOSTILE,
    STAGES,
    Elements,
    data_in,
    heat_of,
    make_network,
    make_rfm,
    page_of,
)

SMALL = {"depth": 3, "seeds": (0, 1), "num_classes": 4, "num_blocks": 12}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return plotting_runs.make_run(tmp_path_factory.mktemp("finished"), **SMALL)


def curve_of(run, metric, stage, points="training", view=0):
    (found,) = (
        c for c in run["views"][view]["curves"][metric] if (c["stage"], c["points"]) == (stage, points)
    )
    return found


def recorded(workdir, metric, stage, layer):
    place = {"metric": metric, "stage": stage, "layer": layer}
    return [row["value"] for row in plotting_runs.read_rows(workdir) if place.items() <= row.items()]


def test_curves_are_means_and_ranges_over_seeds(finished):
    (run,) = data_in(page_of(finished))["runs"]
    curve = curve_of(run, "nc1", "linear")
    assert curve["x"] == [1, 2, 3]
    for i, layer in enumerate(curve["x"]):
        values = recorded(finished, "nc1", "linear", layer)
        assert curve["mean"][i] == pytest.approx(np.sqrt(values[0] * values[1]), rel=1e-5)
        assert [curve["low"][i], curve["high"][i]] == pytest.approx(sorted(values), rel=1e-5)
    held_out = curve_of(run, "nc4", "input")
    assert held_out["mean"][0] == pytest.approx(np.mean(recorded(finished, "nc4", "input", 1)), rel=1e-5)


def test_figures_are_the_arrays_of_each_layer(finished):
    (view,) = data_in(page_of(finished))["runs"][0]["views"]
    assert sorted(view["frames"]) == ["1", "2", "3"]
    for layer in (1, 3):
        arrays, frame = load_arrays(finished / "arrays" / f"layer_0{layer}.npz"), view["frames"][str(layer)]
        for stage in STAGES:
            np.testing.assert_allclose(
                heat_of(frame["heat"][stage]), np.clip(arrays[f"gram_{stage}"], -1, 1), atol=0.51 / 127
            )
            shown = np.array(frame["simplex"][stage]["means"])
            expected = arrays[f"class_means_{stage}"][:, :3]
            np.testing.assert_allclose(shown, expected / np.linalg.norm(expected, axis=1).max(), atol=1e-3)
        spectrum = arrays["agop_spectrum"]
        np.testing.assert_allclose(frame["spectrum"]["values"], spectrum / spectrum.max(), rtol=6e-3)
    assert [view["frames"][n]["vectors"]["shape"] for n in ("1", "2")] == [[12, 12, 1], None]


def test_what_is_not_recorded_is_absent_and_not_zero(finished, tmp_path):
    run = plotting_runs.make_run(tmp_path / "run", **SMALL)
    rows = plotting_runs.read_rows(run)
    for row in rows:
        if row["layer"] == 2 and row["metric"] == "nc1":
            row["value"] = float("nan")
    plotting_runs.write_rows(run, [row for row in rows if row["metric"] != "nc4"])
    first, second = data_in(page_of(run, finished))["runs"]
    assert curve_of(first, "nc1", "input")["x"] == [1, 3]
    assert "nc4" not in first["views"][0]["curves"]
    assert first["story"] == []
    assert curve_of(second, "nc4", "input")["x"] == [1, 2, 3]
    assert first["views"][0]["frames"].keys() == second["views"][0]["frames"].keys()


def test_names_of_people_run_nothing(tmp_path):
    name, pair = HOSTILE, "\ud800"
    run = plotting_runs.make_run(tmp_path / "run", **SMALL, dataset=name, note=pair, class_names=[name])
    report.main(report.Config(runs=(run,)))
    text = (run / "report.html").read_text(encoding="utf-8")
    assert text.count("</script") == 2
    assert name not in text
    assert name in data_in(text)["title"]
    elements = Elements(text)
    assert "img" not in {tag for tag, _ in elements.tags}
    assert not any(key.startswith("on") for _, attributes in elements.tags for key in attributes)
    assert name in elements.texts["title"][0]


def test_the_page_allows_its_own_script_and_style_and_nothing_else(finished):
    text = page_of(finished)
    elements = Elements(text)
    (policy,) = (a["content"] for tag, a in elements.tags if tag == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    script = text.rsplit("<script>", 1)[1].split("</script>")[0]
    style = text.split("<style>", 1)[1].split("</style>")[0]
    for part in (script, style):
        digest = base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    addresses = [value or "" for _, a in elements.tags for key, value in a.items() if key in ("src", "href")]
    assert addresses == ["data:,"]
    found = set(re.findall(r"https?://[^\"'` ]+", script + style))
    assert found == {"http://www.w3.org/2000/svg"}


def test_twenty_layers_of_5000_points_stay_small(tmp_path):
    size = {"num_classes": 10, "num_blocks": 200, "input_size": 1024, "image_shape": (28, 28, 1)}
    run = plotting_runs.make_run(tmp_path / "run", depth=20, **size)
    path = report.main(report.Config(runs=(run,)))
    assert path.stat().st_size < 5e6


def test_several_runs_are_named_by_what_differs(finished, tmp_path):
    other = plotting_runs.make_run(tmp_path / "other", **SMALL, kernel="gaussian", ridge=0.5)
    path = report.main(report.Config(runs=(finished, other), output=tmp_path / "both.html"))
    found = data_in(path.read_text())
    assert [run["name"] for run in found["runs"]] == [
        "kernel laplace, ridge 0.001",
        "kernel gaussian, ridge 0.5",
    ]
    assert found["differences"]["rows"] == [["kernel", "laplace", "gaussian"], ["ridge", "0.001", "0.5"]]
    same = plotting_runs.make_run(tmp_path / "same", **SMALL)
    assert [r["name"] for r in data_in(page_of(finished, same))["runs"]] == [finished.name, "same"]


def test_an_unfinished_run_says_so_and_tells_what_it_has(finished, tmp_path):
    run = plotting_runs.make_run(tmp_path / "run", **SMALL)
    rows = [r for r in plotting_runs.read_rows(run) if r["seed"] == 0 or r["layer"] < 2]
    plotting_runs.write_rows(run, rows)
    (run / "arrays" / "layer_03.npz").unlink()
    (found,) = data_in(page_of(run))["runs"]
    assert "unfinished: seed 1 is at layer 1 of 3" in found["unfinished"]
    assert "after 1 layer," in found["story"][0]
    assert curve_of(found, "nc1", "input")["seeds"] == [2, 1, 1]
    assert sorted(found["views"][0]["frames"]) == ["1", "2"]
    assert data_in(page_of(finished))["runs"][0]["unfinished"] == ""
    plotting_runs.write_rows(run, [row for row in rows if row["seed"] == 0])
    assert "seed 1 has not begun" in data_in(page_of(run))["runs"][0]["unfinished"]


def test_a_network_has_a_view_for_each_layer_and_epochs_to_slide_through(tmp_path):
    found = data_in(page_of(make_network(tmp_path / "run")))
    (run,) = found["runs"]
    assert [view["name"] for view in run["views"]] == ["layer 1", "layer 2"]
    assert run["steps"] == [0, 5, 10]
    assert curve_of(run, "nc1", "nonlinear", view=1)["mean"][2] == pytest.approx(
        np.sqrt(2 * 3) / 14, rel=1e-5
    )
    assert len(curve_of(run, "accuracy", "")["x"]) == 11
    assert curve_of(run, "nc3", "")["mean"] == [0.5, 0.5, 0.5]
    frame = run["views"][0]["frames"]["10"]
    assert len(frame["simplex"]["means"]) == 4
    assert [line["x"] for line in frame["nc1_by_layer"]["lines"]] == [[1, 2]] * 3
    assert "from 0.612 to 0.175 in 10 epochs" in run["story"][0]
    assert run["tables"][2]["rows"] == [["0", "1", "3", "3", "3", "–"]]


def test_an_unfinished_seed_of_a_network_takes_no_epochs_from_the_others(tmp_path):
    path = make_network(tmp_path / "run")
    rows = plotting_runs.read_rows(path)
    # Seed 1 has come to epoch 5; seed 0 first had all training points correct at epoch 3.
    first = [row | {"epoch": 3} for row in rows if row["seed"] == 0 and row["epoch"] == 5]
    rows = [row for row in rows if row["seed"] == 0 or row["epoch"] <= 5] + first
    plotting_runs.write_rows(path, rows)
    (run,) = data_in(page_of(path))["runs"]
    assert run["steps"] == [0, 5, 10]
    found = curve_of(run, "nc1", "nonlinear", view=1)
    assert (found["x"], found["seeds"]) == ([0, 5, 10], [2, 2, 1])
    assert "seed 1 is at epoch 5 of 10" in run["unfinished"]
    assert "in 5 epochs" in run["story"][0]


def test_steps_that_a_run_took_twice_or_loaded_are_timed_once(finished):
    row = {"seed": 0, "layer": 1, "seconds": 8.0, "peak_rss_kib": 1024, "loaded": False}
    timed = [row, row | {"layer": 2, "seconds": 99.0}, row | {"loaded": True, "seconds": 0.1}]
    timed.append(row | {"layer": 2, "seconds": 2.0})
    run = dataclasses.replace(read_run_records(finished), timings=timed)
    assert tables.timings(run).rows == [["0", "2", "10", "5", "8", "1"]]


def test_the_spectra_of_an_rfm_are_those_that_the_run_recorded(tmp_path):
    path = make_rfm(tmp_path / "run")
    file = path / "arrays" / "rank_2_degree_2.npz"
    with np.load(file) as stored:
        arrays = {name: stored[name] for name in ("feature_matrices", "spectra", "eigenvectors")}
    save_arrays(file, arrays | {"spectra": np.tile([8.0, 4.0, 2.0, 1.0, 1.0, 0.0], (3, 1))})
    (run,) = data_in(page_of(path))["runs"]
    frame = run["views"][1]["frames"]["2"]
    assert frame["spectrum"]["values"] == [1.0, 0.5, 0.25, 0.125, 0.125, 0.0]
    assert len(frame["vectors"]["vectors"]) == 6


def test_what_no_step_has_is_no_figure(tmp_path):
    path = make_rfm(tmp_path / "run")
    found = data_in(page_of(path))
    assert [f["name"] for f in found["figures"]] == ["heat", "truth", "spectrum", "vectors"]
    assert "targets are no classes" in found["note"]
    for file in (path / "arrays").iterdir():
        with np.load(file) as arrays:
            save_arrays(file, {"feature_matrices": arrays["feature_matrices"]})
    found = data_in(page_of(path))
    assert [figure["name"] for figure in found["figures"]] == ["heat"]
    assert found["note"].startswith("Spectra of M are not recorded in run")


def test_tables_of_the_head_of_a_network_are_written_once(tmp_path):
    titles = [
        table.title for table in tables.values_by_step(read_run_records(make_network(tmp_path / "run")))
    ]
    assert len(set(titles)) == len(titles)
    (title,) = [title for title in titles if title.startswith("NC3")]
    assert "layer 1" not in title


def test_an_rfm_has_a_view_for_each_target(tmp_path):
    (run,) = data_in(page_of(make_rfm(tmp_path / "run")))["runs"]
    assert [view["name"] for view in run["views"]] == ["rank 1, degree 2", "rank 2, degree 2"]
    assert curve_of(run, "r2", "", "held-out")["mean"] == [0.25, 0.5, 0.75]
    heat = heat_of(run["views"][1]["frames"]["2"]["heat"])
    np.testing.assert_allclose(np.diag(heat), [1, 1, 0.25, 0.25, 0.25, 0.25], atol=0.01)
    assert "rank 2, degree 2: plain laplace kernel 0.2500, RFM, iteration 2 0.7500" in run["story"][0]


def test_a_convolutional_rfm_shows_patches_and_images(tmp_path):
    run = conv_runs_small.make_run(tmp_path / "run", command="conv_rfm")
    (found,) = data_in(page_of(run))["runs"]
    (view,) = found["views"]
    assert view["frames"]["2"]["vectors"]["shape"] == [3, 3, 3]
    gram = load_arrays(run / "arrays" / "patches.npz")["gram"]
    np.testing.assert_allclose(heat_of(view["frames"]["2"]["heat"]), gram[2], atol=0.51 / 127)
    assert "vectors" not in view["frames"]["0"]
    assert len(view["fixed"]["images"]["images"]) == 6
    assert "61.00%, and 91.00% after 1 update of M" in found["story"][0]
    assert found["story"][1] == "Validation picks iterations 1 to 2: 86.00%."


def test_the_text_has_the_story_and_the_numbers(finished, tmp_path):
    other = plotting_runs.make_run(tmp_path / "run", **SMALL, dataset="a | b <img src=x> `c` _d_")
    path = report.main(report.Config(runs=(finished, other), markdown=True, output=tmp_path / "r.md"))
    text = path.read_text()
    assert text.startswith(
        "# Deep RFM on svhn and a \\| b \\<img src=x\\> \\`c\\` \\_d\\_: 2 runs compared\n"
    )
    assert "NC1 went from" in text
    mean = np.exp(np.mean(np.log(recorded(finished, "nc1", "linear", 3))))
    (line,) = re.findall(r"NC1: within-class.*?\n\| 3 \|([^\n]*)", text, flags=re.DOTALL)[:1]
    assert line.split("|")[2].strip() == number(mean)
    for row in text.splitlines():
        assert "<img" not in row.replace("\\<img", "")


def test_a_report_goes_into_the_first_run_or_where_it_is_told(finished, tmp_path, capsys):
    run = plotting_runs.make_run(tmp_path / "runs" / "one", **SMALL)
    # Records may lie in one folder below the one that is named.
    assert report.main(report.Config(runs=(run.parent,))) == run.parent / "report.html"
    assert report.main(report.Config(runs=(run, finished), markdown=True)) == run / "report.md"
    assert "report.md" in capsys.readouterr().out
    assert not (finished / "report.html").exists()


def test_records_that_are_no_trainings_are_those_of_their_parts(tmp_path):
    parts = [make_network(tmp_path / "all" / name, label_noise=i) for i, name in enumerate(("a", "b"))]
    (tmp_path / "all" / "config.json").write_text('{"command": "random_labels"}')
    (tmp_path / "all" / "environment.json").write_text(json.dumps({"runs": ["a", "../a", "b"]}))
    assert [run.folder for run in read_runs([tmp_path / "all"])] == parts


def test_trainings_without_a_number_are_left_out_and_named(tmp_path, capsys):
    run = tmp_path / "all"
    part = make_network(run / "a")
    (run / "config.json").write_text('{"command": "random_labels"}')
    (run / "environment.json").write_text(json.dumps({"runs": ["a", "b"]}))
    assert report.main(report.Config(runs=(run,))) == run / "report.html"
    assert "has no number yet of b:" in capsys.readouterr().out
    (part / "metrics.jsonl").write_text("")
    with pytest.raises(RecordsError, match=r"no number yet of its trainings \(a, b\): resume it"):
        report.main(report.Config(runs=(run,)))


def test_a_report_goes_with_its_run():
    assert {"report.html", "report.md"} <= set(OWN_FILES)
