"""The table of claims in the README, as rows by claim."""

import re
from pathlib import Path

from experiments.support.claims.findings import Finding

README = Path(__file__).parents[2] / "README.md"


def rows_of_readme() -> dict[str, Finding]:
    """Returns the rows of the table by their claim."""
    text = README.read_text(encoding="utf-8")
    table = text.partition("<!-- begin claims -->")[2].partition("<!-- end claims -->")[0]
    lines = [line.removeprefix("| ").removesuffix(" |") for line in table.strip().splitlines()[2:]]
    cells = [[cell.replace(r"\|", "|") for cell in re.split(r"(?<!\\) \| ", line)] for line in lines]
    rows = {row[0]: Finding(*row) for row in cells}
    assert len(rows) == len(lines)
    return rows
