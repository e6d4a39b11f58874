"""CelebA through TFDS for real, on a tiny dataset under its stock name, version and features."""

import importlib
import io
import re

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from experiments.support.celeba_rows import choose
from experiments.support.data import celeba
from experiments.support.data.images import DataError
from tests.experiments import celeba_files as files

NAMES = ("Smiling", "Eyeglasses", "Wearing_Hat", "Bald", "Young")


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A folder with a tiny prepared CelebA; not to be written to."""
    return files.prepare(tmp_path_factory.mktemp("stored"))


@pytest.fixture(scope="module")
def faces(stored):
    return celeba.open_faces(stored, NAMES)


def copy_of(stored, folder):
    for path in stored.rglob("celeb_a/*/*"):
        target = folder / path.relative_to(stored)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    return folder


def decoded(part):
    """The stored images of a split at full size."""
    return [np.asarray(Image.open(files.jpeg(cell))) for cell in files.cells(part)]


def squeezed(image, size):
    """An image under a triangle as wide as two new pixels, which defines an averaging bilinear filter."""
    for axis in (0, 1):
        old = image.shape[axis]
        scale = old / size
        centers = (np.arange(size) + 0.5) * scale
        weights = np.maximum(1 - np.abs(np.arange(old) + 0.5 - centers[:, None]) / scale, 0)
        weights /= weights.sum(axis=1, keepdims=True)
        image = np.moveaxis(np.tensordot(weights, image, (1, axis)), 0, axis)
    return image


def in_order(images, *others):
    """Images in the order of their bytes: TFDS shuffles while it writes."""
    rows = np.asarray(images).reshape(len(images), -1)
    order = np.lexsort(rows.T)
    return rows[order], *(other[order] for other in others)


def test_attributes_are_those_of_tfds_in_the_published_order():
    module = importlib.import_module(tfds.builder_cls("celeb_a").__module__)
    assert list(celeba.ATTRIBUTES) == list(module.ATTR_HEADINGS)
    published = {0: "5_o_Clock_Shadow", 15: "Eyeglasses", 29: "Rosy_Cheeks", 31: "Smiling"}
    published |= {36: "Wearing_Lipstick", 38: "Wearing_Necktie"}
    assert {index: celeba.ATTRIBUTES[index] for index in published} == published


@pytest.mark.parametrize("batch_size", [7, 1024])
def test_attributes_and_pixels_are_read(stored, monkeypatch, batch_size):
    monkeypatch.setattr(celeba, "_BATCH_SIZE", batch_size)
    found = celeba.open_faces(stored, NAMES)
    assert found.source == f"TensorFlow Datasets celeb_a (array_record) in {stored}"
    for part, split in (("train", found.train), ("test", found.test)):
        assert split.num_images == files.COUNTS[part]
        want = [Image.fromarray(image).resize((5, 5), Image.Resampling.BILINEAR) for image in decoded(part)]
        got = split.images(np.arange(split.num_images), 5)
        assert got.dtype == np.uint8
        expected = in_order([np.asarray(image) for image in want], *(files.has(n, part) for n in NAMES))
        for one, other in zip(in_order(got, *(split.attributes[n] for n in NAMES)), expected, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("size", [4, 31])
def test_images_are_squeezed_by_an_averaging_bilinear_filter(faces, size):
    want = [squeezed(image.astype(float), size) for image in decoded("test")]
    got = faces.test.images(np.arange(faces.test.num_images), size)
    order = [np.argmin([np.abs(image - other).max() for other in want]) for image in got]
    assert sorted(order) == list(range(len(want)))
    # Pillow rounds to whole numbers after either axis.
    assert np.abs(got - np.asarray(want)[order]).max() <= 1.5


def test_only_chosen_rows_are_read_in_their_order(faces):
    rows = np.asarray([7, 3, 100])
    some = faces.train.images(rows, 4)
    np.testing.assert_array_equal(some, faces.train.images(np.arange(101), 4)[rows])


def test_attributes_are_read_without_decoding_an_image(tmp_path):
    files.prepare(tmp_path, image=lambda _: io.BytesIO(b"no image at all"))
    faces = celeba.open_faces(tmp_path, NAMES)
    assert faces.train.attributes["Smiling"].sum() == 150
    with pytest.raises(DataError, match=r"prepared dataset in .*celeb_a cannot be read: got Unidentified"):
        faces.train.images(np.asarray([0]), 4)


def test_an_image_of_another_size_is_an_error(tmp_path):
    def small(_):
        file = io.BytesIO()
        Image.new("RGB", (9, 5)).save(file, "PNG")
        file.seek(0)
        return file

    files.prepare(tmp_path, image=small)
    with pytest.raises(DataError, match="an image of 9 x 5 pixels, not 178 x 218"):
        celeba.open_faces(tmp_path, NAMES).test.images(np.asarray([0]), 4)


def test_the_checksum_is_of_all_records(stored, faces, tmp_path):
    assert celeba.open_faces(stored, ("Smiling",)).sha256 == faces.sha256
    assert celeba.open_faces(files.prepare(tmp_path, seed=1), NAMES).sha256 != faces.sha256


def test_a_missing_dataset_is_named_with_the_command_that_prepares_it(tmp_path, monkeypatch):
    with pytest.raises(DataError) as caught:
        celeba.open_faces(tmp_path, NAMES)
    text = str(caught.value)
    assert f"no prepared dataset in {tmp_path / 'celeb_a'}" in text
    assert "builder('celeb_a', file_format='array_record').download_and_prepare()" in text
    assert "--data-dir" in text
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path / "default"))
    with pytest.raises(DataError, match=re.escape(str(tmp_path / "default" / "celeb_a"))):
        celeba.open_faces(None, NAMES)


def test_another_version_and_damage_are_errors(stored, tmp_path):
    folder = copy_of(stored, tmp_path / "old")
    (folder / "celeb_a" / "2.1.0").rename(folder / "celeb_a" / "2.0.1")
    with pytest.raises(DataError, match="expected a whole one of the installed version"):
        celeba.open_faces(folder, NAMES)
    folder = copy_of(stored, tmp_path / "damaged")
    (record,) = folder.rglob("*train*")
    record.write_bytes(record.read_bytes()[:70_000])
    with pytest.raises(DataError, match=r"prepared dataset in .*celeb_a cannot be read: got"):
        celeba.open_faces(folder, NAMES)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("Smilling",), r"attribute Smilling is none of CelebA's 40: did you mean Smiling\?"),
        (("eyeglasses",), r"did you mean Eyeglasses\?"),
        (("Lipstick",), r"did you mean Wearing_Lipstick\?"),
        (("qqqq",), "they are 5_o_Clock_Shadow, Arched_Eyebrows"),
        ((), "must be one or more different attributes"),
        (("Smiling", "Smiling"), "different attributes: got 'Smiling Smiling'"),
    ],
)
def test_attributes_that_do_not_exist_are_refused(names, message):
    with pytest.raises(DataError, match=message):
        celeba.check_attributes(names)


@pytest.mark.parametrize(("limit", "per_class"), [(1000, 150), (73, 73)])
def test_rows_are_balanced_split_and_disjoint(faces, limit, per_class):
    parts = choose(faces, "Smiling", num_per_class=limit, seed=0)
    cut = per_class * 4 // 5
    sizes = {"train": cut, "validation": per_class - cut, "test": min(limit, 30)}
    for name, size in sizes.items():
        part = getattr(parts, name)
        assert (np.sum(part.labels), np.sum(~part.labels)) == (size, size)
        np.testing.assert_array_equal(part.labels, part.split.attributes["Smiling"][part.rows])
        np.testing.assert_array_equal(part.rows, np.unique(part.rows))
        np.testing.assert_array_equal(part.one_hot().argmax(axis=1), part.labels)
        np.testing.assert_array_equal(part.one_hot().sum(axis=1), 1)
    assert not set(parts.train.rows.tolist()) & set(parts.validation.rows.tolist())
    assert parts.train.split is parts.validation.split is faces.train
    assert parts.test.split is faces.test


def test_rows_depend_on_the_seed_alone(faces):
    first, again, other = (choose(faces, "Eyeglasses", num_per_class=50, seed=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(first.train.rows, again.train.rows)
    assert set(first.train.rows.tolist()) != set(other.train.rows.tolist())
    assert set(first.test.rows.tolist()) == set(other.test.rows.tolist())
    some = [choose(faces, "Eyeglasses", num_per_class=20, seed=s).test.rows.tolist() for s in (0, 1)]
    assert some[0] != some[1]


def test_the_rarer_class_limits_the_other_one_too(faces):
    parts = choose(faces, "Young", num_per_class=50, seed=0)
    counts = [
        (int(part.labels.sum()), len(part.labels)) for part in (parts.train, parts.validation, parts.test)
    ]
    assert counts == [(16, 32), (4, 8), (4, 8)]


def test_too_few_images_of_a_class_are_refused(faces):
    with pytest.raises(DataError, match=r"Wearing_Hat: the training split has 4 with it and 296 without"):
        choose(faces, "Wearing_Hat", num_per_class=50, seed=0)
    with pytest.raises(DataError, match=r"Bald: the test split has 0 with it and 60 without, .* 1 of each"):
        choose(faces, "Bald", num_per_class=50, seed=0)
