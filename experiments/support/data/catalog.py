"""What is known of each dataset before any file is opened."""

import difflib
from dataclasses import dataclass
from typing import Literal, get_args

from experiments.support.data import class_names
from experiments.support.data.images import DataError

Name = Literal[
    "fashion_mnist_mini",
    "digits",
    "mnist_5k",
    "fashion_mnist",
    "mnist",
    "svhn",
    "cifar10",
    "cifar100",
    "emnist",
    "gtsrb",
]


@dataclass(frozen=True)
class Description:
    """Fixed facts of one dataset."""

    name: str
    title: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    sizes: tuple[int, int]
    """usual numbers of training and test images"""
    max_value: float = 255.0
    tfds_name: str = ""
    """empty where the images come with the repository or with a Python package"""
    originals: tuple[str, ...] = ()
    """names of the original files, as they are published; empty where none are read"""
    held_out: str = "test"
    """the split of TFDS that test images are taken from"""
    varies: bool = False
    """whether stored images vary in size and are squeezed to `image_shape`"""
    note: str = ""
    """what a reader must know of images from TFDS, added to their source"""


_IDX = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)

_DESCRIPTIONS = (
    Description("fashion_mnist_mini", "Fashion-MNIST", class_names.FASHION, (28, 28, 1), (60_000, 10_000)),
    Description("digits", "Digits", class_names.DIGITS, (8, 8, 1), (1297, 500), max_value=16.0),
    Description("mnist_5k", "MNIST", class_names.DIGITS, (28, 28, 1), (60_000, 10_000)),
    Description(
        "fashion_mnist",
        "Fashion-MNIST",
        class_names.FASHION,
        (28, 28, 1),
        (60_000, 10_000),
        tfds_name="fashion_mnist",
        originals=_IDX,
    ),
    Description(
        "mnist",
        "MNIST",
        class_names.DIGITS,
        (28, 28, 1),
        (60_000, 10_000),
        tfds_name="mnist",
        originals=_IDX,
    ),
    Description(
        "svhn",
        "SVHN",
        class_names.DIGITS,
        (32, 32, 3),
        (73_257, 26_032),
        tfds_name="svhn_cropped",
        originals=("train_32x32.mat", "test_32x32.mat"),
    ),
    Description(
        "cifar10",
        "CIFAR-10",
        class_names.CIFAR10,
        (32, 32, 3),
        (50_000, 10_000),
        tfds_name="cifar10",
        originals=("cifar-10-binary.tar.gz",),
    ),
    Description(
        "cifar100",
        "CIFAR-100",
        class_names.CIFAR100,
        (32, 32, 3),
        (50_000, 10_000),
        tfds_name="cifar100",
        originals=("cifar-100-binary.tar.gz",),
    ),
    Description(
        "emnist",
        "EMNIST (balanced)",
        class_names.EMNIST_BALANCED,
        (28, 28, 1),
        (112_800, 18_800),
        tfds_name="emnist/balanced",
        originals=("gzip.zip",),
    ),
    Description(
        "gtsrb",
        "GTSRB",
        class_names.GTSRB,
        (32, 32, 3),
        (31_367, 7_842),
        tfds_name="visual_domain_decathlon/gtsrb",
        held_out="validation",
        varies=True,
        note="squeezed to 32 x 32 by Pillow's bilinear filter; test images are those of its validation split "
        "(its test split has no labels)",
    ),
)
CATALOG = {description.name: description for description in _DESCRIPTIONS}


def describe(name: str) -> Description:
    """Returns the facts of a dataset; raises DataError for an unknown name, suggesting the nearest."""
    if name in CATALOG:
        return CATALOG[name]
    near = difflib.get_close_matches(str(name), CATALOG, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else "choose one of these"
    raise DataError(f"dataset is unknown: got {name!r}, expected one of {', '.join(get_args(Name))}; {hint}")


def title_with_sizes(description: Description, num_train: int, num_test: int) -> str:
    """Returns the title, with the sizes of the splits where they are not the usual ones."""
    if (num_train, num_test) == description.sizes:
        return description.title
    return f"{description.title} ({num_train} + {num_test})"
