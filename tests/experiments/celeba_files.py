"""A tiny CelebA under TFDS's stock name, version and features, with a signal where it can be looked for."""

import importlib
import io

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from experiments.support.data.celeba import ATTRIBUTES, IMAGE_SHAPE

COUNTS = {"train": 300, "validation": 4, "test": 60}
GRID = 4
# Cells that are brighter or darker in images of people who smile, or wear glasses, and vary little otherwise.
PLACES = {"Smiling": (2, slice(1, 3)), "Eyeglasses": (0, slice(1, 3))}
CONTRAST, NOISE, NOISE_WITHIN = 32.0, 25.0, 10.0


def has(attribute, part):
    """Which images have an attribute: half of them one of PLACES, few a hat, no test image baldness.

    All but a few are young.
    """
    index = np.arange(COUNTS[part])
    rules = {
        "Smiling": index % 2 == 0,
        "Eyeglasses": index // 2 % 2 == 0,
        "Wearing_Hat": index < 4,
        "Young": index % 15 != 0,
        "Bald": (index % 5 == 0) & (part == "train"),
    }
    return rules.get(attribute, np.zeros(len(index), bool))


def cells(part, seed=0):
    """The images of a split as GRID x GRID cells of noise, with what their attributes add or subtract."""
    rng = np.random.default_rng([seed, list(COUNTS).index(part)])
    found = rng.normal(120, NOISE, size=(COUNTS[part], GRID, GRID, 3))
    for attribute, (row, columns) in PLACES.items():
        place = found[:, row, columns]
        sign = rng.choice([-1, 1], size=(COUNTS[part], 1, 1))
        size = np.where(has(attribute, part), CONTRAST, 0)[:, None, None]
        place[:] = rng.normal(120, NOISE_WITHIN, size=place.shape) + sign * size
    return np.clip(found, 0, 255).astype(np.uint8)


def jpeg(image):
    """The bytes of one image of stock size, its cells enlarged."""
    file = io.BytesIO()
    height, width, _ = IMAGE_SHAPE
    Image.fromarray(image).resize((width, height), Image.Resampling.NEAREST).save(file, "JPEG", quality=95)
    file.seek(0)
    return file


def prepare(root, seed=0, image=jpeg):
    """Writes the tiny dataset into a folder by TFDS's own writer."""
    stock = tfds.builder_cls("celeb_a")
    module = importlib.import_module(stock.__module__)
    headings = {"landmarks": module.LANDMARK_HEADINGS, "identity": module.IDENTITY_HEADINGS}
    with tfds.core.registered.skip_registration():

        class Tiny(tfds.core.GeneratorBasedBuilder):
            VERSION = stock.VERSION

            def _info(self):
                features = {name: dict.fromkeys(inner, np.int64) for name, inner in headings.items()}
                features["attributes"] = dict.fromkeys(module.ATTR_HEADINGS, np.bool_)
                features["image"] = tfds.features.Image(shape=IMAGE_SHAPE, encoding_format="jpeg")
                features = tfds.features.FeaturesDict(features)
                return tfds.core.DatasetInfo(builder=self, features=features)

            def _split_generators(self, _):
                return {part: self._generate_examples(part) for part in COUNTS}

            def _generate_examples(self, part):
                attributes = {name: has(name, part) for name in ATTRIBUTES}
                for index, face in enumerate(cells(part, seed)):
                    example = {name: dict.fromkeys(inner, index) for name, inner in headings.items()}
                    example["attributes"] = {name: bool(v[index]) for name, v in attributes.items()}
                    yield index, example | {"image": image(face)}

    Tiny.name = "celeb_a"
    Tiny(data_dir=root, file_format="array_record").download_and_prepare()
    return root
