"""How many classes' rows of a k x k matrix are held at once."""

# Entries of a tile: 128 MiB in float64.
TILE_ENTRIES = 2**24


def rows_per_tile(num_classes: int) -> int | None:
    """Returns the rows of a k x k matrix to compute at once; None where the whole matrix is small."""
    return None if num_classes**2 <= TILE_ENTRIES else max(1, TILE_ENTRIES // num_classes)
