"""The page of a report: one file of HTML with its data, its style and its script inside, and no network."""

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from experiments.support.report import tables
from experiments.support.report.curves import (
    PANELS,
    STAGES,
    Panel,
    View,
    curves_of,
    panels_with_points,
    steps_of,
    views_of,
)
from experiments.support.report.frames import FIGURES, frames_of
from experiments.support.report.notes import note_of
from experiments.support.report.reading import RunRecords, class_names_of, differences
from experiments.support.report.story import names_of, setting_of, story_of, title_of, unfinished

SCRIPTS = ("charts.js", "figures.js", "saving.js", "page.js")
# Nothing but what the page itself holds is run or shown; pictures and downloads are made of its data.
POLICY = (
    "default-src 'none'; script-src '{script}'; style-src '{style}'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)


def page(runs: Sequence[RunRecords]) -> str:
    """Returns the HTML of a report of runs of one experiment."""
    script = "\n".join(_resource(name) for name in SCRIPTS)
    style = _resource("page.css")
    parts = {
        "policy": POLICY.format(script=_hash(script), style=_hash(style)),
        "title": html.escape(title_of(runs)),
        "style": style,
        "data": as_json(model(runs)),
        "script": script,
    }
    # In one pass, so that a placeholder in a name stays what it is.
    return re.sub(r"@(\w+)@", lambda found: parts[found[1]], _resource("page.html"))


def model(runs: Sequence[RunRecords]) -> dict[str, Any]:
    """Returns all that the page shows, as what JSON knows."""
    changed = differences(runs)
    names = names_of(runs, changed)
    metrics = {panel.metric for run in runs for panel in panels_with_points(run)}
    panels = [panel for panel in PANELS[runs[0].command] if panel.metric in metrics]
    shown = [_run(run, name) for run, name in zip(runs, names, strict=True)]
    by_run = [[_drawn(view) for view in run["views"]] for run in shown]
    drawn = set().union(*(part for parts in by_run for part in parts))
    return {
        "title": title_of(runs),
        "step": runs[0].step,
        "stages": STAGES,
        "note": note_of(runs, names, by_run),
        "part": {"train_network": "layer", "rfm": "target"}.get(runs[0].command, ""),
        "figures": [f._asdict() for f in FIGURES[runs[0].command] if f.name in drawn],
        "panels": [_panel(panel) for panel in panels],
        "runs": shown,
        "differences": tables.differing(names, changed)._asdict() if len(runs) > 1 else None,
    }


def _panel(panel: Panel) -> dict[str, Any]:
    fields = {name: getattr(panel, name) for name in ("metric", "title", "label")}
    return fields | {"log": panel.is_log, "head": panel.at_head, "short": panel.title.split(":")[0]}


def _run(run: RunRecords, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "folder": run.folder.name,
        "setting": setting_of(run),
        "story": story_of(run),
        "unfinished": unfinished(run),
        "steps": steps_of(run),
        "last": run.num_steps,
        "seeds": run.seeds,
        "classes": class_names_of(run),
        "views": _views(run),
        "tables": [t(run)._asdict() for t in (tables.configuration, tables.environment, tables.timings)],
    }


def _views(run: RunRecords) -> list[dict[str, Any]]:
    """Returns the curves of every view, and its figures; those of no part are in the first alone."""
    views = views_of(run)
    return [
        {"name": view.name, "curves": _curves(run, view)} | _framed(run, view, is_first=view is views[0])
        for view in views
    ]


def _drawn(view: Mapping[str, Any]) -> set[str]:
    """Returns the names of the figures that a view has at any step."""
    return set(view["fixed"]).union(*view["frames"].values())


def _curves(run: RunRecords, view: View) -> dict[str, Any]:
    return {panel.metric: curves_of(run, view, panel) for panel in panels_with_points(run)}


def _framed(run: RunRecords, view: View, *, is_first: bool) -> dict[str, Any]:
    """Returns figures by step, and those that are one object at every step once."""
    frames = frames_of(run, view, is_first=is_first)
    every = list(frames.values())
    fixed = {
        name: data
        for name, data in (every[0].items() if len(every) > 1 else ())
        if all(frame.get(name) is data for frame in every)
    }
    changing = {at: {n: data for n, data in frame.items() if n not in fixed} for at, frame in frames.items()}
    return {"frames": changing, "fixed": fixed}


def as_json(content: dict[str, Any]) -> str:
    """Returns JSON of ASCII characters that ends no script element, whatever texts it holds."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _resource(name: str) -> str:
    return (resources.files("experiments.support.report") / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
