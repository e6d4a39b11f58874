"""Values on the command line of a benchmark, refused in words before anything is measured."""

import argparse
import os
from pathlib import Path


def count(text: str) -> int:
    """Returns a whole number of at least 1.

    Raises:
        ArgumentTypeError: If the text is anything else; the parser names the flag.
    """
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1: got {text!r}")
    return number


def counts(text: str) -> list[int]:
    """Returns whole numbers of at least 1, separated by commas.

    Raises:
        ArgumentTypeError: If the text is anything else; the parser names the flag.
    """
    return [count(part) for part in text.split(",")]


def file_to_write(text: str) -> Path:
    """Returns the path of a file that can be written, whether it is there or not.

    Raises:
        ArgumentTypeError: If it cannot; the parser names the flag.
    """
    path = Path(text)
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"must lie in a folder that exists: got {text}; make {path.parent}")
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"must be a file: got the folder {text}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"must be a file that may be written: got {text}")
    return path
