"""Command-line experiments built on dnc_jax: everything that touches files, screens and clocks."""

import sys
from types import TracebackType


def _end_quietly(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("\ninterrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)


# The imports of an experiment take seconds, and Ctrl-C may come during them.
sys.excepthook = _end_quietly
