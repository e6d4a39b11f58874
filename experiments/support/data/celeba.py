"""CelebA as TensorFlow Datasets prepares it: the attributes of all images first, then the chosen images.

The 200,000 images are never in memory together: a pass over the records reads their attributes alone, and
pixels are decoded for chosen rows, a batch at a time.

References:
    Liu, Luo, Wang and Tang (2015), Deep learning face attributes in the wild, ICCV.
"""

import difflib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, UInt8

from experiments.support.data.decoding import decoded, squeezed
from experiments.support.data.images import DataError, Unavailable
from experiments.support.data.prepared import open_prepared, preparing_command, unreadable

TFDS_NAME = "celeb_a"
IMAGE_SHAPE = (218, 178, 3)
NUM_TEST = 19_962
"""images of the stock test split"""
_BATCH_SIZE = 1024

_ATTRIBUTES = """
    5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose
    Black_Hair Blond_Hair Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses
    Goatee Gray_Hair Heavy_Makeup High_Cheekbones Male Mouth_Slightly_Open Mustache Narrow_Eyes
    No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks Sideburns Smiling
    Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace
    Wearing_Necktie Young
"""
ATTRIBUTES = tuple(_ATTRIBUTES.split())
"""names in the order of the published indices, from 0"""


@dataclass(frozen=True)
class FaceSplit:
    """One split: which images have which attribute, and the records that hold their pixels."""

    attributes: Mapping[str, Bool[np.ndarray, "n"]]
    part: Any
    folder: Path

    @property
    def num_images(self) -> int:
        """The number of images of the split."""
        return len(self.part)

    def images(self, rows: Int[np.ndarray, "m"], size: int) -> UInt8[np.ndarray, "m size size 3"]:
        """Returns the images of some rows, squeezed to size x size by Pillow's bilinear filter.

        Where an image shrinks, the filter averages over all pixels that a new one covers, as the default
        of torchvision's Resize, which the released code uses, does.

        Raises:
            DataError: If a record is damaged, or no image of the stock size.
        """
        features = _subset(self.part, {"image": True})
        resized = np.empty((len(rows), size, size, 3), np.uint8)
        for index, record in enumerate(_records(self.part, rows, self.folder)):
            try:
                resized[index] = _resized(features, record, size)
            except Exception as error:
                raise unreadable(self.folder, error) from error
        return resized


@dataclass(frozen=True)
class Faces:
    """The training and the test split, where they came from in words, and the sha256 of all their records."""

    train: FaceSplit
    test: FaceSplit
    source: str
    sha256: str


def check_attributes(names: Sequence[str]) -> None:
    """Raises DataError for names that are no attributes, suggesting the nearest, or that repeat."""
    for name in names:
        if name not in ATTRIBUTES:
            lowered = {known.lower(): known for known in ATTRIBUTES}
            near = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.5)
            hint = f"did you mean {lowered[near[0]]}?" if near else f"they are {', '.join(ATTRIBUTES)}"
            raise DataError(f"attribute {name} is none of CelebA's {len(ATTRIBUTES)}: {hint}")
    if not names or len(set(names)) < len(names):
        raise DataError(f"--attributes must be one or more different attributes: got {' '.join(names)!r}")


def open_faces(data_dir: Path | None, names: Sequence[str]) -> Faces:
    """Returns both splits with the named attributes, from `data_dir` or TFDS's own folder.

    Raises:
        DataError: If there is no prepared CelebA; the text has the command that prepares it. If it is
            there and damaged, or of another version than the installed one.
    """
    try:
        opened = open_prepared(TFDS_NAME, ("train", "test"), data_dir, raw=True)
    except Unavailable as reason:
        raise DataError(
            f"CelebA is missing: {reason}, expected it as TensorFlow Datasets prepares it; where TensorFlow "
            f"and a network are at hand, run\n  {preparing_command(TFDS_NAME)}\nand name its folder (by "
            "default ~/tensorflow_datasets) with --data-dir"
        ) from reason
    digest = hashlib.sha256()
    train, test = (_read_split(part, opened.folder, names, digest) for part in opened.parts)
    return Faces(train, test, opened.words, digest.hexdigest())


def _read_split(part: Any, folder: Path, names: Sequence[str], digest: Any) -> FaceSplit:  # noqa: ANN401
    features = _subset(part, {"attributes": names})
    found = {name: np.empty(len(part), bool) for name in names}
    digest.update(f"{len(part)}\n".encode())
    for row, record in enumerate(_records(part, np.arange(len(part)), folder)):
        digest.update(record)
        try:
            example = features.deserialize_example_np(record)["attributes"]
        except Exception as error:
            raise unreadable(folder, error) from error
        for name in names:
            found[name][row] = example[name]
    return FaceSplit(found, part, folder)


def _records(part: Any, rows: Int[np.ndarray, "m"], folder: Path) -> Iterator[bytes]:  # noqa: ANN401
    for start in range(0, len(rows), _BATCH_SIZE):
        batch = [int(row) for row in rows[start : start + _BATCH_SIZE]]
        try:
            records = part.__getitems__(batch)
        except Exception as error:
            raise unreadable(folder, error) from error
        yield from records


def _subset(part: Any, wanted: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Returns the features of a dataset that are wanted: reading all of them takes far longer."""
    from tensorflow_datasets.core.features import FeaturesDict

    stored = part.dataset_info.features
    return FeaturesDict(
        {
            name: stored[name] if inner is True else FeaturesDict({one: stored[name][one] for one in inner})
            for name, inner in wanted.items()
        }
    )


def _resized(features: Any, record: bytes, size: int) -> UInt8[np.ndarray, "size size 3"]:  # noqa: ANN401
    from tensorflow_datasets.core.decode import SkipDecoding

    encoded = features.deserialize_example_np(record, decoders={"image": SkipDecoding()})["image"]
    pixels = decoded(encoded)
    height, width, _ = IMAGE_SHAPE
    if pixels.size != (width, height):
        raise ValueError(f"an image of {pixels.size[0]} x {pixels.size[1]} pixels, not {width} x {height}")
    return squeezed(pixels, size)
