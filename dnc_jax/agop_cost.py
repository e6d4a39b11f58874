"""What the forms of an AGOP cost, by flops and by numbers held; letters are those of `cost`."""

from dnc_jax.chunking import outputs_at_once
from dnc_jax.class_free import num_blocks_of

# Measured on CPUs, n 1000 to 3000, d 256 to 1000: the small products of `class_free` take 1.4 times as long
# for a flop as those of `closed_form`. By the count alone it would be taken from 5 outputs on where the clock
# says 7 (n = 2000, d = 256).
NARROW_PRODUCTS = 1.4
# Assumed: flops and passes in float32 take this share of the time of those in float64, as on CPUs.
SINGLE_SHARE = 0.5


def class_free_is_cheaper(
    num_points: int, in_dim: int, num_centers: int, num_outputs: int, at_centers: bool
) -> bool:
    """Returns whether the class-free form of an AGOP takes less time than one gradient matrix per output.

    at_centers says that the points are the centers of a radial kernel, all at once and of equal weight.
    """
    if at_centers:
        class_free = NARROW_PRODUCTS * class_free_flops_at_centers(num_points, in_dim, num_outputs)
    else:
        class_free = class_free_flops(num_points, in_dim, num_centers, num_outputs)
    return class_free < direct_flops(num_points, in_dim, num_centers, num_outputs)


def class_free_is_cheaper_than_grouped(num_rows: int, in_dim: int, num_outputs: int) -> bool:
    """Returns whether the class-free form in float64 takes less time than gradients in float32."""
    class_free, grouped = mixed_flops(num_rows, in_dim, num_outputs)
    return class_free < grouped


def mixed_flops(num_rows: int, in_dim: int, num_outputs: int) -> tuple[float, float]:
    """Returns the flops of the class-free form and of `grouped_gram`, as many in float64 as take as long.

    Of the second in float32 c 2 n^2 (d + k), k = max(2, c) groups, and in float64 3/4 of c 2 n d^2 for the
    product of gradients.
    """
    n, d, c = num_rows, in_dim, num_outputs
    class_free = NARROW_PRODUCTS * class_free_flops_at_centers(n, d, c)
    return class_free, c * n * (SINGLE_SHARE * 2 * n * (d + max(2, c)) + 1.5 * d * d)


def direct_flops(num_points: int, in_dim: int, num_centers: int, num_outputs: int) -> float:
    """Returns c (2 n m d + 2 n d^2 + 2 n m): others, their product with themselves, own sums."""
    n, d, m = num_points, in_dim, num_centers
    return 2.0 * num_outputs * n * (m * d + d * d + m)


def class_free_flops(num_points: int, in_dim: int, num_centers: int, num_outputs: int) -> float:
    """Returns 2 n m^2 + 2 n m d + 2 m^2 d + 4 n d^2 + 2 m d^2 + c (4 n m + 2 m^2): `class_free_gram`."""
    n, d, m = num_points, in_dim, num_centers
    wide = 2 * n * m * m + 2 * n * m * d + 2 * m * m * d + 4 * n * d * d + 2 * m * d * d
    return float(wide + num_outputs * (4 * n * m + 2 * m * m))


def class_free_flops_at_centers(num_points: int, in_dim: int, num_outputs: int) -> float:
    """Returns (n^3 + n^2 d + 3 n^2 c) (1 + 1/b) + 2 n d^2 + 2 n^2 c: `class_free_gram_at_centers`."""
    n, d, c = num_points, in_dim, num_outputs
    num_blocks = num_blocks_of(n)
    return n * n * (n + d + 3 * c) * (1 + 1 / num_blocks) + 2 * n * d * d + 2 * n * n * c


def direct_numbers(num_points: int, in_dim: int, num_outputs: int) -> float:
    """Returns how many numbers the direct form at the centers holds in a layer, Gram matrices included.

    Measured: 3.1 n^2 + 2 n d, and twice the gradients of as many outputs as the program has side by side:
    those of one product, or of both where there are two, and of a shorter rest.
    """
    n, d = num_points, in_dim
    return 3.1 * n * n + 2 * n * d + 2 * n * d * _outputs_side_by_side(n, d, num_outputs)


def class_free_numbers(num_points: int, in_dim: int, num_outputs: int) -> float:
    """Returns how many numbers the class-free form at the centers holds in a layer, Gram matrices included.

    Measured: 5.3 n^2 + n d, with one block of rows 8.1 n^2 + n d; or what the direct form holds, which is in
    the program for the case that the other cancels, its gradients once.
    """
    n, d = num_points, in_dim
    own = (5.3 if num_blocks_of(n) > 1 else 8.1) * n * n + n * d
    return max(own, 3.4 * n * n + 2 * n * d + n * d * _outputs_side_by_side(n, d, num_outputs))


def grouped_outputs_at_once(num_rows: int, in_dim: int, num_outputs: int) -> int:
    """Returns for how many outputs one product of `grouped_gram` is made, a divisor: n^2 / 2 numbers."""
    most = max(1, num_rows // (2 * (in_dim + max(2, num_outputs))))
    return max(number for number in range(1, min(most, num_outputs) + 1) if num_outputs % number == 0)


def mixed_numbers(num_points: int, in_dim: int, num_outputs: int) -> float:
    """Returns how many numbers of float64 the AGOP in mixed precision holds, Gram matrices included.

    Measured: 5.1 n^2 + 2 n d and the gradients of the direct form, or 7 n^2 + 2 n d where the class-free
    one is in the program: more than in float64, whose forms are there for the case that products cancel.
    """
    n, d = num_points, in_dim
    direct = 5.1 * n * n + 2 * n * d + n * d * _outputs_side_by_side(n, d, num_outputs)
    if class_free_is_cheaper(n, d, n, num_outputs, at_centers=True):
        return max(direct, 7.0 * n * n + 2 * n * d)
    return direct


def _outputs_side_by_side(num_points: int, in_dim: int, num_outputs: int) -> int:
    at_once = outputs_at_once(num_points, in_dim, None)
    num_products, rest = divmod(num_outputs, at_once)
    return rest + at_once * (min(num_products, 1) + (num_products == 2))
