"""The options of `experiments.conv_rfm`: the published values of a dataset, or this project's own."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

from dnc_jax import ConvNTK
from experiments.support import options
from experiments.support.conv_data import DatasetName

Settings = Mapping[str, Any]
"""The options of a run, all with a value."""

AgopSize = int | Literal["all"]

# Of no published text: sizes that a laptop takes minutes for, with the patches of the digits' notebook.
OWN = {
    "num_train": 2000,
    "num_validation": 500,
    "num_test": 1000,
    "patch_size": 3,
    "depth": 3,
    "padding": "valid",
    "stride": 1,
    "pooling": False,
    "ridge": 1e-3,
    "num_iters": 3,
    "agop_size": 20,
    "seeds": (0, 1, 2),
}
# Radhakrishnan, Beaglehole, Pandit and Belkin (2024), released notebooks, which have no validation images.
STARS = {
    "num_train": 50,
    "num_validation": 200,
    "num_test": 2000,
    "patch_size": 11,
    "depth": 1,
    "seeds": tuple(range(10)),
}
NOISY_MNIST = {"num_train": 4000, "num_validation": 0, "ridge": 1e-5, "seeds": (0,)}
DEFAULTS: Mapping[str, Settings] = {
    name: OWN | own
    for name, own in {
        **{key: {} for key in get_args(DatasetName)},
        "stars": STARS,
        "noisy_mnist": NOISY_MNIST | {"digits": "mnist_5k"},
        "digits": {"num_train": 1000, "num_validation": 200, "num_test": 500},
        "folder": {"num_train": None, "num_validation": 0, "num_test": None},
    }.items()
}


def resolved(dataset: DatasetName, given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options of a dataset, those that are given over its own; None in given is not given.

    Raises:
        ValueError: If no run can use a value.
    """
    chosen = {name: value for name, value in given.items() if value is not None}
    settings = {**DEFAULTS[dataset], **chosen}
    check(settings)
    return settings


def check(settings: Settings) -> None:
    """Raises ValueError for options that no run can use; what depends on the images is checked with them."""
    counts = ("num_train", "num_test", "patch_size", "depth", "stride", "num_iters")
    options.check_sizes(**{name: settings[name] for name in counts if settings[name] is not None})
    if settings["agop_size"] != "all":
        options.check_sizes(agop_size=settings["agop_size"])
    if settings["num_validation"] < 0:
        raise ValueError(f"--num-validation must be at least 0: got {settings['num_validation']}")
    options.check_ridge(settings["ridge"])
    options.check_seeds(settings["seeds"])


def agop_images(settings: Settings, num_train: int) -> int | None:
    """Returns how many images an AGOP is drawn from, None for all of them."""
    size = settings["agop_size"]
    return None if size == "all" or size >= num_train else size


def kernel_of(settings: Settings) -> ConvNTK:
    """Returns the plain kernel of the options."""
    names = ("depth", "patch_size", "pooling", "padding", "stride")
    return ConvNTK(**{name: settings[name] for name in names})
