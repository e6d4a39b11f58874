"""What a check found: a claim, who made it, what was expected and found, and whether it holds."""

import csv
import io
from collections.abc import Sequence
from typing import Literal, NamedTuple

Verdict = Literal["holds", "in part", "fails", "not run"]


class Finding(NamedTuple):
    """One row of the table."""

    claim: str
    source: str
    expected: str
    found: str
    verdict: Verdict


def verdict_of(*conditions: bool) -> Verdict:
    """Returns whether all, some or none of the conditions of a claim are met."""
    if all(conditions):
        return "holds"
    return "in part" if any(conditions) else "fails"


def not_run(name: str, error: Exception) -> Finding:
    """Returns the row of a check that could not be made, and why."""
    return Finding(name, "", "", f"not run: {' '.join(str(error).split())}", "not run")


def markdown(findings: Sequence[Finding]) -> str:
    """Returns the table in Markdown."""
    rows = [[field.capitalize() for field in Finding._fields], ["---"] * len(Finding._fields), *findings]
    return "".join("| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |\n" for row in rows)


def comma_separated(findings: Sequence[Finding]) -> str:
    """Returns the table as csv, with a header."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(Finding._fields)
    writer.writerows(findings)
    return file.getvalue()
