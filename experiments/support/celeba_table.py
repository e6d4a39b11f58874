"""What `experiments.celeba` prints: a line per attribute, the plain kernel beside those with an AGOP."""

from collections.abc import Sequence
from statistics import mean

from experiments.support.celeba_rows import Parts
from experiments.support.console import say
from experiments.support.records import Row

NAME_WIDTH, CELL_WIDTH = 20, 13
SCORE = "test_accuracy"


class AttributeTable:
    """Prints attributes as they end: accuracies on the test split, iteration 0 being the plain kernel."""

    def __init__(self, num_iters: int) -> None:
        """Takes the number of updates of M."""
        updates = ["with AGOP"] if num_iters == 1 else [f"AGOP {i}" for i in range(1, num_iters + 1)]
        self._columns = ["plain Laplace", *updates]

    def say(self, text: str) -> None:
        """Prints a line of text as it is."""
        say(text)

    def header(self, seed: int) -> None:
        """Prints the seed and the names of the columns."""
        names = " ".join(f"{name:>{CELL_WIDTH}}" for name in self._columns)
        self.say(f"\nseed {seed}, accuracy on held-out images")
        self.say(f"{'attribute':<{NAME_WIDTH}} {'train':>6} {'test':>6} {names} {'gain':>6} {'seconds':>8}")

    def attribute(self, parts: Parts, rows: Sequence[Row], seconds: float | None) -> None:
        """Prints an attribute; seconds is what it took, None if it was loaded."""
        scores = score_by_iteration(rows)
        self._line(
            str(rows[0]["attribute"]),
            (str(len(parts.train.rows)), str(len(parts.test.rows))),
            scores,
            "loaded" if seconds is None else f"{seconds:.1f}",
        )

    def closing(self, rows: Sequence[Row]) -> None:
        """Prints the mean over attributes and seeds."""
        self._line("mean", ("", ""), score_by_iteration(rows), "")

    def _line(self, name: str, sizes: tuple[str, str], scores: Sequence[float], seconds: str) -> None:
        cells = " ".join(f"{score:>{CELL_WIDTH}.2%}" for score in scores)
        gain = f"{100 * (scores[-1] - scores[0]):+.2f}"
        train, test = sizes
        self.say(f"{name:<{NAME_WIDTH}} {train:>6} {test:>6} {cells} {gain:>6} {seconds:>8}".rstrip())


def score_by_iteration(rows: Sequence[Row]) -> list[float]:
    """Returns the mean accuracy on the test split over attributes and seeds, for every iteration."""
    found: dict[int, list[float]] = {}
    for row in rows:
        if row["metric"] == SCORE:
            found.setdefault(row["iteration"], []).append(row["value"])
    return [mean(found[iteration]) for iteration in sorted(found)]
