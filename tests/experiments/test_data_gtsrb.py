"""Traffic signs through TFDS for real: images of many sizes, and a test split without labels."""

import dataclasses
import io

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from experiments import deep_rfm
from experiments.support import data
from experiments.support.data import download, prepared
from experiments.support.data.catalog import describe
from tests.experiments import prepared_files as files


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A folder with a tiny prepared dataset; not to be written to."""
    root = tmp_path_factory.mktemp("stored")
    files.tiny_builder("gtsrb", root, files.SIGN_COUNTS).download_and_prepare()
    return root


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    monkeypatch.setenv("DNC_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path / "default"))


def squeezed(part):
    """The images of a split as Pillow reads and squeezes them, and their labels."""
    examples = list(files.examples("gtsrb", part, files.SIGN_COUNTS[part]))
    images = [Image.open(io.BytesIO(example["image"].getvalue())) for example in examples]
    small = [np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR)) for image in images]
    return np.stack(small), np.asarray([example["label"] for example in examples])


def in_order(images, labels):
    """Images in the order of their bytes: TFDS shuffles while it writes."""
    rows = np.asarray(images).reshape(len(images), -1)
    order = np.lexsort(rows.T)
    return rows[order], labels[order]


@pytest.mark.parametrize("batch_size", [7, 4096])
def test_signs_are_squeezed_and_held_out_ones_are_labeled(stored, monkeypatch, batch_size):
    monkeypatch.setattr(prepared, "_BATCH_SIZE", batch_size)
    images = data.load("gtsrb", data_dir=stored)
    assert images.title == "GTSRB (90 + 45)"
    for split, part in ((images.train, "train"), (images.test, "validation")):
        assert split.images.shape[1:] == (32, 32, 3)
        for got, want in zip(in_order(split.images, split.labels), in_order(*squeezed(part)), strict=True):
            np.testing.assert_array_equal(got, want)


def test_the_source_tells_what_was_done(stored):
    source = data.load("gtsrb", data_dir=stored).source
    assert source.startswith("TensorFlow Datasets visual_domain_decathlon/gtsrb (array_record) in ")
    assert "squeezed to 32 x 32 by Pillow's bilinear filter" in source
    assert "test images are those of its validation split (its test split has no labels)" in source


def test_features_are_those_of_tfds(tmp_path):
    stock = tfds.builder_cls("visual_domain_decathlon")(config="gtsrb", data_dir=tmp_path)
    assert repr(stock.info.features) == repr(files.features("gtsrb"))
    assert stock.info.features["label"].num_classes == len(describe("gtsrb").class_names) == 43


def test_nothing_is_promised_that_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "remotes", None)
    with pytest.raises(data.DataError, match="no data for dataset 'gtsrb'") as caught:
        data.load("gtsrb", data_dir=tmp_path)
    text = str(caught.value)
    assert "tfds.builder('visual_domain_decathlon/gtsrb', file_format='array_record')" in text
    assert f"no prepared dataset in {tmp_path / 'visual_domain_decathlon' / 'gtsrb'}" in text
    assert "original files" not in text
    assert "download:" not in text


def test_an_image_that_does_not_decode_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "stored", lambda *_: io.BytesIO(b"no image at all"))
    files.tiny_builder("gtsrb", tmp_path, files.SIGN_COUNTS).download_and_prepare()
    with pytest.raises(data.DataError, match=r"decathlon/gtsrb cannot be read: got UnidentifiedImageError"):
        data.load("gtsrb", data_dir=tmp_path)


@pytest.mark.parametrize("is_there", [True, False])
def test_deep_rfm_takes_it(stored, tmp_path, capsys, is_there):
    config = deep_rfm.Config(dataset="gtsrb", num_train=88, num_test=44, seeds=(0,), dry_run=True)
    deep_rfm.main(dataclasses.replace(config, data_dir=stored) if is_there else config)
    told = " ".join(capsys.readouterr().out.split())
    assert "num_classes 43" in told
    assert "image_shape [32, 32, 3]" in told
    assert ("its test split has no labels" in told) == is_there
