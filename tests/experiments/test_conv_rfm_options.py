"""What `experiments.conv_rfm` refuses, what it expects of a run, and a user's own images."""

import dataclasses
import re

import jax.numpy as jnp
import pytest

from experiments import conv_rfm
from experiments.support import conv_cost, conv_options, devices
from experiments.support.data import DataError
from experiments.support.estimate import MemoryEstimateError
from tests.experiments import test_data_folder as folders
from tests.experiments.test_conv_rfm import rows, value

FOLDER = conv_rfm.Config(dataset="folder", num_train=6, num_validation=3, num_test=5, depth=1, num_iters=1)


@pytest.fixture(autouse=True)
def _without_the_probe_of_speed(monkeypatch):
    monkeypatch.setattr(conv_cost.estimate, "matmul_rate", lambda _: 1e10)


@pytest.mark.parametrize("dataset", [name for name in conv_options.DEFAULTS if name != "folder"])
def test_a_dry_run_needs_no_data_and_writes_nothing(dataset, tmp_path, capsys):
    config = conv_rfm.Config(dataset=dataset, workdir=tmp_path / "run", dry_run=True)
    assert conv_rfm.main(config) is None
    printed = capsys.readouterr().out
    assert re.search("memory: about .* GiB at once .*free", printed)
    assert "time: about" in printed
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("dataset", "given"), [("noisy_mnist", {"num_test": 5000}), ("mnist_5k", {"num_train": 4900})]
)
def test_a_dry_run_refuses_more_images_than_there_are(dataset, given):
    with pytest.raises(DataError, match=r"(4900|9000|5000)"):
        conv_rfm.main(conv_rfm.Config(dataset=dataset, dry_run=True, **given))


def test_the_published_values_are_those_of_the_notebooks():
    stars, digits = (conv_options.resolved(name, {}) for name in ("stars", "noisy_mnist"))
    assert [stars[name] for name in ("num_train", "num_test", "patch_size", "depth", "ridge")] == [
        *(50, 2000, 11, 1, 1e-3)
    ]
    assert stars["num_iters"] >= 1
    assert stars["agop_size"] == digits["agop_size"] == 20
    assert [digits[name] for name in ("num_train", "patch_size", "depth", "ridge")] == [4000, 3, 3, 1e-5]


@pytest.mark.parametrize("given", [{"num_train": 70_000}, {"num_train": 9, "num_test": 10**9}])
def test_a_run_that_does_not_fit_is_refused_before_any_work(given, tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "free_bytes", lambda _: 24 * 2**30)
    config = conv_rfm.Config(dataset="svhn", data_dir=tmp_path, workdir=tmp_path / "run", **given)
    with pytest.raises(MemoryEstimateError, match=r"not enough memory: .* needs .* GiB .* free: use "):
        conv_rfm.main(config)
    assert list(tmp_path.iterdir()) == []


def test_what_is_suggested_fits_and_one_more_does_not():
    settings = conv_options.resolved("svhn", {"num_train": 70_000})
    sizes, free = conv_cost.expected_sizes("svhn", settings), 24 * 2**30
    with pytest.raises(MemoryEstimateError) as caught:
        conv_cost.cost(settings, sizes, jnp.dtype("float64"), free)
    largest = int(re.search(r"--num-train=(\d+)", str(caught.value))[1])
    peaks = [conv_cost.peak_bytes(settings, sizes._replace(num_train=largest + i), 8) for i in (0, 1)]
    assert peaks[0] <= free < peaks[1]


def test_float32_is_suggested_where_it_fits():
    settings = conv_options.resolved("svhn", {"num_train": 70_000})
    sizes = conv_cost.expected_sizes("svhn", settings)
    free = conv_cost.peak_bytes(settings, sizes, 4)
    with pytest.raises(MemoryEstimateError, match="or --precision=float32"):
        conv_cost.cost(settings, sizes, jnp.dtype("float64"), free)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_train": 0}, r"--num-train must be at least 1: got 0"),
        ({"num_validation": -1}, r"--num-validation must be at least 0: got -1"),
        ({"num_iters": 0}, r"--num-iters must be at least 1: got 0"),
        ({"agop_size": 0}, r"--agop-size must be at least 1: got 0"),
        ({"ridge": -1.0}, r"--ridge must be at least 0: got -1"),
        ({"stride": 0}, r"--stride must be at least 1: got 0"),
        ({"seeds": (1, 1)}, r"--seeds must be one or more different numbers"),
        ({"patch_size": 33}, r"patch_size is larger than what layer 1 receives: got 33 for 32 x 32"),
        (
            {"patch_size": 20, "depth": 2},
            r"patch_size is larger than what layer 2 receives: got 20 for 13 x 13",
        ),
        ({"digits": "mnist"}, r"--digits is an option of --dataset=noisy_mnist alone"),
        ({"image_size": 8}, r"--image-size is an option of --dataset=folder alone"),
        ({"dataset": "folder"}, r"--dataset=folder needs --data-dir"),
    ],
)
def test_options_that_no_run_can_use_are_refused(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        conv_rfm.main(conv_rfm.Config(workdir=tmp_path / "run", **options))
    assert list(tmp_path.iterdir()) == []


def test_a_users_own_images(tmp_path, capsys):
    images = folders.write(tmp_path / "my images", shape=(*folders.SIZE, 3))
    config = dataclasses.replace(FOLDER, data_dir=images, workdir=tmp_path / "run", patch_size=2)
    config = dataclasses.replace(config, seeds=(0,))
    conv_rfm.main(dataclasses.replace(config, dry_run=True))
    assert not (tmp_path / "run").exists()
    conv_rfm.main(config)
    assert "my images" in capsys.readouterr().out
    assert 0 <= value(tmp_path / "run", "test_accuracy", iteration=1) <= 1
    squeezed = dataclasses.replace(config, image_size=4, workdir=tmp_path / "squeezed")
    conv_rfm.main(squeezed)
    assert rows(tmp_path / "squeezed") != rows(tmp_path / "run")


def test_other_images_in_the_folder_are_another_run(tmp_path):
    images = folders.write(tmp_path / "images")
    config = dataclasses.replace(FOLDER, data_dir=images, workdir=tmp_path / "run", patch_size=2, seeds=(0,))
    conv_rfm.main(config)
    for path in images.glob("*/*.png"):
        path.write_bytes(next(images.glob("ant/00.png")).read_bytes())
    with pytest.raises((ValueError, DataError), match=r"data_sha256|constant|equal"):
        conv_rfm.main(config)
