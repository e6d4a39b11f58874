"""Drives a page in Chromium: what it shows, says, asks for and saves."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="chromium and chromedriver are not installed: the page is not looked at"
)


def opened(driver: Any, path: Path, width: int = 1280, height: int = 900) -> None:
    # A window has a least width; what a page sees of it has none.
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    for earlier in ("browser", "performance"):
        driver.get_log(earlier)
    driver.get(path.as_uri())


def drawn(driver: Any, name: str) -> str:
    """Returns what a figure shows, without its name and description."""
    return driver.execute_script("return document.getElementById(arguments[0]).innerHTML", name)


def mark_of(driver: Any, name: str) -> float:
    """Returns where the curves of a metric show the step of the slider, from the left."""
    return float(driver.find_element("css selector", f"#{name} .mark").get_attribute("x1"))


def pressed(driver: Any, name: str, *keys: str) -> None:
    driver.find_element("id", name).send_keys(*keys)


def allow_downloads(driver: Any) -> None:
    driver.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(driver.downloads)}
    )


def saved(driver: Any, label: str, name: str) -> Path:
    """Returns the file of a name, after the button whose label so begins was pressed."""
    driver.find_element("css selector", f"[aria-label^='{label}']").click()
    path = driver.downloads / name
    for _ in range(100):
        if path.exists():
            break
        time.sleep(0.05)
    return path


def said(driver: Any) -> list[str]:
    return [entry["message"] for entry in driver.get_log("browser")]


def requested(driver: Any) -> list[str]:
    """Returns the addresses that the page asked for since it was opened."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    sent = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return [address for address in sent if not address.startswith(("data:", "blob:"))]
