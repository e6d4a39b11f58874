"""A report in a browser without a screen: one slider moves all figures, and nothing leaves the page.

Needs Chromium and its driver (Debian: chromium, chromium-driver). Screenshots go to the folder
DNC_JAX_SCREENSHOTS, if that is set.
"""

import dataclasses
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from experiments import deep_rfm, report
from tests.experiments import plotting_runs
from tests.experiments.report_runs import HOSTILE, make_network

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="chromium and chromedriver are not installed: the page is not looked at"
)
webdriver = pytest.importorskip(
    "selenium.webdriver", reason="selenium is not installed: pip install -e '.[test]'"
)
# What the slider moves, and how a figure tells that it was drawn anew.
FIGURES = ("heat", "simplex", "spectrum", "vectors")
SETTINGS = deep_rfm.Config(
    dataset="digits", num_train=96, num_test=40, depth=3, width=64, seeds=(0, 1), devices=1
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    chosen = os.environ.get("DNC_JAX_SCREENSHOTS")
    place = Path(chosen) if chosen else tmp_path_factory.mktemp("screenshots")
    place.mkdir(parents=True, exist_ok=True)
    return place


@pytest.fixture(scope="module")
def driver(folder, tmp_path_factory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    # A container has no user namespaces for the sandbox, and little shared memory; the browser's own
    # connections are none of the page's.
    flags = ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "no-first-run")
    quiet = ("disable-background-networking", "disable-component-update", "disable-sync", "disable-quic")
    for flag in flags + quiet:
        options.add_argument(f"--{flag}")
    downloads = {"download.default_directory": str(tmp_path_factory.mktemp("downloads"))}
    options.add_experimental_option("prefs", downloads)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=DRIVER))
    started.downloads = Path(downloads["download.default_directory"])
    yield started
    started.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("run")
    deep_rfm.main(dataclasses.replace(SETTINGS, workdir=workdir))
    return report.main(report.Config(runs=(workdir,)))


def opened(driver: Any, path: Path, width: int = 1280, height: int = 900) -> None:
    # A window has a least width; what a page sees of it has none.
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.get_log("browser"), driver.get_log("performance")
    driver.get(path.as_uri())


def drawn(driver: Any, name: str) -> str:
    return driver.execute_script("return document.getElementById(arguments[0]).outerHTML", name)


def mark_of(driver: Any, name: str) -> float:
    """Returns where the curves of a metric show the step of the slider, from the left."""
    return float(driver.find_element("css selector", f"#{name} .mark").get_attribute("x1"))


def pressed(driver: Any, name: str, *keys: str) -> None:
    driver.find_element("id", name).send_keys(*keys)


def said(driver: Any) -> list[str]:
    return [entry["message"] for entry in driver.get_log("browser")]


def requested(driver: Any) -> list[str]:
    """Returns the addresses that the page asked for since it was opened."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    sent = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return [address for address in sent if not address.startswith(("data:", "blob:"))]


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
    driver.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(driver.downloads)}
    )
    driver.find_element("css selector", "[aria-label^='Save NC1']").click()
    path = driver.downloads / "nc1.csv"
    for _ in range(100):
        if path.exists():
            break
        time.sleep(0.05)
    lines = path.read_text().splitlines()
    assert lines[0] == '"curve","layer","mean","lowest","highest","seeds","below_floor"'
    assert len(lines) == 1 + 3 * 2 * 3
    assert said(driver) == []


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


def test_a_network_slides_through_epochs(driver, tmp_path, folder):
    path = report.main(report.Config(runs=(make_network(tmp_path / "run"),)))
    opened(driver, path)
    last = drawn(driver, "nc1"), drawn(driver, "simplex")
    pressed(driver, "view", webdriver.Keys.HOME)
    assert drawn(driver, "nc1") != last[0]
    assert drawn(driver, "simplex") == last[1]
    pressed(driver, "slider", webdriver.Keys.HOME)
    assert driver.find_element("id", "where").text == "epoch 0 of 10, layer 1"
    assert drawn(driver, "simplex") != last[1]
    assert said(driver) == []
