"""Accuracies that others have got with a convolutional NTK and the patch AGOP, to show beside one's own."""

from typing import NamedTuple


class Published(NamedTuple):
    """Test accuracies of one dataset: of slides, plain and with AGOP, and of a notebook, by iteration.

    The number of training images, the iterations and the ridge of the slides are not known. A notebook's
    setting is; iteration 0 is its plain kernel.
    """

    slides: tuple[float, float]
    notebook: tuple[float, ...] = ()
    setting: str = ""


PUBLISHED = {
    "stars": Published((0.8020, 0.9970), (0.7795, 0.9483), "n = 50, patch 11, depth 1"),
    "noisy_mnist": Published(
        (0.7255, 0.7903), (0.5203, 0.5448, 0.5728, 0.5938), "n = 4,000, patch 3, depth 3"
    ),
    "svhn": Published((0.8138, 0.8502)),
    "cifar10": Published((0.6774, 0.6797)),
    "cifar100": Published((0.3764, 0.3764)),
    "gtsrb": Published((0.9176, 0.9302)),
    "emnist": Published((0.8601, 0.8673)),
}
