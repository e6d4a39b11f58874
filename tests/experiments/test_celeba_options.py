"""CelebA's options, the memory and time of its runs, and what is refused before any work."""

import dataclasses
import re
from functools import partial
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import celeba
from experiments.support import celeba_cost, celeba_runs, command, devices
from experiments.support.estimate import MemoryEstimateError
from tests.experiments import celeba_files as files

SMALL = celeba.Config(attributes=("Smiling", "Eyeglasses"), image_size=files.GRID, num_per_class=150)


@pytest.fixture(autouse=True)
def _without_the_probe_of_speed(monkeypatch):
    monkeypatch.setattr(celeba_cost.estimate, "run_seconds", lambda *_: 100.0)


def test_a_dry_run_needs_no_data_and_writes_nothing(tmp_path, capsys):
    config = dataclasses.replace(SMALL, data_dir=tmp_path / "none", workdir=tmp_path / "run", dry_run=True)
    assert celeba.main(config) is None
    out = capsys.readouterr().out
    assert re.search("memory: about .* at once .*free", out)
    assert "time: about 2 minutes at most" in out
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_does_not_fit_is_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "free_bytes", lambda _: 24 * 2**30)
    config = celeba.Config(data_dir=tmp_path / "none", workdir=tmp_path / "run")
    with pytest.raises(MemoryEstimateError) as caught:
        celeba.main(config)
    text = str(caught.value)
    assert "not enough memory: the data needs 14.4 GiB in float64 and the run about 97.1 GiB at once" in text
    assert "24.0 GiB are free: use --num-per-class=" in text
    assert list(tmp_path.iterdir()) == []


def refused(free: float, **sizes) -> str:
    """What is said of a run that does not fit into so many GiB."""
    sizes = {"image_size": 96, "num_per_class": 25_000, "dtype": jnp.dtype("float64")} | sizes
    with pytest.raises(MemoryEstimateError) as caught:
        celeba_cost.cost(**sizes, num_fits=1, free=int(free * 2**30))
    return str(caught.value)


@pytest.mark.parametrize(("image_size", "free"), [(48, 52), (96, 80)])
def test_what_is_suggested_fits_and_one_more_does_not(image_size, free):
    text = refused(free, image_size=image_size)
    for name, option in (("num_per_class", "--num-per-class"), ("image_size", "--image-size")):
        found = re.search(rf"{option}=(\d+)", text)
        assert found, option
        asked = {"image_size": image_size, "num_per_class": 25_000}
        sizes = asked | {name: int(found[1])}
        celeba_cost.cost(**sizes, num_fits=1, dtype=jnp.dtype("float64"), free=free * 2**30)
        refused(free, **asked | {name: int(found[1]) + 1})


def test_two_options_are_suggested_where_one_does_not_suffice():
    found = re.search(r"use --num-per-class=(\d+) with --image-size=(\d+)\n", refused(24))
    assert found
    number, side = int(found[1]), int(found[2])
    assert side == 96 * number // 25_000
    celeba_cost.cost(side, number, num_fits=1, dtype=jnp.dtype("float64"), free=24 * 2**30)
    refused(24, num_per_class=number + 1, image_size=96 * (number + 1) // 25_000)
    assert "use a machine with more memory" in refused(0.1)


def test_float32_is_suggested_where_it_suffices():
    texts = [refused(1, dtype=jnp.dtype(name)) for name in ("float32", "float64")]
    single, double = (float(re.search(r"about ([\d.]+) GiB", text)[1]) for text in texts)
    assert single < 0.51 * double
    assert not any("--precision" in text for text in texts)
    assert "or --precision=float32" in refused(1.1 * single)
    assert "--precision" not in refused(0.9 * single)


def test_a_missing_dataset_ends_with_one_message(tmp_path, capsys):
    config = dataclasses.replace(SMALL, data_dir=tmp_path, workdir=tmp_path / "run")
    assert command.run(partial(celeba.main, config)) == 1
    err = capsys.readouterr().err
    assert "error: CelebA is missing: no prepared dataset in" in err
    assert "download_and_prepare()" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attributes": ("smiling",)}, "did you mean Smiling"),
        ({"image_size": 0}, "--image-size must be at least 1"),
        ({"num_per_class": 4}, "--num-per-class must be at least 5, which are split 80/20: got 4"),
        ({"num_iters": 0}, "--num-iters must be at least 1"),
        ({"agop_size": 0}, "--agop-size must be at least 1"),
        ({"bandwidth": 0.0}, "--bandwidth must be positive"),
        ({"ridge": -1.0}, "--ridge must be at least 0"),
        ({"seeds": (1, 1)}, "--seeds must be one or more different"),
    ],
)
def test_options_that_no_run_can_use_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        celeba.main(dataclasses.replace(SMALL, **change))


def test_defaults_are_the_published_settings():
    parsed = command.parse(celeba.Config, {}, ["--data-dir=x", "--attributes", "Smiling", "Bald"])
    assert (parsed.data_dir, parsed.attributes) == (Path("x"), ("Smiling", "Bald"))
    published = celeba.Config()
    assert (published.image_size, published.num_per_class, published.num_iters) == (96, 25_000, 1)
    assert (published.bandwidth, published.ridge, published.agop_size) == (10.0, 1e-3, 20_000)
    assert celeba_cost.largest_size(96, 25_000).num_train == 40_000


@pytest.mark.parametrize("sign", [1, -1])
def test_the_top_eigenvector_has_its_largest_entry_at_plus_one(sign):
    vector = sign * np.asarray([0.1, -0.7, 0.3, 0.2, 0.0, 0.4])
    vector /= np.linalg.norm(vector)
    matrix = 3.0 * np.outer(vector, vector) + np.diag([0.1, 0.0, 0.0, 0.2, 0.1, 0.0])
    found, top = celeba_runs.top_eigenvector(matrix)
    values, vectors = np.linalg.eigh(matrix)
    assert found == pytest.approx(values[-1], rel=1e-12)
    np.testing.assert_allclose(top, vectors[:, -1] / vectors[1, -1], atol=1e-12)
    assert top[1] == 1.0
    np.testing.assert_array_equal(celeba_runs.top_eigenvector(matrix)[1], top)
