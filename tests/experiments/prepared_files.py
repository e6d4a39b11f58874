"""Tiny datasets under TFDS's stock names, versions and features, with a few images of their own."""

import io

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from experiments.support.data.catalog import describe
from tests.experiments import original_files as files

COUNTS = {"train": 30, "test": 20}
# The stock splits of the traffic signs: those of the test split have no labels.
SIGN_COUNTS = {"train": 90, "test": 7, "validation": 45}
_UNLABELED = -1


def tiny_builder(name, root, counts=COUNTS):
    """A builder that TFDS cannot tell from its stock one."""
    description = describe(name)
    stock_name, _, config_name = description.tfds_name.partition("/")
    stock = tfds.builder_cls(stock_name)
    configs = [config for config in stock.BUILDER_CONFIGS if config.name == config_name]
    with tfds.core.registered.skip_registration():

        class Tiny(tfds.core.GeneratorBasedBuilder):
            VERSION = stock.VERSION
            BUILDER_CONFIGS = configs

            def _info(self):
                return tfds.core.DatasetInfo(builder=self, features=features(name))

            def _split_generators(self, _):
                return {part: self._generate_examples(part, count) for part, count in counts.items()}

            def _generate_examples(self, part, count):
                yield from enumerate(examples(name, part, count))

    Tiny.name = stock_name
    return Tiny(data_dir=root, file_format="array_record")


def features(name):
    """What an example of the stock dataset holds."""
    description = describe(name)
    if name == "gtsrb":
        image = tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg")
    else:
        image = tfds.features.Image(shape=description.image_shape)
    label = tfds.features.ClassLabel(num_classes=len(description.class_names))
    more = {"svhn": {"id": tfds.features.Text()}, "gtsrb": {"name": tfds.features.Text()}}
    return tfds.features.FeaturesDict({"image": image, "label": label, **more.get(name, {})})


def examples(name, part, count):
    """The examples of one split, before TFDS shuffles them."""
    description = describe(name)
    if name == "gtsrb":
        for index, image in enumerate(signs(part, count)):
            label = _UNLABELED if part == "test" else index % len(description.class_names)
            yield {"image": stored(image, "JPEG"), "label": label, "name": f"{part}/{index}.jpg"}
        return
    for index, image in enumerate(files.pixels(count, description.image_shape)):
        example = {"image": stored(image, "PNG"), "label": index % len(description.class_names)}
        yield example | ({"id": str(index)} if name == "svhn" else {})


def signs(part, count):
    """Images of different sizes, smooth enough to survive a JPEG file."""
    rng = np.random.default_rng([list(SIGN_COUNTS).index(part), count])
    for height, width in rng.integers(20, 90, size=(count, 2)):
        cells = Image.fromarray(rng.integers(0, 256, (3, 3, 3), dtype=np.uint8))
        yield np.asarray(cells.resize((int(width), int(height)), Image.Resampling.BICUBIC))


def stored(image, form):
    """A file in memory with one image."""
    file = io.BytesIO()
    Image.fromarray(image.squeeze()).save(file, form)
    file.seek(0)
    return file
