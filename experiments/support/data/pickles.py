"""Recognizes pickled versions of a dataset, which are refused and never read."""

from pathlib import Path

from experiments.support.data.catalog import Description
from experiments.support.data.images import DataError

_PATTERNS = ("*.pkl", "*.pkl.gz", "*.pickle", "*.pickle.gz")
_NAMED = {
    "cifar10": ("cifar-10-python.tar.gz", "cifar-10-batches-py", "data_batch_1", "test_batch"),
    "cifar100": ("cifar-100-python.tar.gz", "cifar-100-python"),
}


def refuse_pickles(description: Description, folders: tuple[Path, ...]) -> None:
    """Raises DataError where a folder without usable data holds a pickle that may have been meant as data."""
    patterns = _NAMED.get(description.name, ()) + _PATTERNS
    for folder in folders:
        found = sorted(path for pattern in patterns for path in folder.glob(pattern))
        if found:
            raise DataError(
                f"{found[0]} is a pickle in place of data: got {found[0].name}, expected "
                f"{' and '.join(description.originals)}; pickles are never unpickled, since that runs code "
                "from the file: put the expected files there instead, or move the pickle elsewhere"
            )
