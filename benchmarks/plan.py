"""What would a Deep RFM layer take of each device at sizes that none here holds? On paper, by the cost model.

Conjugate gradients, rows shared by all devices, the AGOP at drawn points. Of each device: what it holds
(`layer_cost`), an even share of the flops, and what it sends in a layer (`predicted_bytes` of
`weak_scaling`); bytes were compared with compiled programs at small sizes. Seconds are these at a rate of
flops and of the network, one after another, for as many steps as `cost` assumes. fits says whether held_gib
is below --memory.

    python -m benchmarks.plan --num_rows 1000000 2000000
    python -m benchmarks.plan --dtype=float32 --teraflops=100 --memory=80
"""

import argparse
from collections.abc import Sequence
from itertools import product
from typing import Any

import jax.numpy as jnp

from benchmarks import flags, timing
from benchmarks.weak_scaling import Sizes, predicted_bytes
from dnc_jax.cost import CG_STEPS, LayerMethod, LayerSize, layer_cost
from dnc_jax.matrix_free import ConjugateGradients

GIB = 2**30
# Solutions for what is left over, where tiles are kept rounded, as `cost` counts them.
ROUNDS = {"float64": 1, "float32": 2, "nothing": 1}


def plan(
    size: LayerSize, num_devices: int, solver: ConjugateGradients, itemsize: int, options: argparse.Namespace
) -> dict[str, Any]:
    """Returns what each of so many devices holds, computes and sends."""
    method = LayerMethod(solver, options.agop_size, num_devices=num_devices)
    cost = layer_cost(size, itemsize, method)
    sizes = Sizes(size.num_train, size.in_dim, size.num_outputs)
    sent = predicted_bytes(sizes, solver, num_devices, itemsize)
    in_layer = sent["once"] + ROUNDS[solver.keep] * sent["round"] + CG_STEPS * sent["step"]
    flops, held = cost.flops.total / num_devices, cost.bytes.peak / GIB
    return {
        "num_rows": size.num_train,
        "num_devices": num_devices,
        "keep": solver.keep,
        "held_gib": held,
        "fits": held < options.memory,
        "petaflops": flops / 1e15,
        "seconds_of_flops": flops / (1e12 * options.teraflops),
        "sent_gib": in_layer / GIB,
        "seconds_of_network": in_layer / GIB / options.network,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Reports a row for each number of rows, number of devices, and what is kept of K."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--num_rows", type=flags.count, nargs="+", default=[1_000_000])
    parser.add_argument("--num_devices", type=flags.count, nargs="+", default=[8, 64, 512])
    parser.add_argument("--dim", type=flags.count, default=1024, help="columns, and features")
    parser.add_argument("--num_outputs", type=flags.count, default=10)
    parser.add_argument("--agop_size", type=flags.count, default=20_000, help="points of the AGOP")
    parser.add_argument("--rank", type=flags.count, default=2048, help="pivots of the preconditioner")
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float64")
    parser.add_argument("--memory", type=float, default=80.0, help="GiB of a device")
    parser.add_argument("--teraflops", type=float, default=40.0, help="per second of a device, in this dtype")
    parser.add_argument("--network", type=float, default=40.0, help="GiB per second that a device sends")
    parser.add_argument(
        "--output", type=flags.file_to_write, default=None, help="file that lines of JSON are appended to"
    )
    options = parser.parse_args(arguments)
    rows = []
    for num_rows, count, keep in product(options.num_rows, options.num_devices, ("float32", "nothing")):
        size = LayerSize(num_rows, 0, options.dim, options.dim, options.num_outputs)
        solver = ConjugateGradients(rank=options.rank, keep=keep)
        rows.append(plan(size, count, solver, jnp.dtype(options.dtype).itemsize, options))
    names = ("dim", "num_outputs", "agop_size", "rank", "memory", "teraflops", "network")
    facts = {name: getattr(options, name) for name in names}
    timing.report_rows("plan", facts, rows, jnp.dtype(options.dtype), options.output)


if __name__ == "__main__":
    main()
