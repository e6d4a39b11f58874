"""How long is an epoch of an MLP's training, beside the same network in PyTorch?

Same weights at the start, same batches in the same order, squared error and Adam, in float32: `train_epoch`,
one compiled scan, against PyTorch's loop with its default Adam and with its fused one. Epochs are taken in
turns within one process. PyTorch gets its order of images for free. Without torch the benchmark says that
it is left out, and times ours alone.

    python -m benchmarks.training --output=timings.jsonl
"""

import argparse
import importlib
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks import flags, timing
from dnc_jax.networks import MLP, Functional, functional
from dnc_jax.training import init_state, make_optimizer, squared_error, train_epoch

HAS_TORCH = find_spec("torch") is not None
DTYPE = jnp.dtype(jnp.float32)
LEARNING_RATE = 1e-4

Epoch = Callable[[], Any]


def make_data(
    num_rows: int, in_dim: int, num_classes: int, num_epochs: int
) -> tuple[jax.Array, jax.Array, list[jax.Array]]:
    """Returns rows, labels, and the key of the order in which each epoch takes the rows."""
    key, label_key, order_key = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(key, (num_rows, in_dim), DTYPE)
    labels = jax.random.randint(label_key, (num_rows,), 0, num_classes)
    return x, labels, [jax.random.fold_in(order_key, epoch) for epoch in range(num_epochs)]


def make_network(dims: Sequence[int]) -> tuple[Functional, nnx.State, nnx.State]:
    """Returns an MLP, with hidden layers of one width, and its arrays."""
    in_dim, width, *others = dims
    network, *arrays = functional(MLP(in_dim, dims[-1], depth=len(others), width=width, rngs=nnx.Rngs(0)))
    params, stats = jax.tree.map(lambda array: array.astype(DTYPE), arrays)
    return network, params, stats


def ours(
    network: tuple[Functional, nnx.State, nnx.State],
    data: tuple[jax.Array, jax.Array, list[jax.Array]],
    batch_size: int,
) -> Epoch:
    """Returns a function that trains one more epoch each time and returns its losses."""
    (structure, params, stats), (x, labels, keys) = network, data
    optimizer = make_optimizer("adam", LEARNING_RATE)
    # Copies: training consumes its state.
    params, stats = jax.tree.map(jnp.copy, (params, stats))
    state = init_state(params, stats, optimizer)
    orders = iter(keys)

    def epoch() -> jax.Array:
        nonlocal state
        state, losses = train_epoch(
            structure, optimizer, squared_error, state, x, labels, next(orders), batch_size
        )
        return losses

    return epoch


def theirs(
    network: tuple[Functional, nnx.State, nnx.State],
    data: tuple[jax.Array, jax.Array, list[jax.Array]],
    batch_size: int,
    *,
    fused: bool,
) -> Epoch:
    """Returns the same in PyTorch."""
    torch = importlib.import_module("torch")
    (structure, params, stats), (x, labels, keys) = network, data
    layers = []
    for layer in structure.layers(params, stats):
        dense = torch.nn.Linear(*layer.matrix.shape, bias=False)
        dense.weight.data = torch.from_numpy(np.array(layer.matrix.T))
        layers += [dense, torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=fused)
    rows = torch.from_numpy(np.array(x))
    targets = torch.from_numpy(np.array(2 * jax.nn.one_hot(labels, layers[-2].out_features, dtype=DTYPE) - 1))
    orders = iter([torch.from_numpy(np.array(jax.random.permutation(key, len(x)))).long() for key in keys])

    def epoch() -> np.ndarray:
        losses = []
        for batch in next(orders).split(batch_size):
            loss = torch.nn.functional.mse_loss(model(rows[batch]), targets[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return torch.stack(losses).numpy()

    return epoch


def necessary_flops(dims: Sequence[int], num_rows: int) -> float:
    """Returns the flops of a forward and a backward pass over all rows, three products for each layer."""
    return sum(6.0 * num_rows * d * p for d, p in pairwise(dims)) - 2.0 * num_rows * dims[0] * dims[1]


def measure(
    dims: Sequence[int], *, num_rows: int, batch_size: int, repeats: int, product_size: int
) -> dict[str, float | int | None]:
    """Returns the seconds of an epoch of each, ratios, and ours over those of the necessary flops."""
    network, data = make_network(dims), make_data(num_rows, dims[0], dims[-1], repeats + 1)
    functions = {"ours": ours(network, data, batch_size)}
    if not HAS_TORCH:
        print("torch is not installed, and left out: pip install -e '.[benchmarks]'")
    else:
        functions["torch"] = theirs(network, data, batch_size, fused=False)
        functions["torch_fused"] = theirs(network, data, batch_size, fused=True)
    product, product_flops = timing.large_product(product_size, DTYPE)
    seconds = timing.medians(functions | {"product": product}, repeats=repeats)
    rate = product_flops / seconds["product"]
    record: dict[str, float | int | None] = {"num_rows": num_rows, "batch_size": batch_size}
    for name in ("ours", "torch", "torch_fused"):
        record[f"seconds_{name}"] = seconds.get(name)
    for name in ("torch", "torch_fused"):
        record[f"times_faster_than_{name}"] = seconds[name] / seconds["ours"] if name in seconds else None
    return record | {"over_necessary": seconds["ours"] * rate / necessary_flops(dims, num_rows)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures at the sizes given on the command line and reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dims", type=flags.count, nargs="+", default=[784, 512, 512, 512, 512, 512, 10])
    parser.add_argument("--num_rows", type=flags.count, default=5000)
    parser.add_argument("--batch_size", type=flags.count, default=128)
    parser.add_argument("--repeats", type=flags.count, default=5)
    parser.add_argument("--product_size", type=flags.count, default=4096)
    parser.add_argument(
        "--output", type=flags.file_to_write, default=None, help="file that a line of JSON is appended to"
    )
    options = vars(parser.parse_args(arguments))
    output = options.pop("output")
    timing.report("training", measure(**options), DTYPE, output)


if __name__ == "__main__":
    main()
