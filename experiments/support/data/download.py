"""Fetches original files from the addresses that TensorFlow Datasets lists, checked by sha256."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.support.data.catalog import Description
from experiments.support.data.images import Unavailable
from experiments.support.data.prepared import one_line

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_CONNECT_SECONDS = 5
_READ_SECONDS = 15
# Name look-ups have no timeout of their own.
_PROBE_SECONDS = 15
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Remote:
    """One published file."""

    url: str
    sha256: str
    size: int

    @property
    def filename(self) -> str:
        """The last part of the address."""
        return self.url.rsplit("/", 1)[-1]


def remotes(description: Description) -> tuple[Remote, ...]:
    """Returns the published files that a dataset needs, and no others; raises Unavailable where unlisted."""
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise Unavailable(
            f"addresses come from tensorflow-datasets, not usable ({one_line(error)})"
        ) from error
    infos = tfds.builder_cls(description.tfds_name.split("/")[0]).url_infos or {}
    listed = {
        url.rsplit("/", 1)[-1]: Remote(url, info.checksum, int(info.size)) for url, info in infos.items()
    }
    missing = [name for name in description.originals if name not in listed]
    if missing:
        raise Unavailable(f"tensorflow-datasets lists no address for {', '.join(missing)}")
    return tuple(listed[name] for name in description.originals)


def fetch(files: tuple[Remote, ...], folder: Path) -> None:
    """Makes sure that the folder holds the files; a file appears there only once its checksum was right.

    Raises:
        Unavailable: A file could not be fetched whole.
    """
    for remote in files:
        if not _is_complete(remote, folder):
            _probe(remote.url)
            _retrieve(remote, folder)


def _is_complete(remote: Remote, folder: Path) -> bool:
    import pooch

    path = folder / remote.filename
    return path.is_file() and pooch.file_hash(str(path)) == remote.sha256


def _retrieve(remote: Remote, folder: Path) -> None:
    import pooch
    import requests

    try:
        with _progress(remote) as bar:
            # pooch's annotations lack its own downloaders and progress bars.
            downloader: Any = pooch.HTTPDownloader(
                progressbar=bar, chunk_size=_CHUNK_BYTES, timeout=(_CONNECT_SECONDS, _READ_SECONDS)
            )
            known_hash = f"sha256:{remote.sha256}"
            pooch.retrieve(remote.url, known_hash, remote.filename, folder, downloader=downloader)
    except (requests.RequestException, OSError) as error:
        raise Unavailable(f"{remote.url} ({remote.size} bytes): {one_line(error)}") from error
    except ValueError as error:
        raise Unavailable(
            f"{remote.url} arrived with a wrong checksum, expected sha256 {remote.sha256}; nothing was kept"
        ) from error


def _probe(url: str) -> None:
    # Any answer will do, an error status too: only the network is in question here.
    import requests

    outcome: list[str] = [f"no answer within {_PROBE_SECONDS} s"]

    def ask() -> None:
        try:
            requests.head(url, timeout=_CONNECT_SECONDS).close()
            outcome[0] = ""
        except requests.RequestException as error:
            outcome[0] = one_line(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_PROBE_SECONDS)
    if outcome[0]:
        raise Unavailable(f"{url} cannot be reached: {outcome[0]}")


@contextmanager
def _progress(remote: Remote) -> Iterator[Any]:
    """Yields a bar for pooch on a terminal, else False: pooch then writes one line for each file."""
    if not sys.stderr.isatty():
        yield False
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        "{task.description}",
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield _RichBar(progress, progress.add_task(remote.filename, total=remote.size))


class _RichBar:
    """A rich progress bar under the names that pooch calls."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task
        self.total = 0

    def update(self, num_bytes: int) -> None:
        self._progress.update(self._task, advance=num_bytes)

    def reset(self) -> None:
        self._progress.update(self._task, completed=0)

    def close(self) -> None:
        self._progress.refresh()
