"""What does one device hold and send of a Deep RFM layer by conjugate gradients, as devices are added?

Normal classes, Laplace kernel of bandwidth 2, ridge 1e-3, on meshes of 1, 2, 4 and 8 devices that share the
rows. Weak scaling: n grows as the root of their number, so that each has as many entries of K, n^2 / devices;
--fixed-rows keeps n (strong scaling). Of one device, in MiB: what the compiled layer holds, and this over
what `cost` counts; the tiles that it keeps of K; and what it sends, as `collectives` counts it in the
program: once in a layer, in each round of solving for what is left over, and in each step of conjugate
gradients, each over what `predicted_bytes` says. The difference is that of M to the layer of one device,
relative to its largest entry, and steps are those of all rounds.

    python -m benchmarks.weak_scaling --output=scaling.jsonl
    python -m benchmarks.weak_scaling --fixed-rows --num_rows=4000

Without an accelerator the devices are forced ones that share the cores of the CPU: what they hold and send is
that of as many machines, but seconds say nothing about those.
"""

import argparse
import math
import os
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float

from benchmarks import collectives, flags, timing
from benchmarks.metrics import make_classes
from dnc_jax import Laplace, relu_features
from dnc_jax.cost import LayerMethod, LayerSize, layer_cost, num_pivots
from dnc_jax.deep_rfm_sharded import sharded_layer_core
from dnc_jax.matrix_free import ConjugateGradients
from dnc_jax.matrix_free.nystrom import PIVOTS_PER_ROUND
from dnc_jax.matrix_free.solve import block_shape, kept_bytes

BANDWIDTH, RIDGE, SEED = 2.0, 1e-3, 0
FORCED = "--xla_force_host_platform_device_count"
MIB = 2**20
# Loops of unknown length around a collective: none, rounds, steps within a round.
PARTS = {"once": 0, "round": 1, "step": 2}


class Sizes(NamedTuple):
    """Sizes of a layer: n rows, d columns, c outputs."""

    num_rows: int
    dim: int
    num_outputs: int


def predicted_bytes(
    sizes: Sizes, solver: ConjugateGradients, num_devices: int, itemsize: int
) -> dict[str, int]:
    """Returns the bytes that a device sends once in a layer, in each round, and in each step.

    Rows are gathered, n d for the solver and n d + n c for the AGOP, and n numbers for each 64 pivots; a
    product with K gathers n c and scatters the sum of n c. All else is summed: r^2, d^2 and the pivots' rows
    of the preconditioner's factor once, and in a round or step r c and c^2.
    """
    n, d, c = sizes
    num_own, size = block_shape(n // num_devices, solver.tile_bytes, itemsize)
    filled, rank = num_own * size * num_devices, num_pivots(LayerSize(n, 0, d, d, c), solver)
    pivots = min(PIVOTS_PER_ROUND, filled)
    gathered = {"once": filled * d + n * (d + c) + rank // pivots * filled}
    summed = {"once": rank * rank + rank // pivots * pivots * rank + d * d}
    gathered["round"] = gathered["step"] = 2 * filled * c
    summed["round"] = 3 * rank * c + 2 * c * c
    summed["step"] = 3 * rank * c + 3 * c * c
    return {
        part: collectives.ring_bytes("all-gather", itemsize * gathered[part], num_devices)
        + collectives.ring_bytes("all-reduce", itemsize * summed[part], num_devices)
        for part in PARTS
    }


def mesh_of(num_devices: int) -> Mesh:
    """Returns a mesh of the first devices, whose axis is that of the rows."""
    devices = jax.devices()[:num_devices]
    return jax.make_mesh((num_devices,), ("rows",), devices=devices, axis_types=(AxisType.Auto,))


def make_data(sizes: Sizes, dtype: str) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n c"]]:
    """Returns rows of normal classes, and targets that are 1 for the class of a row and -1 for the others."""
    x, labels = make_classes(sizes.num_rows, sizes.dim, sizes.num_outputs)
    return x.astype(dtype), (2 * np.eye(sizes.num_outputs)[labels] - 1).astype(dtype)


def compiled_layer(
    sizes: Sizes, solver: ConjugateGradients, num_devices: int, dtype: str
) -> tuple[Any, tuple[Any, ...]]:
    """Returns the compiled program of a layer by devices that share its rows, and what to call it with."""
    mesh = mesh_of(num_devices)
    core = partial(
        sharded_layer_core,
        mesh=mesh,
        num_iters=1,
        solver=solver,
        agop_rows=None,
        ridge=RIDGE,
        kernel=Laplace(BANDWIDTH),
    )
    by_row, replicated = (NamedSharding(mesh, PartitionSpec(*names)) for names in (["rows"], []))
    x, targets = (jax.device_put(rows, by_row) for rows in make_data(sizes, dtype))
    features = jax.device_put(relu_features(jax.random.key(SEED), sizes.dim, sizes.dim), replicated)
    return jax.jit(core).lower(x, targets, features).compile(), (x, targets, features)


def measure(
    sizes: Sizes, solver: ConjugateGradients, num_devices: int, dtype: str, repeats: int
) -> dict[str, Any]:
    """Returns what one device holds and sends of a layer, and how the layer differs from that of one."""
    itemsize = jnp.dtype(dtype).itemsize
    program, arguments = compiled_layer(sizes, solver, num_devices, dtype)
    held = program.memory_analysis()
    in_all = held and held.argument_size_in_bytes + held.output_size_in_bytes + held.temp_size_in_bytes
    tiles = kept_bytes(sizes.num_rows // num_devices, num_devices, solver, itemsize)
    found = collectives.collectives_of(program.as_text(), num_devices)
    sent = collectives.sent_bytes(found, num_devices)
    expected = predicted_bytes(sizes, solver, num_devices, itemsize)
    row = {"num_devices": num_devices, "num_rows": sizes.num_rows}
    n, d, c = sizes
    method = LayerMethod(solver, num_devices=num_devices)
    predicted = layer_cost(LayerSize(n, 0, d, d, c), itemsize, method).bytes.of_fit
    row |= {"held_mib": in_all and in_all / MIB, "held_over_predicted": in_all and in_all / predicted}
    row |= {"tiles_mib": tiles / MIB}
    for part, depth in PARTS.items():
        row |= {f"{part}_mib": sent[depth] / MIB}
        row |= {f"{part}_over_predicted": sent[depth] / expected[part] if expected[part] else None}
    layer, diagnostics = program(*arguments)
    difference = 0.0
    if num_devices > 1:
        alone, same = compiled_layer(sizes, solver, 1, dtype)
        difference = relative_difference(layer.feature_matrix, alone(*same)[0].feature_matrix)
    seconds = timing.medians({"layer": partial(program, *arguments)}, repeats=repeats)
    row |= {"steps": int(diagnostics.fit.num_steps), "matrix_difference": difference}
    return row | {"seconds": seconds["layer"]}


def relative_difference(a: jax.Array, reference: jax.Array) -> float:
    """Returns the largest difference of two matrices, over the largest entry of the second."""
    reference = jax.device_get(reference)
    return float(np.max(np.abs(jax.device_get(a) - reference)) / np.max(np.abs(reference)))


def rows_on(num_devices: int, num_rows: int, *, is_fixed: bool) -> int:
    """Returns n for a number of devices, given that of one: the same, or as many entries of K on each.

    Rounded to a multiple of the devices.
    """
    wanted = num_rows if is_fixed else num_rows * math.sqrt(num_devices)
    return max(1, round(wanted / num_devices)) * num_devices


def force_devices(num_devices: int) -> None:
    """Splits the CPU into so many devices, where XLA_FLAGS says nothing of it and jax has not started."""
    flags = os.environ.get("XLA_FLAGS", "")
    if FORCED not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {FORCED}={num_devices}".strip()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Returns the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--num_devices", type=flags.count, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--num_rows", type=flags.count, default=2000, help="rows of one device alone")
    parser.add_argument("--fixed-rows", action="store_true", help="as many rows on any number of devices")
    parser.add_argument("--dim", type=flags.count, default=256)
    parser.add_argument("--num_outputs", type=flags.count, default=10)
    parser.add_argument("--rank", type=flags.count, default=256, help="pivots of the preconditioner")
    parser.add_argument("--tile_kib", type=flags.count, default=512, help="of a tile of K")
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float64")
    parser.add_argument("--repeats", type=flags.count, default=1)
    parser.add_argument(
        "--output", type=flags.file_to_write, default=None, help="file that lines of JSON are appended to"
    )
    options = parser.parse_args(arguments)
    force_devices(max(options.num_devices))
    if max(options.num_devices) > jax.device_count():
        parser.error(f"--num_devices must be at most {jax.device_count()}, which there are")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures on the meshes given on the command line and reports, a row for each."""
    options = parse(arguments)
    dtype = jnp.dtype(options.dtype)
    solver = ConjugateGradients(rank=options.rank, tile_bytes=options.tile_kib * 2**10)
    with jax.enable_x64(options.dtype == "float64"):
        rows = []
        for count in options.num_devices:
            num_rows = rows_on(count, options.num_rows, is_fixed=options.fixed_rows)
            sizes = Sizes(num_rows, options.dim, options.num_outputs)
            rows.append(measure(sizes, solver, count, options.dtype, options.repeats))
    names = ("dim", "num_outputs", "rank", "tile_kib", "fixed_rows")
    facts = {name: getattr(options, name) for name in names}
    timing.report_rows("weak_scaling", facts, rows, dtype, options.output)


if __name__ == "__main__":
    main()
