"""A place that a dataset can be read from, and the identity by which a cached copy of it is recognized."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from experiments.support.data.images import Split


@dataclass(frozen=True)
class Source:
    """Files that were found but not yet read."""

    words: str
    """where the images come from, for the record of a run"""
    files: tuple[Path, ...]
    read: Callable[[], tuple[Split, Split]]
    """returns the training and the test split"""

    def identity(self) -> str:
        """Returns paths, sizes and times of change: what must be equal for a cached copy to be valid."""
        return "\n".join(_stamp(path) for path in self.files)


def _stamp(path: Path) -> str:
    status = path.stat()
    return f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"
