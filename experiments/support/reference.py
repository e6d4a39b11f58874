"""Values that others have got in the setting of a preset, to print beside one's own."""

# Of a PyTorch training of each setting with seed 0: final training accuracy, and by layer the trace ratio at
# the three stages and the Pearson correlation of W^T W with the square root of the AGOP, where it is known.
TRAININGS: dict[str, tuple[float, tuple[tuple[float | None, ...], ...]]] = {
    "mnist": (
        0.998,
        (
            (6.81, 2.36, 1.89, 0.77),
            (1.89, 0.167, 0.137, 0.88),
            (0.137, 0.053, 0.037, 0.92),
            (0.037, 0.029, 0.025, 0.89),
            (0.025, 0.019, 0.020, 0.69),
        ),
    ),
    "fashion_mnist": (
        0.990,
        (
            (2.07, 0.948, 0.865, None),
            (0.865, 0.176, 0.138, None),
            (0.138, 0.065, 0.075, None),
            (0.075, 0.047, 0.080, None),
            (0.080, 0.109, 0.072, None),
        ),
    ),
}


def reference_lines(preset: str) -> list[str]:
    """Returns what is known of a preset as lines of text; none if nothing is."""
    if preset not in TRAININGS:
        return []
    accuracy, layers = TRAININGS[preset]
    lines = [f"for reference, the same setting in PyTorch, one seed: training accuracy {accuracy:.1%}"]
    for number, values in enumerate(layers, 1):
        cells = " ".join(f"{'-' if value is None else format(value, '.3g'):<8}" for value in values[:3])
        root = "-" if values[3] is None else f"{values[3]:.2f}"
        lines.append(f"{number:>5}   {cells}       NFA with AGOP^1/2: {root}")
    return lines
