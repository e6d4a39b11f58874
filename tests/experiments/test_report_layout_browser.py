"""How pages of every experiment lie in a browser: no text is cut off, prints are large, a focus is seen."""

from collections.abc import Iterator
from typing import Any

import pytest

from experiments import report
from tests.experiments import conv_runs_small, plotting_runs
from tests.experiments.browsing import needs_browser, opened, pressed
from tests.experiments.report_runs import contrast, make_network, make_rfm

pytestmark = needs_browser
webdriver = pytest.importorskip(
    "selenium.webdriver", reason="selenium is not installed: pip install -e '.[test]'"
)
PRINTED = 718
MAKERS = {
    "deep_rfm": lambda path: plotting_runs.make_run(path, depth=2, seeds=(0,), input_size=1024),
    "rfm": make_rfm,
    "conv_rfm": lambda path: conv_runs_small.make_run(path, command="conv_rfm"),
    "train_network": make_network,
    "images": lambda path: make_network(path, image_shape=[3, 3, 3]),
}
# By how many pixels each text sticks out of its picture, where it does.
STICKING = """
return [...document.querySelectorAll('svg[role=img]')].flatMap((picture) => {
  const whole = picture.getBoundingClientRect();
  return [...picture.querySelectorAll('text')].map((text) => {
    const box = text.getBoundingClientRect();
    const across = [whole.left - box.left, box.right - whole.right];
    const along = [whole.top - box.top, box.bottom - whole.bottom];
    return [picture.id, text.textContent, Math.max(...across, ...along)];
  });
}).filter(([, , out]) => out > 0)
"""
# Scrolls the button of a figure behind the bar, and gives the focus to what comes after it.
HIDDEN = """
const button = document.querySelectorAll('.save')[arguments[0]];
window.scrollBy(0, button.getBoundingClientRect().top - 5);
const all = [...document.querySelectorAll('button, [tabindex]')];
all[all.indexOf(button) + 1].focus({preventScroll: true});
"""
FOCUSED = """
const bar = document.getElementById('controls'), here = document.activeElement;
return [here.outerHTML.slice(0, 80), here.getBoundingClientRect().top - bar.getBoundingClientRect().bottom];
"""


@pytest.fixture
def media(driver) -> Iterator[Any]:
    """Sets the medium of the page, or features of it, for one test."""
    yield lambda **changes: driver.execute_cdp_cmd("Emulation.setEmulatedMedia", changes)
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", MAKERS)
def test_no_text_of_a_figure_is_cut_off(driver, tmp_path, name, width):
    opened(driver, report.main(report.Config(runs=(MAKERS[name](tmp_path / "run"),))), width)
    for key in (webdriver.Keys.END, webdriver.Keys.HOME, webdriver.Keys.ARROW_RIGHT):
        pressed(driver, "slider", key)
        assert driver.execute_script(STICKING) == []


@pytest.mark.parametrize("name", MAKERS)
def test_printed_figures_are_two_in_a_row(driver, tmp_path, media, name):
    media(media="print")
    opened(driver, report.main(report.Config(runs=(MAKERS[name](tmp_path / "run"),))), PRINTED)
    script = (
        "return [...document.querySelectorAll('svg[role=img]')].map((s) => s.getBoundingClientRect().width)"
    )
    found = driver.execute_script(script)
    assert len(found) > 4
    assert min(found) >= 300
    assert driver.execute_script("return document.documentElement.scrollWidth") <= PRINTED


@pytest.mark.parametrize("width", [1280, 390])
def test_what_has_the_focus_is_not_behind_the_bar(driver, tmp_path, width):
    opened(driver, report.main(report.Config(runs=(make_network(tmp_path / "run"),))), width)
    buttons = driver.execute_script("return document.querySelectorAll('.save').length")
    assert buttons > 10
    for number in range(buttons - 1):
        driver.execute_script(HIDDEN, number)
        keys = webdriver.ActionChains(driver).key_down(webdriver.Keys.SHIFT).send_keys(webdriver.Keys.TAB)
        keys.key_up(webdriver.Keys.SHIFT).perform()
        what, below = driver.execute_script(FOCUSED)
        assert below >= 0, what


@pytest.mark.parametrize("width", [1280, 390])
def test_what_is_pressed_is_large_enough_for_a_finger(driver, tmp_path, width):
    opened(
        driver, report.main(report.Config(runs=(plotting_runs.make_run(tmp_path / "run", depth=2),))), width
    )
    shown = [e for e in driver.find_elements("css selector", "button, select, label") if e.is_displayed()]
    assert len(shown) > 10
    for element in shown:
        assert min(element.size["height"], element.size["width"]) >= 24, element.get_attribute("outerHTML")


def test_lines_of_other_steps_stand_out_from_a_dark_ground(driver, tmp_path, media):
    media(features=[{"name": "prefers-color-scheme", "value": "dark"}])
    opened(driver, report.main(report.Config(runs=(plotting_runs.make_run(tmp_path / "run", depth=9),))))
    script = """
      const digits = (n) => Number(n).toString(16).padStart(2, '0');
      const hex = (text) => '#' + text.match(/\\d+/g).slice(0, 3).map(digits).join('');
      const lines = [...document.querySelectorAll('#spectrum .faint')];
      const ground = getComputedStyle(document.querySelector('figure')).backgroundColor;
      return [hex(ground), lines.map((line) => hex(getComputedStyle(line).stroke))];
    """
    ground, lines = driver.execute_script(script)
    assert len(lines) == 8
    assert min(contrast(line, ground) for line in lines) >= 3
