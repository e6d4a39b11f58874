"""How much faster are all layers' AGOPs at once than one layer at a time, and how far from necessary?

A ReLU network without biases, x -> relu(x W_1) -> ... -> h W_last, in float32. `layer_agops` against one
`agop` of the rest of the network for each layer's input (reverse mode, same batch size), called in turns.

Necessary flops, for n rows, c outputs and inputs of d_l: 2 n d_l d_(l+1) forward, 2 n c d_l d_(l+1) backward,
and n c d_l^2 for the products, which is half of a plain product since they are symmetric (the block scheme of
`symmetric_product` spends 5/8 to 3/4). They are divided by the rate of one large product, timed in the
same turns.

    python -m benchmarks.layer_agops --output=timings.jsonl
"""

import argparse
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp

from benchmarks import flags, timing
from dnc_jax import agop, layer_agops

DTYPE = jnp.dtype(jnp.float32)


def make_layers(dims: Sequence[int], key: jax.Array) -> list[jax.Array]:
    """Returns He-normal weights (d_l, d_(l+1)) of every layer."""
    keys = jax.random.split(key, len(dims) - 1)
    return [
        jax.random.normal(key, shape, DTYPE) * (2 / shape[0]) ** 0.5
        for key, shape in zip(keys, pairwise(dims), strict=True)
    ]


def network(weights: Sequence[jax.Array]) -> list:
    """Returns the layers as functions of one example: ReLU after all but the last."""

    def hidden(w: jax.Array, row: jax.Array) -> jax.Array:
        return jax.nn.relu(jnp.matmul(row, w, precision="highest"))

    def last(w: jax.Array, row: jax.Array) -> jax.Array:
        return jnp.matmul(row, w, precision="highest")

    return [*(partial(hidden, w) for w in weights[:-1]), partial(last, weights[-1])]


def together(weights: Sequence[jax.Array], x: jax.Array, *, batch_size: int) -> list[jax.Array]:
    """Returns the AGOP of every layer, by `layer_agops`."""
    return layer_agops(network(weights), x, batch_size=batch_size)


def one_by_one(weights: Sequence[jax.Array], x: jax.Array, *, batch_size: int) -> list[jax.Array]:
    """Returns the same by one `agop` of the rest of the network at each layer's input."""
    layers, results = network(weights), []
    for index, layer in enumerate(layers):

        def rest(row: jax.Array, first: int = index) -> jax.Array:
            for following in layers[first:]:
                row = following(row)
            return row

        results.append(agop(rest, x, batch_size=batch_size, mode="reverse"))
        x = jax.vmap(layer)(x)
    return results


def necessary_flops(dims: Sequence[int], num_rows: int) -> float:
    """Returns the flops of one forward pass, one backward pass per output, and symmetric products."""
    num_outputs = dims[-1]
    passes = sum(2.0 * num_rows * (1 + num_outputs) * d * e for d, e in pairwise(dims))
    return passes + sum(1.0 * num_rows * num_outputs * d * d for d in dims[:-1])


def measure(
    dims: Sequence[int], *, num_rows: int, batch_size: int, repeats: int, product_size: int
) -> dict[str, float | int]:
    """Returns seconds of both ways, their ratio, and the seconds over those of the necessary flops."""
    key, data_key = jax.random.split(jax.random.key(0))
    weights, x = make_layers(dims, key), jax.random.normal(data_key, (num_rows, dims[0]), DTYPE)
    ways = {
        name: jax.jit(partial(way, batch_size=batch_size))
        for name, way in (("together", together), ("one_by_one", one_by_one))
    }
    product, product_flops = timing.large_product(product_size, DTYPE)
    functions = {name: partial(way, weights, x) for name, way in ways.items()} | {"product": product}
    seconds = timing.medians(functions, repeats=repeats)
    rate = product_flops / seconds["product"]
    return {
        "num_rows": num_rows,
        "batch_size": batch_size,
        "seconds_together": seconds["together"],
        "seconds_one_by_one": seconds["one_by_one"],
        "speedup": seconds["one_by_one"] / seconds["together"],
        "gigaflops_per_second": rate / 1e9,
        "over_necessary": seconds["together"] * rate / necessary_flops(dims, num_rows),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures at the sizes given on the command line and reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dims", type=flags.count, nargs="+", default=[784, 512, 512, 512, 512, 512, 10])
    parser.add_argument("--num_rows", type=flags.count, default=5000)
    parser.add_argument("--batch_size", type=flags.count, default=500)
    parser.add_argument("--repeats", type=flags.count, default=5)
    parser.add_argument("--product_size", type=flags.count, default=4096)
    parser.add_argument(
        "--output", type=flags.file_to_write, default=None, help="file that a line of JSON is appended to"
    )
    options = vars(parser.parse_args(arguments))
    output = options.pop("output")
    timing.report("layer_agops", measure(**options), DTYPE, output)


if __name__ == "__main__":
    main()
