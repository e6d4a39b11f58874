"""A cached copy is used while its originals are unchanged, and only then."""

import logging
import os

import numpy as np
import pytest

from experiments.support import data
from experiments.support.data import cache, idx
from tests.experiments import original_files as files


@pytest.fixture
def source(tmp_path):
    return files.write_idx(tmp_path / "data")


def cached_files(folder):
    return sorted(folder.glob("**/mnist-*.npz"))


def read_fails(path):
    raise AssertionError(f"{path} was read again")


def test_second_load_reads_the_cache(source, monkeypatch):
    first = data.load("mnist", data_dir=source)
    monkeypatch.setattr(idx, "read_images", read_fails)
    second = data.load("mnist", data_dir=source)
    np.testing.assert_array_equal(first.train.images, second.train.images)
    np.testing.assert_array_equal(first.test.labels, second.test.labels)
    assert first.source == second.source
    assert not list(source.rglob("*.part"))


def test_folder_is_the_variable_then_data_dir_then_the_users(source, tmp_path, monkeypatch):
    import pooch

    monkeypatch.delenv("DNC_JAX_CACHE", raising=False)
    assert cache.cache_folder(source) == source / "dnc_jax_cache"
    assert cache.cache_folder(None) == pooch.os_cache("dnc_jax")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert cache.cache_folder(source) == pooch.os_cache("dnc_jax")
    monkeypatch.setenv("DNC_JAX_CACHE", str(tmp_path / "elsewhere"))
    assert cache.cache_folder(source) == cache.cache_folder(None) == tmp_path / "elsewhere"
    data.load("mnist", data_dir=source)
    assert len(cached_files(tmp_path / "elsewhere")) == 1
    assert not cached_files(source)


def test_changed_originals_are_read_again(source, caplog):
    data.load("mnist", data_dir=source)
    files.write_idx(source, seed=5)
    with caplog.at_level(logging.INFO):
        images = data.load("mnist", data_dir=source)
    np.testing.assert_array_equal(images.train.images, files.pixels(30, (28, 28, 1), seed=5))
    assert "was made from other files; it is built again" in caplog.text
    assert len(cached_files(source)) == 1


def test_changed_time_of_an_original_alone_counts(source, monkeypatch):
    data.load("mnist", data_dir=source)
    os.utime(source / "t10k-labels-idx1-ubyte.gz", ns=(1, 1))
    monkeypatch.setattr(idx, "read_images", read_fails)
    with pytest.raises(AssertionError, match="was read again"):
        data.load("mnist", data_dir=source)


def test_two_folders_with_one_cache_do_not_mix(source, tmp_path, monkeypatch):
    monkeypatch.setenv("DNC_JAX_CACHE", str(tmp_path / "cache"))
    other = files.write_idx(tmp_path / "other", seed=7)
    first = data.load("mnist", data_dir=source)
    second = data.load("mnist", data_dir=other)
    assert not np.array_equal(first.train.images, second.train.images)
    np.testing.assert_array_equal(data.load("mnist", data_dir=source).train.images, first.train.images)
    assert len(cached_files(tmp_path / "cache")) == 2


def truncated(path):
    files.cut(path)


def emptied(path):
    path.write_bytes(b"")


def foreign(path):
    np.savez(path.with_suffix(""), something=np.arange(3))


def flipped(path):
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def pickled(path):
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays["train_images"] = np.array([print, None], dtype=object)
    np.savez(path.with_suffix(""), **arrays)


@pytest.mark.parametrize("damage", [truncated, emptied, foreign, flipped, pickled])
def test_damaged_cache_is_built_again(source, caplog, damage):
    before = data.load("mnist", data_dir=source)
    (path,) = cached_files(source)
    damage(path)
    after = data.load("mnist", data_dir=source)
    np.testing.assert_array_equal(before.train.images, after.train.images)
    assert "is not a whole cache file" in caplog.text
    caplog.clear()
    data.load("mnist", data_dir=source)
    assert not caplog.text


def test_damaged_originals_are_not_hidden_by_a_valid_cache(source):
    data.load("mnist", data_dir=source)
    files.cut(source / "train-images-idx3-ubyte.gz")
    with pytest.raises(data.DataError, match="train-images-idx3-ubyte"):
        data.load("mnist", data_dir=source)


def test_refused_data_are_not_cached(tmp_path):
    files.write_idx(tmp_path, num_classes=12)
    with pytest.raises(data.DataError, match="labels out of range"):
        data.load("mnist", data_dir=tmp_path)
    assert not cached_files(tmp_path)


def test_unwritable_cache_is_only_a_warning(source, tmp_path, monkeypatch, caplog):
    (tmp_path / "occupied").write_text("a file where the folder should be")
    monkeypatch.setenv("DNC_JAX_CACHE", str(tmp_path / "occupied"))
    assert data.load("mnist", data_dir=source).train.images.shape == (30, 28, 28, 1)
    assert "could not be kept" in caplog.text
