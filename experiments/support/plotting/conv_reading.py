"""What all figures of `experiments.conv_rfm` share: the records, the setting in words, images as colors."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from experiments.support.checkpoint import load_arrays
from experiments.support.conv_table import SELECTED
from experiments.support.plotting.first_layer import signed_image
from experiments.support.plotting.style import STYLE, plain_name, set_headline
from experiments.support.records import RecordsError, Row, read_run

ARRAYS = {
    *("shown_iteration", "sample_images", "sample_labels", "eigenvalues", "eigenpatches", "images", "labels"),
    *(
        "strongest_patches",
        "strongest_labels",
        "strongest_cosines",
        "random_cosines",
        "filtered",
        "transformed_images",
        "norms_before",
        "norms_after",
    ),
}
# Of pixels that are not in 0..1, this share at either end is drawn as black or white.
CLIPPED = 0.005
# Inches that the setting leaves at the sides of a figure.
MARGIN = 0.3

Table = list[dict[str, object]]


class Records(NamedTuple):
    """What figures are drawn from: options, rows, and the arrays of the first seed."""

    config: dict[str, Any]
    rows: list[Row]
    arrays: dict[str, np.ndarray]

    @property
    def shown(self) -> int:
        """The iteration whose M filters and transforms images."""
        return int(self.arrays["shown_iteration"])

    @property
    def picks(self) -> dict[int, int]:
        """The iteration that validation picks, by seed; empty without validation images."""
        return {r["seed"]: r["iteration"] for r in self.rows if r["metric"] == SELECTED}


def read_records(workdir: Path) -> Records:
    """Returns the records of a run; raises RecordsError if they cannot be read, or lack something."""
    path = workdir / "arrays" / "patches.npz"
    try:
        config, rows = read_run(workdir)
        arrays = load_arrays(path)
    except (OSError, ValueError) as error:
        raise RecordsError(f"the records in {workdir} cannot be read: {error}; resume the run") from error
    missing = sorted(ARRAYS - set(arrays))
    if missing:
        raise RecordsError(f"{path} lacks {', '.join(missing)}; delete it and resume the run")
    measured = {(row["seed"], row["iteration"]) for row in rows if row["metric"] == "test_accuracy"}
    expected = {(seed, i) for seed in config["seeds"] for i in range(config["num_iters"] + 1)}
    if expected - measured:
        seed, iteration = min(expected - measured)
        raise RecordsError(
            f"metrics.jsonl in {workdir} has no test_accuracy of {len(expected - measured)} of "
            f"{len(expected)} fits, the first of seed {seed}, iteration {iteration}; resume the run"
        )
    return Records(config, rows, arrays)


def finish(figure: Figure, headline: str, config: dict[str, Any], seeds: Sequence[int]) -> None:
    """Returns nothing; writes the headline, and below it the setting, in as many lines as it needs."""
    set_headline(figure, headline, _in_lines(setting(config, seeds), figure.get_figwidth() - MARGIN))


def setting(config: dict[str, Any], seeds: Sequence[int]) -> list[str]:
    """Returns what was learned from what, and how, in words."""
    size = config["patch_size"]
    return [
        plain_name(config["title"]),
        f"{config['num_train']:,} training images",
        f"convolutional NTK of depth {config['depth']}, patches {size} x {size}",
        *([] if config["padding"] == "valid" else [f"padding {config['padding']}"]),
        *([] if config["stride"] == 1 else [f"stride {config['stride']}"]),
        *(["pooling"] if config["pooling"] else []),
        *([] if config["agop_size"] is None else [f"AGOP of {config['agop_size']:,} images"]),
        f"ridge {config['ridge']:g}",
        config["precision"],
        f"seed {seeds[0]}" if len(seeds) == 1 else f"{len(seeds)} seeds",
    ]


def class_name(config: dict[str, Any], label: int, width: int = 40) -> str:
    """Returns the name of a class, in at most two lines of so many characters; its number if it is blank."""
    name = plain_name(config["class_names"][label])
    return "\n".join(textwrap.wrap(name, width, max_lines=2, placeholder="…")) or f"class {label}"


def as_colors(images: Float[np.ndarray, "n h w c"], arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Returns images as colors in 0..1; of other than three channels the mean, as gray levels."""
    low, high = pixel_range(arrays)
    scaled = np.clip((images - low) / max(high - low, 1e-12), 0, 1)
    return scaled if images.shape[-1] == 3 else scaled.mean(axis=-1)


def pixel_range(arrays: dict[str, np.ndarray]) -> tuple[float, float]:
    """Returns the pixels that are drawn black and white in all figures: those of the samples decide.

    That is 0 and 1 if all lie between, else a low and a high percentile.
    """
    samples = arrays["sample_images"]
    if samples.min() >= 0 and samples.max() <= 1:
        return 0.0, 1.0
    low, high = np.quantile(samples, (CLIPPED, 1 - CLIPPED))
    return float(low), float(high)


def percent(share: float) -> str:
    """Returns a share of a whole in percent, to three digits."""
    return f"{100 * share:.3g}%"


def draw_image(axes: Axes, image: np.ndarray) -> None:
    """Returns nothing; draws colors, or gray levels in 0..1."""
    axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    frame(axes)


def draw_signed(axes: Axes, image: Float[np.ndarray, "h w c"], largest: float) -> None:
    """Returns nothing; draws an image of both signs: gray is zero for colors, else white is."""
    colors = image.shape[-1] == 3
    shown = np.clip(0.5 + 0.5 * image / largest, 0, 1) if colors else image.mean(axis=-1) / largest
    axes.imshow(shown, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
    frame(axes)


def draw_eigenpatch(axes: Axes, patch: Float[np.ndarray, "q q c"]) -> None:
    """Returns nothing; draws an eigenvector over its largest absolute entry."""
    axes.imshow(signed_image(patch), cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
    frame(axes)


def _in_lines(parts: Sequence[str], inches: float) -> str:
    """Returns parts with commas between them, in as few lines as they need, none much longer than another."""
    font = FontProperties(family=STYLE["font.family"], size=STYLE["font.size"])
    # In points, of text that holds no formula whatever its dollar signs.
    sizes = [text_to_path.get_text_width_height_descent(f"{part}, ", font, False)[0] for part in parts]
    whole = 72 * inches
    fewest = len(_broken(parts, sizes, whole))
    lines = (_broken(parts, sizes, float(width)) for width in np.linspace(0, whole, 50))
    return ",\n".join(next(found for found in lines if len(found) <= fewest))


def _broken(parts: Sequence[str], sizes: Sequence[float], width: float) -> list[str]:
    lines, end = [parts[0]], sizes[0]
    for part, size in zip(parts[1:], sizes[1:], strict=True):
        if end + size <= width:
            lines[-1] += f", {part}"
            end += size
        else:
            lines.append(part)
            end = size
    return lines


def frame(axes: Axes) -> None:
    """Returns nothing; takes ticks away and draws a thin frame."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(True)
    axes.spines[:].set_linewidth(0.5)


def sign_note(channels: int) -> str:
    """Returns which color is zero in images of both signs."""
    return "gray is zero" if channels == 3 else "red positive, blue negative, white zero"
