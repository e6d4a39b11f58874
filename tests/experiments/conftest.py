"""A browser without a screen for the tests of reports, and the folder of their screenshots."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.experiments.browsing import BROWSER, DRIVER


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    chosen = os.environ.get("DNC_JAX_SCREENSHOTS")
    place = Path(chosen) if chosen else tmp_path_factory.mktemp("screenshots")
    place.mkdir(parents=True, exist_ok=True)
    return place


@pytest.fixture(scope="session")
def driver(folder, tmp_path_factory) -> Iterator[Any]:
    webdriver = pytest.importorskip(
        "selenium.webdriver", reason="selenium is not installed: pip install -e '.[test]'"
    )
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
