"""Reports of every experiment in a browser without a screen: their figures move, their curves can be told."""

import json
from typing import Any

import pytest

from experiments import report
from tests.experiments import conv_runs_small, plotting_runs
from tests.experiments.browsing import (
    allow_downloads,
    drawn,
    needs_browser,
    opened,
    pressed,
    requested,
    said,
    saved,
)
from tests.experiments.report_runs import make_network, make_rfm

pytestmark = needs_browser
webdriver = pytest.importorskip(
    "selenium.webdriver", reason="selenium is not installed: pip install -e '.[test]'"
)
SMALL: dict[str, Any] = {"num_classes": 4, "num_blocks": 12}
MAKERS = {
    "rfm": make_rfm,
    "conv_rfm": lambda path, **config: conv_runs_small.make_run(path, command="conv_rfm", **config),
    "train_network": make_network,
}
# Of each experiment the figures that differ from step to step, and the curves that show where the slider is.
MOVED = {
    "rfm": ("heat", "spectrum", "vectors", "r2"),
    "conv_rfm": ("heat", "spectrum", "vectors", "accuracy", "effective_rank"),
    "train_network": (
        "gram",
        "heat",
        "simplex",
        "by_layer",
        "nc1_by_layer",
        "nc2_by_layer",
        "spectrum",
        "vectors",
        "nc1",
        "nc3",
    ),
}


@pytest.mark.parametrize("name", MAKERS)
def test_the_slider_moves_the_figures_of_every_experiment(driver, folder, tmp_path, name):
    run = MAKERS[name](tmp_path / "run")
    if name == "conv_rfm":
        rows = conv_runs_small.read_rows(run)
        place = {"stage": "feature_matrix", "metric": "effective_rank"}
        ranks = [{"seed": 0, "iteration": i, "value": 9.0 - i} | place for i in (1, 2)]
        conv_runs_small.write_rows(run, rows + ranks)
    path = report.main(report.Config(runs=(run,)))
    opened(driver, path)
    before = {figure: drawn(driver, figure) for figure in MOVED[name]}
    pressed(driver, "slider", webdriver.Keys.ARROW_LEFT)
    for figure in MOVED[name]:
        assert drawn(driver, figure) != before[figure], figure
    pressed(driver, "slider", webdriver.Keys.HOME)
    assert " 0 of " in driver.find_element("id", "where").text
    assert driver.save_screenshot(str(folder / f"{name}.png"))
    assert said(driver) == []
    assert requested(driver) == [path.as_uri()]


@pytest.mark.parametrize("name", MAKERS)
def test_only_what_has_stages_lets_them_be_chosen(driver, tmp_path, name):
    runs = tuple(MAKERS[name](tmp_path / str(ridge), ridge=ridge) for ridge in (0.1, 0.2))
    opened(driver, report.main(report.Config(runs=runs)))
    has_stages = name == "train_network"
    assert driver.find_element("id", "stages").is_displayed() == has_stages
    assert ("stage" in driver.find_element("id", "where").text) == has_stages
    assert said(driver) == []


def test_a_network_shows_its_layers_one_by_one(driver, tmp_path):
    opened(driver, report.main(report.Config(runs=(make_network(tmp_path / "run"),))))
    last = {name: drawn(driver, name) for name in ("nc1", "spectrum", "vectors", "simplex")}
    pressed(driver, "view", webdriver.Keys.HOME)
    for name in ("nc1", "spectrum", "vectors"):
        assert drawn(driver, name) != last[name], name
    assert drawn(driver, "simplex") == last["simplex"]
    pressed(driver, "slider", webdriver.Keys.HOME)
    assert driver.find_element("id", "where").text == "epoch 0 of 10, layer 1"


def test_points_of_a_network_are_saved_with_their_classes(driver, tmp_path):
    run = make_network(tmp_path / "run", dataset="fashion_mnist")
    opened(driver, report.main(report.Config(runs=(run,))))
    allow_downloads(driver)
    lines = saved(driver, "Save Four", "run-epoch_10-simplex.csv").read_text().splitlines()
    assert lines[0] == '"run","epoch","what","class","x","y","z"'
    assert lines[1].startswith('"run","10","mean","0: T-shirt/top",')
    points = [line for line in lines if '"point"' in line]
    assert len(points) == 4 * 8
    assert points[-1].startswith('"run","10","point","3: Dress",')
    gram = saved(driver, "Save Cosines of points", "run-epoch_10-gram.csv").read_text().splitlines()
    assert gram[-1].startswith('"run","10","40","4: Coat",')


def test_heads_of_networks_of_different_depth_are_compared(driver, tmp_path):
    deep, shallow = make_network(tmp_path / "deep"), make_network(tmp_path / "shallow", depth=1)
    rows = [row for row in plotting_runs.read_rows(shallow) if row["layer"] != 2]
    # The head of a network of one hidden layer is its second.
    plotting_runs.write_rows(shallow, [row | {"layer": min(row["layer"], 2)} for row in rows])
    opened(driver, report.main(report.Config(runs=(deep, shallow))))
    assert driver.find_element("id", "where").text.endswith("layer 2")
    for metric, number in (("nc1", 1), ("nc3", 2), ("accuracy", 2)):
        assert len(driver.find_elements("css selector", f"#{metric} .line")) == number, metric


def test_a_click_on_curves_goes_to_the_layer_under_it(driver, tmp_path):
    run = plotting_runs.make_run(tmp_path / "run", depth=9, seeds=(0,), **SMALL)
    opened(driver, report.main(report.Config(runs=(run,))))
    # Wider than the picture's proportions, so that it lies in the middle of its element.
    driver.execute_script("document.getElementById('nc1').style.height = '120px'")
    find = "return document.querySelectorAll('#nc1 circle')[arguments[0]]"
    for layer in (2, 8):
        dot = driver.execute_script(find, layer - 1)
        webdriver.ActionChains(driver).move_to_element(dot).click().perform()
        assert driver.find_element("id", "where").text.startswith(f"layer {layer} of 9")


def test_numbers_below_the_floor_are_told_on_long_curves_and_at_the_slider(driver, tmp_path):
    run = plotting_runs.make_run(tmp_path / "run", depth=45, floor_from=44, seeds=(0,), **SMALL)
    opened(driver, report.main(report.Config(runs=(run,))))
    hollow = driver.find_elements("css selector", "#nc1 circle[fill='var(--paper)']")
    assert len(hollow) == 2
    caption = "document.getElementById(arguments[0]).parentNode.querySelector('.caption').textContent"
    for name in ("heat", "simplex", "spectrum", "vectors", "nc1"):
        assert "below the floor" in driver.execute_script(f"return {caption}", name), name
    pressed(driver, "slider", webdriver.Keys.HOME)
    for name in ("heat", "spectrum", "nc1"):
        assert "below the floor" not in driver.execute_script(f"return {caption}", name), name


def test_zeros_on_a_log_axis_are_told(driver, tmp_path):
    run = plotting_runs.make_run(tmp_path / "run", depth=3, seeds=(0,), **SMALL)
    rows = plotting_runs.read_rows(run)
    for row in rows:
        if row["layer"] == 2 and row["metric"] == "nc2":
            row["value"] = 0.0
    plotting_runs.write_rows(run, rows)
    opened(driver, report.main(report.Config(runs=(run,))))
    figure = driver.find_element("xpath", "//*[@id='nc2']/..")
    assert "not drawn, as a log axis has no 0: 3 values" in figure.text


def test_a_single_eigenvalue_has_a_place(driver, tmp_path):
    run = conv_runs_small.make_run(tmp_path / "run", command="conv_rfm", patch_size=1, channels=1)
    opened(driver, report.main(report.Config(runs=(run,))))
    assert "NaN" not in drawn(driver, "spectrum")
    assert driver.execute_script("return document.querySelectorAll('#spectrum circle').length") == 1
    assert said(driver) == []


@pytest.mark.parametrize("width", [1280, 390])
def test_every_control_has_a_name_and_the_numbers_are_seen(driver, tmp_path, width):
    runs = [make_network(tmp_path / str(ridge), ridge=ridge) for ridge in (0.1, 0.2)]
    opened(driver, report.main(report.Config(runs=tuple(runs))), width)
    controls = driver.find_elements("css selector", "button, input, select, [tabindex]")
    shown = [control for control in controls if control.is_displayed()]
    assert len(shown) > 15
    for control in shown:
        assert control.accessible_name, control.get_attribute("outerHTML")
    assert "NC1" in driver.find_element("id", "values").text


def test_a_finger_scrolls_over_every_figure(driver, tmp_path):
    run = plotting_runs.make_run(tmp_path / "run", depth=2, seeds=(0,), **SMALL)
    opened(driver, report.main(report.Config(runs=(run,))), 390)
    script = (
        "return [...document.querySelectorAll('svg[role=img]')].map((s) => getComputedStyle(s).touchAction)"
    )
    found = driver.execute_script(script)
    assert set(found) == {"auto", "pan-y"}


def test_runs_of_one_configuration_are_told_apart_in_the_tables(driver, tmp_path):
    runs = [make_network(tmp_path / name / "run") for name in ("a", "b")]
    opened(driver, report.main(report.Config(runs=tuple(runs))))
    names = json.loads(driver.execute_script("return JSON.stringify(report.runs.map((run) => run.name))"))
    assert len(set(names)) == 2
    heads = [head.text for head in driver.find_elements("css selector", "#tables h2")]
    assert heads
    assert all(names[0] in head for head in heads)


def test_classes_have_their_names_and_runs_their_numbers_of_seeds(driver, tmp_path):
    config: dict[str, Any] = {"dataset": "cifar10", "depth": 2, "num_blocks": 20}
    runs = [plotting_runs.make_run(tmp_path / str(n), seeds=range(n), **config) for n in (3, 2)]
    opened(driver, report.main(report.Config(runs=tuple(runs))))
    legend = driver.find_element("id", "legend").text
    assert "mean of 3, 2 seeds, in the order of the runs (geometric for NC1)" in legend
    assert "classes: 0 airplane, 1 automobile" in legend
    titles = "return [...document.querySelectorAll('#simplex .mean title')].map((t) => t.textContent)"
    assert "class 9: truck" in driver.execute_script(titles)
    run = make_rfm(tmp_path / "rfm", seeds=[0, 1])
    rows = plotting_runs.read_rows(run)
    plotting_runs.write_rows(run, rows + [row | {"seed": 1} for row in rows])
    opened(driver, report.main(report.Config(runs=(run,))))
    assert "mean of 2 seeds; bands" in driver.find_element("id", "legend").text
    assert "NC1" not in driver.find_element("id", "legend").text
