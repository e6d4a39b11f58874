"""Command-line experiments built on dnc_jax: everything that touches files, screens and clocks."""

import os
import sys
from types import TracebackType

# Read when scipy's OpenBLAS, by which JAX factorizes on CPUs, is loaded. Its threads then sleep as soon as
# they have ended; otherwise they keep cores busy that the next product needs.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")


def _end_quietly(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("\ninterrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)


# The imports of an experiment take seconds, and Ctrl-C may come during them.
sys.excepthook = _end_quietly
