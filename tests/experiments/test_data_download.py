"""Downloads for real, from a server on this machine: checked, whole, or told why not."""

import hashlib
import http.server
import socket
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from experiments.support import data
from experiments.support.data import download
from experiments.support.data.catalog import CATALOG, describe
from experiments.support.data.images import Unavailable
from tests.experiments import original_files as files

NETWORK_NAMES = sorted(name for name, description in CATALOG.items() if description.originals)


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files, some of them only by half."""

    cut_off: tuple[str, ...] = ()
    requests: list[str]

    def do_GET(self):
        self.requests.append(self.path)
        if self.path.strip("/") not in self.cut_off:
            super().do_GET()
            return
        raw = Path(self.translate_path(self.path)).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw[: len(raw) // 2])

    def log_message(self, *_):
        """Keeps the test's output clean."""


@pytest.fixture
def served(tmp_path, monkeypatch):
    """The folder and the handler of a running server."""
    folder = files.write_svhn(tmp_path / "served")
    handler = type("Served", (Handler,), {"cut_off": (), "requests": []})

    def make(*args):
        return handler(*args, directory=str(folder))

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), make) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setattr(download, "remotes", lambda _: listed(folder, address))
        yield folder, handler
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _nothing_prepared(tmp_path, monkeypatch):
    monkeypatch.setenv("DNC_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path / "default"))


def listed(folder, address):
    return tuple(
        download.Remote(f"{address}/{name}", hashlib.sha256(raw).hexdigest(), len(raw))
        for name in describe("svhn").originals
        for raw in [(folder / name).read_bytes()]
    )


def downloads(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache/downloads/svhn").glob("*"))


def test_files_are_fetched_and_read(served, tmp_path):
    images = data.load("svhn")
    np.testing.assert_array_equal(images.train.images, files.pixels(30, (32, 32, 3)))
    assert "downloaded from http://127.0.0.1" in images.source
    assert downloads(tmp_path) == ["test_32x32.mat", "train_32x32.mat"]


def test_empty_data_dir_takes_the_files(served, tmp_path, monkeypatch):
    monkeypatch.delenv("DNC_JAX_CACHE")
    folder = tmp_path / "mine"
    folder.mkdir()
    data.load("svhn", data_dir=folder)
    assert (folder / "dnc_jax_cache/downloads/svhn/train_32x32.mat").exists()


def test_whole_files_need_no_network(served, monkeypatch):
    _, handler = served
    data.load("svhn")
    monkeypatch.setattr(download, "_probe", no_network)
    data.load("svhn")
    assert handler.requests == ["/train_32x32.mat", "/test_32x32.mat"]


def no_network(url):
    raise Unavailable(f"{url} was asked for")


def test_changed_download_is_fetched_again(served, tmp_path):
    _, handler = served
    data.load("svhn")
    files.cut(tmp_path / "cache/downloads/svhn/test_32x32.mat")
    data.load("svhn")
    assert handler.requests.count("/test_32x32.mat") == 2
    assert handler.requests.count("/train_32x32.mat") == 1


def test_wrong_checksum_is_refused(served, tmp_path, monkeypatch):
    wrong = [download.Remote(r.url, "0" * 64, r.size) for r in download.remotes(describe("svhn"))]
    monkeypatch.setattr(download, "remotes", lambda _: wrong)
    with pytest.raises(
        data.DataError, match=r"download: .*mat arrived with a wrong checksum, expected sha256 000"
    ):
        data.load("svhn")
    assert downloads(tmp_path) == []


def test_cut_off_file_never_looks_finished(served, tmp_path):
    _, handler = served
    handler.cut_off = ("test_32x32.mat",)
    with pytest.raises(data.DataError, match=r"download: .*test_32x32\.mat \(\d+ bytes\): \w+"):
        data.load("svhn")
    assert downloads(tmp_path) == ["train_32x32.mat"]
    handler.cut_off = ()
    assert data.load("svhn").train.images.shape == (30, 32, 32, 3)


def test_missing_file_is_told(served):
    folder, _ = served
    remotes = download.remotes(describe("svhn"))
    (folder / "train_32x32.mat").unlink()
    with pytest.raises(Unavailable, match="404"):
        download.fetch(remotes, folder / "target")


def test_unreachable_server_lists_every_way_out(monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/train_32x32.mat"
    monkeypatch.setattr(download, "remotes", lambda _: (download.Remote(url, "0" * 64, 1),))
    with pytest.raises(data.DataError, match="no data for dataset 'svhn'") as caught:
        data.load("svhn")
    for part in (
        "- original files: no data_dir given",
        "- prepared dataset: no prepared dataset in",
        f"- download: {url} cannot be reached: ConnectionError",
        "- preparation: ",
        "put train_32x32.mat and test_32x32.mat into a folder",
        "tfds.builder('svhn_cropped', file_format='array_record').download_and_prepare()",
        "fashion_mnist_mini or digits",
    ):
        assert part in str(caught.value)


def test_silent_server_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_PROBE_SECONDS", 0.1)
    monkeypatch.setattr(download, "_CONNECT_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        remote = download.Remote(f"http://127.0.0.1:{silent.getsockname()[1]}/x", "0" * 64, 1)
        with pytest.raises(Unavailable, match=r"cannot be reached: no answer within 0\.1 s"):
            download.fetch((remote,), tmp_path)


def test_a_terminal_gets_a_progress_bar(served, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    data.load("svhn")
    shown = capsys.readouterr().err
    assert "test_32x32.mat" in shown
    assert "━" in shown


@pytest.mark.parametrize("name", NETWORK_NAMES)
def test_addresses_of_exactly_the_needed_files(name):
    found = download.remotes(describe(name))
    assert tuple(remote.filename for remote in found) == describe(name).originals
    assert all(len(remote.sha256) == 64 and remote.size > 4000 for remote in found)


def test_svhn_leaves_out_the_extra_file():
    assert sum(remote.size for remote in download.remotes(describe("svhn"))) < 300_000_000


def test_unlisted_file_is_told(monkeypatch):
    monkeypatch.setattr(tfds.builder_cls("svhn_cropped"), "url_infos", {})
    with pytest.raises(Unavailable, match=r"lists no address for train_32x32\.mat, test_32x32\.mat"):
        download.remotes(describe("svhn"))
