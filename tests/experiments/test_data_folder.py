"""A user's own images: what is read from a folder, and every way in which a folder may be wrong."""

import shutil

import numpy as np
import pytest
from PIL import Image

from experiments.support.conv_data import load_sets
from experiments.support.data import DataError, folder, image_files
from experiments.support.data.folder import open_folder

CLASSES = ("ant", "bee", "cat")
COUNTS = (8, 6, 4)
SIZE = (5, 7)
SIZES = {"num_train": 6, "num_validation": 3, "num_test": 5, "seed": 0}


def picture(label, index, shape=(*SIZE, 3)):
    return np.random.default_rng([label, index]).integers(0, 256, shape, dtype=np.uint8)


def write(root, *, counts=COUNTS, shape=(*SIZE, 3), suffix="png", first=0):
    """One folder of images for each class, whose pixels tell the class and the number of an image."""
    for label, (name, count) in enumerate(zip(CLASSES, counts, strict=True)):
        (root / name).mkdir(parents=True)
        for index in range(first, first + count):
            Image.fromarray(picture(label, index, shape)).save(root / name / f"{index:02}.{suffix}")
    return root


@pytest.fixture
def images(tmp_path):
    return write(tmp_path / "images")


def load(path, **changes):
    return load_sets("folder", data_dir=path, **SIZES | changes)


def parts(sets):
    return [part for part in (sets.train, sets.validation, sets.test) if part is not None]


def numbers(part, first=0):
    """The number of each image within its class: its pixels are those that its label says."""
    found = []
    for image, label in zip(part.images, part.labels, strict=True):
        pixels = [picture(label, first + index) for index in range(COUNTS[label])]
        found.append(next(i for i, other in enumerate(pixels) if np.array_equal(other / 255, image)))
    return found


def places_of(part):
    return set(zip(part.labels.tolist(), numbers(part), strict=True))


def test_classes_are_the_sorted_names_and_pixels_are_scaled(images):
    sets = load(images)
    assert sets.class_names == CLASSES
    assert sets.title == "images"
    assert sets.source == f"image files in {images}, divided by the seed into training and test images"
    assert [part.images.shape for part in parts(sets)] == [(n, *SIZE, 3) for n in (6, 3, 5)]
    places = [places_of(part) for part in parts(sets)]
    assert len(set.union(*places)) == 14
    assert all({label for label, _ in place} == {0, 1, 2} for place in places)


def test_the_seed_divides_the_folder(images):
    one, same, other = load(images), load(images), load(images, seed=1)
    assert one.sha256 == same.sha256 != other.sha256
    assert places_of(one.test) != places_of(other.test)
    more = load(images, num_validation=0, num_train=13)
    np.testing.assert_array_equal(one.test.images, more.test.images)
    smallest = load(images, num_train=None, num_validation=0, num_test=None)
    # A fifth of 18 images.
    assert [len(part.labels) for part in parts(smallest)] == [15, 3]


def test_given_splits_are_kept(tmp_path):
    write(tmp_path / "train")
    write(tmp_path / "test", counts=(3, 2, 2), first=50)
    sets = load(tmp_path)
    assert sets.source == f"image files in {tmp_path}"
    numbers(sets.train)
    numbers(sets.validation)
    numbers(sets.test, first=50)
    everything = load(tmp_path, num_train=None, num_test=None)
    assert [len(part.labels) for part in parts(everything)] == [15, 3, 7]
    with pytest.raises(
        DataError, match=r"num_test is larger than the split of .*: got 8, expected at most 7"
    ):
        load(tmp_path, num_test=8)


def test_classes_may_be_named_train_and_test(tmp_path):
    write(tmp_path, counts=(3, 3, 3))
    for name, new in zip(CLASSES, ("train", "test", "other"), strict=True):
        (tmp_path / name).rename(tmp_path / new)
    assert open_folder(tmp_path).class_names == ("other", "test", "train")


@pytest.mark.parametrize("suffix", ["png", "bmp", "webp", "tif", "TIFF", "ppm"])
def test_formats_without_loss(tmp_path, suffix):
    write(tmp_path, suffix=suffix, counts=(2, 1, 1))
    if suffix == "webp":
        for label, name in enumerate(CLASSES):
            for path in (tmp_path / name).iterdir():
                Image.fromarray(picture(label, int(path.stem))).save(path, lossless=True)
    found = open_folder(tmp_path)
    split = found.read(found.train)
    np.testing.assert_array_equal(split.images[1], picture(0, 1))
    np.testing.assert_array_equal(split.labels, [0, 0, 1, 2])


def test_jpeg_files_are_read_and_turned_upright(tmp_path):
    write(tmp_path, counts=(1, 1, 1), suffix="JPG")
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # The camera was held so that the picture has to be turned clockwise by 90 degrees.
    for name in CLASSES:
        Image.fromarray(pixels).save(tmp_path / name / "00.JPG", quality=95, exif=exif)
    found = open_folder(tmp_path)
    assert found.image_shape == (32, 16, 3)
    image = found.read(found.train).images[0].astype(int)
    assert image[:14].min() > 200
    assert image[18:].max() < 55


def test_images_are_gray_where_all_are(tmp_path):
    write(tmp_path, shape=SIZE, counts=(2, 1, 1))
    found = open_folder(tmp_path)
    assert found.image_shape == (*SIZE, 1)
    np.testing.assert_array_equal(found.read(found.train).images[1, ..., 0], picture(0, 1, SIZE))
    assert load(tmp_path, num_train=3, num_validation=0, num_test=None, seed=0).train.images.shape[-1] == 1
    Image.fromarray(picture(2, 9)).save(tmp_path / "cat" / "color.png")
    split = (found := open_folder(tmp_path)).read(found.train)
    assert split.images.shape[1:] == (*SIZE, 3)
    np.testing.assert_array_equal(split.images[1], np.repeat(picture(0, 1, SIZE)[..., None], 3, axis=-1))
    np.testing.assert_array_equal(split.images[-1], picture(2, 9))


def test_images_are_squeezed(images):
    Image.fromarray(picture(0, 99, (9, 4, 3))).save(images / "ant" / "99.png")
    found = open_folder(images, 3)
    assert found.words == f"image files in {images}, squeezed to 3 x 3 by Pillow's bilinear filter"
    split = found.read(found.train)
    for row, index, shape in ((1, 1, SIZE), (8, 99, (9, 4))):
        image = Image.fromarray(picture(0, index, (*shape, 3)))
        expected = np.asarray(image.resize((3, 3), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(split.images[row], expected)
    assert load(images, image_size=3).sha256 != load(images, image_size=4).sha256


def test_only_chosen_files_are_decoded(images, monkeypatch):
    decoded = []
    real = image_files.read_pixels
    monkeypatch.setattr(folder, "read_pixels", lambda path, **how: decoded.append(path) or real(path, **how))
    load(images)
    assert len(decoded) == len(set(decoded)) == 14


def test_what_is_passed_over(images):
    before = load(images).sha256
    (images / ".git").mkdir()
    (images / "README.txt").write_text("mine")
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._00.png"):
        (images / "bee" / name).write_text("no image")
    assert load(images).sha256 == before


def refused(path, message, **changes):
    with pytest.raises(DataError, match=message):
        load(path, **changes)


def test_no_folder(tmp_path):
    refused(tmp_path / "absent", r"--data-dir is no folder: got .*absent, expected one with")


def test_too_few_classes(tmp_path, images):
    refused(images / "ant", r"00\.png is an image outside of the class folders: got 8 such")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", r"holds too few classes: got 0 \(no folder\), expected at least 2")
    shutil.rmtree(images / "bee")
    shutil.rmtree(images / "cat")
    refused(images, r"holds too few classes: got 1 \(ant\)")


def test_an_empty_class(images):
    (images / "dog").mkdir()
    (images / "dog" / ".hidden.png").write_text("")
    refused(images, "class dog is empty: got no image in .*dog, expected at least 1")


@pytest.mark.parametrize("name", ["notes.txt", "photo.heic", "movie.gif", "more"])
def test_anything_else_in_a_class(images, name):
    if name == "more":
        (images / "bee" / name).mkdir()
    else:
        (images / "bee" / name).write_text("text")
    refused(
        images, rf"{name} is no image file: got 1 such in a class folder, expected files that end in \.png"
    )


def test_files_that_are_no_images(images):
    (images / "cat" / "02.png").write_text("text")
    refused(images, r"cat.02\.png cannot be read as an image: got UnidentifiedImageError")
    (images / "cat" / "02.png").write_bytes(b"")
    refused(images, r"cat.02\.png cannot be read as an image")
    (images / "cat" / "02.png").unlink()
    (images / "cat" / "02.png").symlink_to(images / "gone.png")
    refused(images, r"cat.02\.png is no image file")


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "webp", "tif"])
def test_truncated_files(tmp_path, suffix):
    shape = (64, 64, 3)
    write(tmp_path, shape=shape, suffix=suffix)
    path = tmp_path / "ant" / f"03.{suffix}"
    raw = path.read_bytes()
    for kept in (0.5, 0.95):
        path.write_bytes(raw[: int(kept * len(raw))])
        refused(tmp_path, rf"ant.03\.{suffix} cannot be read as an image", num_train=10, num_validation=3)


def test_sizes_that_differ(images):
    Image.fromarray(picture(1, 3, (5, 9, 3))).save(images / "bee" / "03.png")
    refused(images, r"got 5 x 7 in .*ant.00\.png and 5 x 9 in .*bee.03\.png, .* give --image-size")


def test_pixels_of_other_kinds(images):
    path = images / "cat" / "01.png"
    Image.fromarray(np.zeros(SIZE, np.uint16)).save(path)
    refused(images, r"cat.01\.png has pixels of mode I;16: expected 8 bits a channel")
    opaque = np.concatenate([picture(2, 1), np.full((*SIZE, 1), 255, np.uint8)], axis=-1)
    Image.fromarray(opaque).save(path)
    found = open_folder(images)
    split = found.read(found.train)
    np.testing.assert_array_equal(split.images[15], picture(2, 1))
    opaque[0, 0, 3] = 254
    Image.fromarray(opaque).save(path)
    refused(images, r"cat.01\.png has transparent pixels", num_train=10)


def test_several_frames(images):
    frames = [Image.fromarray(picture(0, index)) for index in range(3)]
    frames[0].save(images / "ant" / "pages.tif", save_all=True, append_images=frames[1:])
    refused(images, r"pages\.tif has 3 frames: expected a single image")


def test_splits_that_do_not_fit(tmp_path):
    write(tmp_path / "train")
    write(tmp_path / "test")
    (tmp_path / "val").mkdir()
    refused(tmp_path, "holds other folders beside train and test: got val")
    (tmp_path / "val").rmdir()
    Image.fromarray(picture(0, 0)).save(tmp_path / "stray.png")
    refused(tmp_path, "stray.png is an image outside of the class folders: got 1 such")
    (tmp_path / "stray.png").unlink()
    shutil.rmtree(tmp_path / "test" / "cat")
    refused(tmp_path, "train and .*test hold different classes: got cat in one of them only")
    shutil.rmtree(tmp_path / "test")
    refused(tmp_path, r"train holds folders and its counterpart does not")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_train": 11}, "are together more than .*images holds: got 11 [+] 3 [+] 5, expected at most 18"),
        ({"num_train": 2, "num_validation": 0}, "num_train is too small .* 3 classes: got 2"),
        ({"num_test": 0}, "num_test is too small .*: got 0"),
        ({"num_train": None, "num_test": 14}, "got 3 [+] 3 [+] 14, expected at most 18"),
        ({"num_validation": -3}, "num-validation is too small"),
    ],
)
def test_sizes_that_a_folder_does_not_have(images, changes, message):
    refused(images, message, **changes)


def test_a_class_that_cannot_be_divided(tmp_path):
    write(tmp_path, counts=(8, 6, 1))
    refused(tmp_path, "class cat has too few images to be divided: got 1, expected some for training")
