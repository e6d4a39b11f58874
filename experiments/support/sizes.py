"""How large a run is: from its data, or from what is known of a dataset before any file is opened."""

import math
from pathlib import Path
from typing import NamedTuple, Protocol

from dnc_jax.cost import LayerSize
from experiments.support.data.catalog import describe
from experiments.support.data.packaged import PACKAGED
from experiments.support.preprocess import Prepared, subset_sizes


class RunSizes(NamedTuple):
    """Counts of images and classes, and the shape of an image."""

    num_train: int
    num_test: int
    num_classes: int
    image_shape: tuple[int, int, int]

    def first_layer(self, width: int) -> LayerSize:
        """Returns what the cost of the first layer depends on."""
        in_dim = math.prod(self.image_shape)
        return LayerSize(self.num_train, self.num_test, in_dim, width, self.num_classes)


def of_prepared(prepared: Prepared) -> RunSizes:
    """Returns the sizes of data that has been read."""
    counts = len(prepared.train.labels), len(prepared.test.labels)
    return RunSizes(*counts, prepared.num_classes, prepared.image_shape)


def needs_files(dataset: str, data_dir: Path | None) -> bool:
    """Returns whether reading a dataset could download it: it is not packaged, and no folder is named."""
    return dataset not in PACKAGED and data_dir is None


class AsksForSizes(Protocol):
    """Options that say how much of which dataset is wanted."""

    @property
    def dataset(self) -> str:
        """Name of the dataset."""
        ...

    @property
    def num_train(self) -> int | None:
        """Training images; None takes the whole split."""
        ...

    @property
    def num_test(self) -> int | None:
        """Held-out images; None takes up to 1000."""
        ...


def of_catalog(config: AsksForSizes, *, held_out: bool = True) -> RunSizes:
    """Returns the sizes of a run on the published splits of a dataset, without reading it.

    Args:
        held_out: Whether the test split is kept apart; if not, its images count as training images too.

    Raises:
        DataError: If the dataset is unknown, or more images are asked for than are published, or too few.
    """
    description = describe(config.dataset)
    num_classes = len(description.class_names)
    num_train, num_test = description.sizes
    available = (num_train if held_out else num_train + num_test, num_test)
    counts = subset_sizes(config.dataset, available, num_classes, config.num_train, config.num_test)
    return RunSizes(*counts, num_classes, description.image_shape)
