"""Checks of options that no run can use, each naming the flag, what it was given and what it takes."""


def check_sizes(**sizes: int) -> None:
    """Raises ValueError for a count that is not at least 1."""
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"{_flag(name)} must be at least 1: got {value}")


def check_positive(**values: float) -> None:
    """Raises ValueError for a number that is not positive and finite."""
    for name, value in values.items():
        if not 0 < value < float("inf"):
            raise ValueError(f"{_flag(name)} must be positive: got {value:g}")


def check_ridge(ridge: float, name: str = "ridge") -> None:
    """Raises ValueError for a ridge that is negative or not finite."""
    if not 0 <= ridge < float("inf"):
        raise ValueError(f"{_flag(name)} must be at least 0: got {ridge:g}")


def check_agop_size(agop_size: int | None, num_train: int) -> None:
    """Raises ValueError unless as many training points can be drawn for an AGOP and its standard error."""
    if agop_size is not None and not 2 <= agop_size <= num_train:
        raise ValueError(f"--agop-size must lie in 2..{num_train}, the training points: got {agop_size}")


def check_seeds(seeds: tuple[int, ...]) -> None:
    """Raises ValueError unless there is a seed, and all differ and fit 31 bits."""
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0 or max(seeds) >= 2**31:
        raise ValueError(f"--seeds must be one or more different numbers in 0..{2**31 - 1}: got {seeds}")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
