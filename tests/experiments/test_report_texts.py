"""What a report says: names of runs, its text for threads, its controls, and colors that can be read."""

import re
from importlib import resources

import pytest

from experiments import report
from tests.experiments import plotting_runs
from tests.experiments.report_runs import Elements, contrast, data_in, page_of

SMALL = {"depth": 2, "seeds": (0, 1), "num_classes": 3, "num_blocks": 6}
CSS = (resources.files("experiments.support.report") / "page.css").read_text(encoding="utf-8")


def names_of(*folders):
    return [run["name"] for run in data_in(page_of(*folders))["runs"]]


def test_runs_of_one_name_are_told_apart(tmp_path):
    same = [plotting_runs.make_run(tmp_path / name / "run", **SMALL) for name in ("a", "b")]
    assert names_of(*same) == [f"run ({path})" for path in same]
    # A text that reads like the number of another run.
    alike = [plotting_runs.make_run(tmp_path / str(i), **SMALL, ridge=v) for i, v in enumerate((0.1, "0.1"))]
    assert names_of(*alike) == ["ridge 0.1 (0)", "ridge 0.1 (1)"]


def test_the_story_says_what_it_counts(tmp_path):
    rows = {"one": (0,), "three": (0, 1, 2)}
    stories = {
        name: data_in(page_of(plotting_runs.make_run(tmp_path / name, **(SMALL | {"seeds": seeds}))))["runs"][
            0
        ]["story"][1]
        for name, seeds in rows.items()
    }
    assert stories["one"].startswith("Of 2 layers, the linear stage")
    assert stories["three"].startswith("Of 6 cases, 2 layers in each of 3 seeds, the linear stage")


@pytest.mark.parametrize(
    ("name", "links"),
    [
        ("@someone", r"@\w"),
        ("a #12", r"#\d"),
        ("gh-7", r"gh-\d"),
        ("https://a.example/b", r"://"),
        ("www.a.example", r"www\."),
        ("me@a.example", r"@\w"),
    ],
)
def test_the_text_makes_no_links_of_names(tmp_path, name, links):
    run = plotting_runs.make_run(tmp_path / "run", **SMALL, dataset=name, class_names=[name])
    text = report.main(report.Config(runs=(run,), markdown=True)).read_text(encoding="utf-8")
    assert not re.search(links, text)
    assert text.replace("\u200b", "").replace("\\", "").count(name) == 3


def test_every_control_has_a_label(tmp_path):
    text = page_of(plotting_runs.make_run(tmp_path / "run", **SMALL))
    tags = Elements(text).tags
    (slider,) = (a for tag, a in tags if tag == "input" and a["type"] == "range")
    assert slider["id"] == "slider"
    body = text.split("<body>")[1].split("<script")[0]
    outside = re.sub(r"<label.*?</label>", "", body, flags=re.DOTALL)
    assert re.findall(r"<(?:input|select|textarea)", body)
    assert not re.findall(r"<(?:input|select|textarea)", outside)
    assert any(a.get("aria-live") == "polite" for tag, a in tags if tag == "output")
    assert ("html", {"lang": "en"}) in tags


@pytest.mark.parametrize("theme", ["light", "dark", "print"])
def test_texts_stand_out_from_their_ground(theme):
    blocks = re.findall(r":root \{(.*?)\}", CSS, flags=re.DOTALL)
    light, dark, printed = (dict(re.findall(r"--([\w-]+): (#\w+);", block)) for block in blocks)
    colors = {"light": light, "dark": dark, "print": light | printed}[theme]
    for text in ("ink", "soft"):
        for ground in ("paper", "ground"):
            assert contrast(colors[text], colors[ground]) >= 4.5, (text, ground)
    assert contrast(colors["warn"], colors["warn-ground"]) >= 4.5


def test_colors_of_classes_stand_out_from_a_dark_ground():
    light, dark, printed = (
        dict(re.findall(r"--([\w-]+): (#\w+);", block))
        for block in re.findall(r":root \{(.*?)\}", CSS, flags=re.DOTALL)
    )
    names = [name for name in light if name.startswith("class-")]
    assert len(names) == 10
    for name in names:
        assert contrast((light | dark)[name], dark["paper"]) >= 3, name
        # Paper is light, whatever the screen is.
        assert printed.get(name, light[name]) == light[name]
        assert name not in dark or name in printed
