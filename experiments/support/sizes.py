"""How large a run is: from its data, or from what is known of a dataset before any file is opened."""

import math
from pathlib import Path
from typing import NamedTuple, Protocol

from experiments.support.data import DataError
from experiments.support.data.catalog import describe
from experiments.support.data.packaged import PACKAGED
from experiments.support.estimate import LayerSize
from experiments.support.preprocess import DEFAULT_NUM_TEST, Prepared


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


def of_catalog(config: AsksForSizes) -> RunSizes:
    """Returns the sizes of a run on the published splits of a dataset, without reading it.

    Raises:
        DataError: If the dataset is unknown, or more images are asked for than are published.
    """
    description = describe(config.dataset)
    all_train, all_test = description.sizes
    wanted = all_train if config.num_train is None else config.num_train
    wanted_test = min(DEFAULT_NUM_TEST, all_test) if config.num_test is None else config.num_test
    for name, asked, available in (("num_train", wanted, all_train), ("num_test", wanted_test, all_test)):
        if asked > available:
            raise DataError(
                f"{name} is larger than the split of {config.dataset}: got {asked}, expected at most "
                f"{available}; ask for fewer points"
            )
    return RunSizes(wanted, wanted_test, len(description.class_names), description.image_shape)
