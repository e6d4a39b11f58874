"""The documentation stays true: its code runs, its commands are understood, the reference has every name."""

import json
import re
import runpy
import shlex
from importlib import import_module
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
import pytest

import dnc_jax
from experiments.claims import NAMES
from experiments.support import command

DOCS = Path(__file__).parent.parent / "docs"
PAGES = ["tutorial", "rfm", *(f"how_to/{path.stem}" for path in sorted((DOCS / "how_to").glob("*.md")))]
# Pages whose code other tests run: it needs their files, or is checked for what it prints.
ALL_PAGES = sorted(str(path.relative_to(DOCS).with_suffix("")) for path in DOCS.rglob("*.md"))


def text(page: str) -> str:
    return (DOCS / f"{page}.md").read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text(page), flags=re.DOTALL)


def assert_same_but_for_rounding(printed: str, stored: str) -> None:
    """Other machines sum in another order; words must be the same."""
    numbers = [[float(n) for n in re.findall(r"\d+\.\d+(?:e-?\d+)?", each)] for each in (stored, printed)]
    assert re.sub(r"[\d.e+-]+", "#", printed).split() == re.sub(r"[\d.e+-]+", "#", stored).split()
    np.testing.assert_allclose(*numbers, rtol=0.1, atol=2e-3)


@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_a_page_runs_from_top_to_bottom(page, capsys):
    # Guides are written for JAX as it comes, which promotes ranks.
    with jax.numpy_rank_promotion("allow"):
        exec(compile("\n".join(blocks(page, "python")), page, "exec"), {"__name__": "guide"})
    printed = capsys.readouterr().out
    assert "nan" not in printed
    if shown := blocks(page, "text"):
        assert_same_but_for_rounding(printed, "".join(shown))
    if page == "tutorial":
        nc1 = [float(number) for number in re.findall(r"after layer \d: NC1 ([\d.e+-]+)", printed)]
        assert len(nc1) == 6
        assert nc1[-1] < nc1[0] / 10


@pytest.mark.parametrize("page", ALL_PAGES)
def test_the_commands_of_a_page_are_understood(page):
    inline = re.findall(r"`(python -m experiments\.[^`]+)`", text(page))
    for line in [*"\n".join(blocks(page, "bash")).splitlines(), *inline]:
        if found := re.search(r"python -m (experiments\.\w+)(.*)", line):
            module = import_module(found[1])
            presets = getattr(module, "PRESETS", {})
            assert isinstance(command.parse(module.Config, presets, shlex.split(found[2])), module.Config)


def test_every_check_of_claims_is_named_on_its_page():
    named = set(re.findall(r"`(\w+)` below", text("claims")))
    assert named <= set(NAMES)
    commands = re.findall(r"`python -m experiments\.claims --only ([\w ]+)`", text("claims"))
    assert named | set(" ".join(commands).split()) == set(NAMES)


def test_the_reference_has_every_public_name_once():
    pages = "\n".join(text(f"api/{path.stem}") for path in (DOCS / "api").glob("*.md"))
    listed = re.findall(r"^\.\. auto\w+:: dnc_jax\.(\w+)$", pages, flags=re.MULTILINE)
    assert sorted(listed) == sorted(dnc_jax.__all__)


def test_every_page_is_in_a_table_of_contents():
    listed = set(re.findall(r"^[a-z_/]+$", text("index"), flags=re.MULTILINE))
    assert listed >= {page for page in ALL_PAGES if page != "index"}


def test_the_example_of_a_metric_prints_it_by_layer_and_stage(capsys):
    runpy.run_path(str(DOCS.parent / "examples" / "own_metric.py"), run_name="__main__")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[:2] for line in lines[1:]] == [
        [str(layer), stage] for layer in range(1, 7) for stage in ("input", "linear", "nonlinear")
    ]
    assert float(lines[-1][3]) > 5 * float(lines[1][3])


@pytest.mark.parametrize("path", sorted((DOCS / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_run_and_hold_what_they_print(path, capsys):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    outputs = [output for cell in code for output in cell["outputs"]]
    stored = "".join("".join(o["text"]) for o in outputs if o["output_type"] == "stream")
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 1
    with jax.numpy_rank_promotion("allow"):
        exec(compile("\n".join("".join(cell["source"]) for cell in code), path.stem, "exec"), {})
    printed = capsys.readouterr().out
    assert_same_but_for_rounding(printed, stored)
    plt.close("all")
