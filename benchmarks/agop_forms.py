"""From how many outputs on is the class-free form of a kernel machine's AGOP cheaper than the direct one?

A Laplace machine of bandwidth 2 on normal rows of unit norm, with normal weights, at its own centers: the
forms of `class_free` and `closed_form`, each compiled alone and taken in turns, by number of outputs; which
of the two is cheaper by what `cost` counts, and which by the clock. over_predicted is the seconds over those
of the flops that `cost` counts, kernel included, at the rate of a product of two n x n matrices. The
difference is relative, in the Frobenius norm. Then the AGOP by autodiff of a machine with fewer rows, beside
`kernel_agop`.

    python -m benchmarks.agop_forms --output=timings.jsonl
"""

import argparse
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from benchmarks import flags, timing
from dnc_jax import KernelMachine, Laplace, agop, kernel_agop
from dnc_jax.agop_cost import (
    NARROW_PRODUCTS,
    class_free_flops_at_centers,
    class_free_is_cheaper,
    direct_flops,
)
from dnc_jax.class_free import class_free_gram_at_centers
from dnc_jax.closed_form import direct_gram
from dnc_jax.cost import KERNEL_FLOPS
from dnc_jax.linalg import norm, unit_rows

BANDWIDTH = 2.0


def make_machine(num_rows: int, dim: int, num_outputs: int, dtype: str) -> KernelMachine:
    """Returns a machine with normal centers, scaled to unit norm, and normal weights."""
    centers, weights = (
        jax.random.normal(key, (num_rows, size), dtype)
        for key, size in zip(jax.random.split(jax.random.key(0)), (dim, num_outputs), strict=True)
    )
    return KernelMachine(Laplace(BANDWIDTH), unit_rows(centers), weights)


@jax.jit
def class_free(machine: KernelMachine) -> Float[Array, "d d"]:
    """Returns the AGOP at the centers in the class-free form."""
    return class_free_gram_at_centers(machine, False)[0]


@jax.jit
def direct(machine: KernelMachine) -> Float[Array, "d d"]:
    """Returns the AGOP at the centers from the gradients of one output after another."""
    return direct_gram(machine, machine.centers, None, False, False, None)[0]


@jax.jit
def by_autodiff(machine: KernelMachine) -> Float[Array, "d d"]:
    """Returns the AGOP at the centers from Jacobians."""
    return agop(lambda row: machine(row[None])[0], machine.centers)


def difference(a: Float[Array, "d d"], b: Float[Array, "d d"]) -> float:
    """Returns |a - b| / |b|, in the Frobenius norm."""
    return float(norm(a - b) / norm(b))


def predicted_flops(num_rows: int, dim: int, num_outputs: int) -> dict[str, float]:
    """Returns the flops of both forms as `cost` counts them, with those of the kernel."""
    kernel = num_rows * num_rows * (2.0 * dim + KERNEL_FLOPS)
    return {
        "class_free": kernel + NARROW_PRODUCTS * class_free_flops_at_centers(num_rows, dim, num_outputs),
        "direct": kernel + direct_flops(num_rows, dim, num_rows, num_outputs),
    }


def compare_forms(num_rows: int, dim: int, num_outputs: int, dtype: str, repeats: int) -> dict[str, Any]:
    """Returns the seconds of both forms, and the cheaper one by count and by clock."""
    machine = make_machine(num_rows, dim, num_outputs, dtype)
    forms = {"class_free": partial(class_free, machine), "direct": partial(direct, machine)}
    product, product_flops = timing.large_product(num_rows, jnp.dtype(dtype))
    seconds = timing.medians(forms | {"product": product}, repeats=repeats)
    rate = product_flops / seconds.pop("product")
    predicted = predicted_flops(num_rows, dim, num_outputs)
    is_class_free = class_free_is_cheaper(num_rows, dim, num_rows, num_outputs, at_centers=True)
    return {
        "num_outputs": num_outputs,
        "class_free_seconds": seconds["class_free"],
        "direct_seconds": seconds["direct"],
        "class_free_over_predicted": seconds["class_free"] * rate / predicted["class_free"],
        "direct_over_predicted": seconds["direct"] * rate / predicted["direct"],
        "direct_over_class_free": seconds["direct"] / seconds["class_free"],
        "cheaper_by_count": "class_free" if is_class_free else "direct",
        "cheaper_by_clock": min(seconds, key=seconds.__getitem__),
        "difference": difference(class_free(machine), direct(machine)),
    }


def compare_autodiff(num_rows: int, dim: int, num_outputs: int, dtype: str, repeats: int) -> dict[str, Any]:
    """Returns the seconds of `agop` and of `kernel_agop` of one machine."""
    machine = make_machine(num_rows, dim, num_outputs, dtype)
    ways = {"autodiff": partial(by_autodiff, machine), "closed_form": partial(kernel_agop, machine)}
    product, product_flops = timing.large_product(num_rows, jnp.dtype(dtype))
    seconds = timing.medians(ways | {"product": product}, repeats=repeats)
    rate = product_flops / seconds["product"]
    predicted = min(predicted_flops(num_rows, dim, num_outputs).values())
    return {
        "num_outputs": num_outputs,
        "autodiff_seconds": seconds["autodiff"],
        "closed_form_seconds": seconds["closed_form"],
        "closed_form_over_predicted": seconds["closed_form"] * rate / predicted,
        "autodiff_over_closed_form": seconds["autodiff"] / seconds["closed_form"],
        "difference": difference(by_autodiff(machine), kernel_agop(machine)),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures at the sizes given on the command line and reports, a row for each number of outputs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--num_rows", type=flags.count, default=2000)
    parser.add_argument(
        "--autodiff_rows", type=flags.count, default=200, help="rows of the machine that is differentiated"
    )
    parser.add_argument("--dim", type=flags.count, default=512)
    parser.add_argument("--num_outputs", type=flags.count, nargs="+", default=[1, 2, 5, 10, 20, 50, 100])
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float64")
    parser.add_argument("--repeats", type=flags.count, default=5)
    parser.add_argument(
        "--output", type=flags.file_to_write, default=None, help="file that lines of JSON are appended to"
    )
    options = parser.parse_args(arguments)
    dtype, outputs = jnp.dtype(options.dtype), options.num_outputs
    comparisons = (
        ("agop_forms", compare_forms, options.num_rows),
        ("agop_autodiff", compare_autodiff, options.autodiff_rows),
    )
    for name, compare, num_rows in comparisons:
        with jax.enable_x64(options.dtype == "float64"):
            rows = [compare(num_rows, options.dim, c, options.dtype, options.repeats) for c in outputs]
        timing.report_rows(name, {"num_rows": num_rows, "dim": options.dim}, rows, dtype, options.output)


if __name__ == "__main__":
    main()
