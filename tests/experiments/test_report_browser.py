"""A report in a browser without a screen: one slider moves all figures, and nothing leaves the page.

Needs Chromium and its driver (Debian: chromium, chromium-driver). Screenshots go to the folder
DNC_JAX_SCREENSHOTS, if that is set.
"""

import dataclasses
from pathlib import Path

import pytest

from experiments import deep_rfm, report
from tests.experiments import plotting_runs
from tests.experiments.browsing import (
    allow_downloads,
    drawn,
    mark_of,
    needs_browser,
    opened,
    pressed,
    requested,
    said,
    saved,
)
from tests.experiments.report_runs import HOSTILE

pytestmark = needs_browser
webdriver = pytest.importorskip(
    "selenium.webdriver", reason="selenium is not installed: pip install -e '.[test]'"
)
# What the slider moves, and how a figure tells that it was drawn anew.
FIGURES = ("heat", "simplex", "spectrum", "vectors")
SETTINGS = deep_rfm.Config(
    dataset="digits", num_train=96, num_test=40, depth=3, width=64, seeds=(0, 1), devices=1
)


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("run")
    deep_rfm.main(dataclasses.replace(SETTINGS, workdir=workdir))
    return report.main(report.Config(runs=(workdir,)))


def test_the_slider_moves_every_figure_by_keyboard(driver, page):
    keys = webdriver.Keys
    opened(driver, page)
    before = {name: drawn(driver, name) for name in FIGURES}
    mark = mark_of(driver, "nc1")
    assert driver.find_element("id", "where").text == "layer 3 of 3, nonlinear stage"
    pressed(driver, "slider", keys.HOME)
    assert driver.find_element("id", "where").text == "layer 1 of 3, nonlinear stage"
    for name in FIGURES:
        assert drawn(driver, name) != before[name], name
        assert "layer 1 of 3" in driver.find_element("id", name).get_attribute("aria-label")
    pressed(driver, "slider", keys.ARROW_RIGHT)
    assert "layer 2 of 3" in driver.find_element("id", "heat").get_attribute("aria-label")
    assert mark_of(driver, "nc1") < mark
    assert said(driver) == []
    assert requested(driver) == [page.as_uri()]


def test_stages_and_angles_change_what_is_seen(driver, page):
    opened(driver, page)
    heat, simplex, spectrum = (drawn(driver, name) for name in ("heat", "simplex", "spectrum"))
    pressed(driver, "stage-nonlinear", webdriver.Keys.ARROW_LEFT)
    assert driver.find_element("id", "stage-linear").is_selected()
    assert drawn(driver, "heat") != heat
    assert drawn(driver, "spectrum") == spectrum
    linear = drawn(driver, "simplex")
    assert linear != simplex
    pressed(driver, "simplex", webdriver.Keys.ARROW_RIGHT)
    turned = drawn(driver, "simplex")
    assert turned != linear
    target = driver.find_element("id", "simplex")
    webdriver.ActionChains(driver).drag_and_drop_by_offset(target, 40, 10).perform()
    assert drawn(driver, "simplex") != turned
    driver.find_element("xpath", "//button[text()='reset']").click()
    assert drawn(driver, "simplex") == linear
    assert said(driver) == []


def test_the_first_layer_looks_at_images(driver, page):
    opened(driver, page)
    pressed(driver, "slider", webdriver.Keys.HOME)
    assert len(driver.find_elements("css selector", "#vectors image")) == 9
    assert "diagonal of M" in drawn(driver, "vectors")


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_window(driver, page, folder, width):
    opened(driver, page, width)
    names = ("scrollWidth", "clientWidth", "scrollHeight")
    script = "return arguments[0].map((name) => document.documentElement[name])"
    needed, there, height = driver.execute_script(script, names)
    assert driver.execute_script("return innerWidth") == width
    assert needed <= there
    opened(driver, page, width, height)
    assert driver.save_screenshot(str(folder / f"report_{width}.png"))


def test_a_figure_is_saved_as_its_numbers(driver, page):
    opened(driver, page)
    allow_downloads(driver)
    name = page.parent.name
    path = saved(driver, "Save NC1", f"{name}-nc1.csv")
    lines = path.read_text().splitlines()
    named = '"run","stage","points","layer","mean","lowest","highest","seeds","below_floor"'
    assert lines[0] == named
    assert lines[1].startswith(f'"{name}","input","training","1",')
    assert len(lines) == 1 + 3 * 2 * 3
    assert said(driver) == []


def test_a_saved_figure_says_where_it_stands(driver, page):
    opened(driver, page)
    allow_downloads(driver)
    pressed(driver, "slider", webdriver.Keys.HOME)
    pressed(driver, "stage-nonlinear", webdriver.Keys.ARROW_LEFT)
    name = page.parent.name
    lines = saved(driver, "Save Cosines", f"{name}-layer_1-linear-heat.csv").read_text().splitlines()
    assert lines[0].startswith('"run","layer","stage","row","class","1","2"')
    assert lines[2].startswith(f'"{name}","1","linear","2","0",')
    assert lines[-1].startswith(f'"{name}","1","linear","96","9",')
    vectors = saved(driver, "Save Top", f"{name}-layer_1-vectors.csv").read_text().splitlines()
    assert len(vectors) == 1 + 8 + 1
    assert vectors[-1].startswith(f'"{name}","1","diagonal of M",')
    spectrum = saved(driver, "Save Spectrum", f"{name}-layer_1-spectrum.csv").read_text().splitlines()
    assert spectrum[:2] == [
        '"run","layer","index","eigenvalue over largest"',
        f'"{name}","1","1","1"',
    ]


def test_runs_are_compared_and_chosen(driver, page, tmp_path, folder):
    others = [
        plotting_runs.make_run(
            tmp_path / str(ridge), depth=4, num_classes=4, num_blocks=12, ridge=ridge, dataset=HOSTILE
        )
        for ridge in (0.1, 0.2)
    ]
    path = report.main(report.Config(runs=(*others, page.parent), output=tmp_path / "three.html"))
    opened(driver, path)
    assert driver.execute_script("return document.images.length") == 0
    assert HOSTILE in driver.find_element("id", "title").text + driver.find_element("id", "tables").text
    assert len(driver.find_elements("css selector", "#nc1 .line")) == 6
    heat = drawn(driver, "heat")
    pressed(driver, "run", webdriver.Keys.END)
    assert drawn(driver, "heat") != heat
    assert driver.find_element("id", "where").text == "layer 3 of 3, nonlinear stage"
    assert driver.save_screenshot(str(folder / "comparison.png"))
    assert said(driver) == []
    assert requested(driver) == [path.as_uri()]
