"""What a reader may miss in a report, and why it is not there."""

from collections.abc import Sequence
from typing import NamedTuple

from experiments.support.report.reading import RunRecords
from experiments.support.rfm_table import has_classes

ANEW = "of an older version: run it anew for them."
NO_FEATURES = "There is no simplex of class means: the kernel has no features of finite dimension."
NO_CLASSES = "There are no class means and no NC curves: the targets are no classes."
NOTES = {
    "deep_rfm": "NC3 is not recorded: a layer of Deep RFM has no linear classifier.",
    "conv_rfm": NO_FEATURES,
}


class Lacking(NamedTuple):
    """A figure that runs of an older version lack, beside another that they have."""

    missing: str
    beside: str
    note: str


OLDER = {
    "rfm": (
        Lacking("spectrum", "heat", "Spectra of M are not recorded in {}: resume the run, which adds them."),
    ),
    "train_network": (
        Lacking("spectrum", "heat", f"Spectra of AGOPs are not recorded in {{}}, {ANEW}"),
        Lacking("gram", "heat", f"Cosines of points are not recorded in {{}}, {ANEW}"),
    ),
    "conv_rfm": (Lacking("heat", "images", f"Kernel matrices are not recorded in {{}}, {ANEW}"),),
}


def note_of(runs: Sequence[RunRecords], names: Sequence[str], drawn: Sequence[Sequence[set[str]]]) -> str:
    """Returns the note of a report; drawn are the names of figures that each part of each run has."""
    command, notes = runs[0].command, []
    for missing, beside, note in OLDER.get(command, ()):
        without = [
            name
            for name, parts in zip(names, drawn, strict=True)
            if any(beside in part and missing not in part for part in parts)
        ]
        notes += [note.format(", ".join(without))] if without else []
    if command == "rfm":
        notes.append(NO_FEATURES if any(has_classes(run.config["task"]) for run in runs) else NO_CLASSES)
    return " ".join([*notes, NOTES.get(command, "")]).strip()
