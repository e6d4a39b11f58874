"""How long is one layer of Deep RFM, beside the released algorithm, and how near to the flops it needs?

Normal classes about normal means, targets of -1 and 1; Laplace kernel of bandwidth 2, ridge 1e-3, ReLU
features, as many as columns unless --width says otherwise. Ours is `fit_deep_rfm_layer`, which draws the
features too, and then the layer at its own points; the baseline, `deep_rfm_baseline`, gets the same features.
All is taken in turns within one process, beside a product of two n x n matrices, whose rate turns
`necessary_flops` into seconds: over_necessary is what was measured over these, and over_predicted over those
that `cost` counts for the program as it is; bytes_over_predicted is the same of the memory of the compiled
fit. Differences are relative to
the baseline, in the Frobenius norm. Without torch the baseline is named and left out.

--mixed adds a row for our layer in mixed precision, whose differences are relative to ours; --radius puts the
rows of a class that far from their mean, as in a layer where classes have collapsed.

--sweep repeats this over values of one size (d with its width), and fits seconds = a size^b by least
squares of logarithms; the exponents of the counts of flops stand beside those of the seconds.

    python -m benchmarks.deep_rfm_layer --output=timings.jsonl
    python -m benchmarks.deep_rfm_layer --sweep=n --values=1000,2000,4000 --figure=sweep.png
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from benchmarks import deep_rfm_baseline, flags, timing
from benchmarks.metrics import make_classes
from benchmarks.rfm_peers import INSTALL
from benchmarks.sweep import draw_sweep, exponent
from dnc_jax import DeepRFMLayer, Laplace, fit_deep_rfm_layer, relu_features
from dnc_jax.cost import LayerMethod, LayerSize, layer_cost
from dnc_jax.deep_rfm import deep_rfm_layer_core
from dnc_jax.mixed_solver import mixed_cholesky_solve

METHODS = {"ours": LayerMethod(), "mixed": LayerMethod(mixed_cholesky_solve, mixed=True)}
HAS_MATPLOTLIB = find_spec("matplotlib") is not None
BANDWIDTH, RIDGE, SEED = 2.0, 1e-3, 0
DIFFERENCES = ("matrix_difference", "output_difference")
SWEPT = {"n": "num_rows", "d": "dim", "c": "num_outputs"}


class Sizes(NamedTuple):
    """Sizes of a layer: n rows, d columns, c outputs, and as many features as columns if width is None."""

    num_rows: int
    dim: int
    num_outputs: int
    width: int | None

    @property
    def num_features(self) -> int:
        """Returns p."""
        return self.dim if self.width is None else self.width


def necessary_flops(num_rows: int, dim: int, num_outputs: int) -> float:
    """Returns the flops that the fit of a layer needs, of order 3 in n and d; its application is left out.

    n^2 d for half a kernel, n^3 / 3 for Cholesky, 9 d^3 for the root of M, and for the AGOP what is cheaper:
    n^3 + 2 n^2 d + n d^2 for any number of outputs c, with Q^T Q and X^T (...) by halves, or else
    c (2 n^2 d + n d^2).
    """
    n, d, c = map(float, (num_rows, dim, num_outputs))
    class_free, direct = n**3 + 2 * n**2 * d + n * d**2, c * (2 * n**2 * d + n * d**2)
    return n**2 * d + n**3 / 3 + min(class_free, direct) + 9 * d**3


def make_data(
    sizes: Sizes, dtype: str, radius: float | None = None
) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n c"]]:
    """Returns rows of normal classes, and targets that are 1 for the class of a row and -1 for the others.

    radius is the root mean square distance of rows from their class's mean, whose length is 1; None is that
    of `make_classes`.
    """
    x, labels = make_classes(sizes.num_rows, sizes.dim, sizes.num_outputs)
    if radius is not None:
        means = np.stack([x[labels == label].mean(axis=0) for label in range(sizes.num_outputs)])[labels]
        beyond = (x - means) / np.sqrt(np.mean(np.sum((x - means) ** 2, axis=1)))
        x = means / np.linalg.norm(means, axis=1, keepdims=True) + radius * beyond
    return x.astype(dtype), (2 * np.eye(sizes.num_outputs)[labels] - 1).astype(dtype)


def our_layer(
    x: jax.Array, targets: jax.Array, width: int, *, mixed: bool = False
) -> tuple[DeepRFMLayer, jax.Array]:
    """Returns a fitted layer of this library, and what it passes on at its own rows."""
    layer = fit_deep_rfm_layer(
        jax.random.key(SEED),
        x,
        targets,
        kernel=Laplace(BANDWIDTH),
        ridge=RIDGE,
        sample_features=partial(relu_features, width=width),
        mixed=mixed,
    )
    return layer, layer(x)


def over_predicted(sizes: Sizes, dtype: str, flops: float, method: LayerMethod) -> dict[str, float | None]:
    """Returns flops, and the bytes of the compiled fit of a layer if known, over what `cost` predicts."""
    n, d, c, p = *sizes[:3], sizes.num_features
    x, targets = (jax.ShapeDtypeStruct((n, size), dtype) for size in (d, c))
    options = {"solver": method.solver, "mixed": method.mixed}
    core = partial(deep_rfm_layer_core, kernel=Laplace(BANDWIDTH), ridge=RIDGE, **options)
    features = jax.eval_shape(lambda: relu_features(jax.random.key(SEED), d, p))
    program = jax.jit(core).lower(x, targets, features).compile().memory_analysis()
    predicted = layer_cost(LayerSize(n, 0, d, p, c), jnp.dtype(dtype).itemsize, method)
    over = None
    if program is not None:
        held = program.argument_size_in_bytes + program.output_size_in_bytes + program.temp_size_in_bytes
        over = held / predicted.bytes.of_fit
    return {"over_predicted": flops / predicted.flops.total, "bytes_over_predicted": over}


def all_over_predicted(
    sizes: Sizes, dtype: str, seconds: Mapping[str, float], rate: float
) -> dict[str, dict[str, float | None]]:
    """Returns `over_predicted` of each of our layers that was timed, at a rate of flops per second."""
    return {
        name: over_predicted(sizes, dtype, seconds[name] * rate, method)
        for name, method in METHODS.items()
        if name in seconds
    }


def differences(ours: tuple[DeepRFMLayer, jax.Array], baseline: Any) -> dict[str, float]:  # noqa: ANN401
    """Returns the relative differences of M and of what the layers pass on."""
    matrix, outputs = (tensor.cpu().numpy() for tensor in (baseline.feature_matrix, baseline.nonlinear))
    return differences_of_arrays(ours, (matrix, outputs))


def differences_of_arrays(
    ours: tuple[DeepRFMLayer, jax.Array], references: tuple[np.ndarray, np.ndarray]
) -> dict[str, float]:
    """Returns the differences of M and of what a layer passes on, relative to given ones."""
    found = {}
    arrays = ours[0].feature_matrix, ours[1]
    for name, array, reference in zip(DIFFERENCES, arrays, references, strict=True):
        found[name] = float(np.linalg.norm(np.asarray(array) - reference) / np.linalg.norm(reference))
    return found


def measure(
    sizes: Sizes, dtype: str, repeats: int, *, mixed: bool = False, radius: float | None = None
) -> tuple[list[dict[str, Any]], float]:
    """Returns a row for ours, one for the baseline if torch is installed, and the flops per second.

    mixed adds one for ours in mixed precision; radius is that of `make_data`.
    """
    n, d, c, p = *sizes[:3], sizes.num_features
    x, targets = make_data(sizes, dtype, radius)
    product, product_flops = timing.large_product(n, jnp.dtype(dtype))
    ours = partial(our_layer, jnp.asarray(x), jnp.asarray(targets), p)
    layers: dict[str, Callable[[], Any]] = {"ours": ours}
    flops, differ = {"ours": necessary_flops(n, d, c)}, {}
    if mixed:
        layers["mixed"] = partial(ours, mixed=True)
        flops["mixed"] = flops["ours"]
        layer, outputs = ours()
        whole = np.asarray(layer.feature_matrix), np.asarray(outputs)
        differ["mixed"] = differences_of_arrays(layers["mixed"](), whole)
    if deep_rfm_baseline.HAS_TORCH:
        weights = np.asarray(relu_features(jax.random.key(SEED), d, p).weights, dtype)
        layers["baseline"] = deep_rfm_baseline.baseline_layer(
            x, targets, weights, bandwidth=BANDWIDTH, ridge=RIDGE
        )
        flops["baseline"] = deep_rfm_baseline.baseline_flops(n, d, p, c)
        differ["baseline"] = differences(ours(), layers["baseline"]())
    else:
        print(f"torch is not installed, and the baseline, the released algorithm, is left out: {INSTALL}")
    seconds = timing.medians(layers | {"product": product}, repeats=repeats)
    rate = product_flops / seconds["product"]
    predicted = all_over_predicted(sizes, dtype, seconds, rate)
    rows = [
        {
            "layer": name,
            "seconds": seconds[name],
            "over_ours": seconds[name] / seconds["ours"],
            "gigaflops": flops[name] / 1e9,
            "over_necessary": seconds[name] * rate / flops["ours"],
            **predicted.get(name, dict.fromkeys(predicted["ours"])),
            **differ.get(name, dict.fromkeys(DIFFERENCES)),
        }
        for name in layers
    ]
    return rows, rate


def sweep(
    sizes: Sizes, by: str, values: Sequence[int], dtype: str, repeats: int
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Returns a row for each value of a size, and the exponents of its seconds and counts of flops."""
    table = []
    for value in values:
        rows, _ = measure(sizes._replace(**{SWEPT[by]: value}), dtype, repeats)
        row: dict[str, Any] = {SWEPT[by]: value}
        for key in ("seconds", "gigaflops"):
            row |= {f"{found['layer']}_{key}": found[key] for found in rows}
        row["necessary_seconds"] = rows[0]["seconds"] / rows[0]["over_necessary"]
        row |= {"over_ours": rows[-1]["over_ours"]}
        row |= {key: rows[0][key] for key in ("over_necessary", "over_predicted", "bytes_over_predicted")}
        table.append(row)
    fitted = [key for key in table[0] if key.endswith(("_seconds", "_gigaflops"))]
    return table, {f"{key}_exponent": exponent(values, [row[key] for row in table]) for key in fitted}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Returns the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--num_rows", type=flags.count, default=5000)
    parser.add_argument("--dim", type=flags.count, default=1024)
    parser.add_argument("--num_outputs", type=flags.count, default=10)
    parser.add_argument(
        "--width", type=flags.count, default=None, help="features; as many as columns if not given"
    )
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float64")
    parser.add_argument("--mixed", action="store_true", help="time mixed precision too; of --dtype=float64")
    parser.add_argument(
        "--radius", type=float, default=None, help="of classes; that of normal rows if not given"
    )
    parser.add_argument("--repeats", type=flags.count, default=5)
    parser.add_argument("--sweep", choices=tuple(SWEPT), default=None, help="size that --values are of")
    parser.add_argument("--values", type=flags.counts, default=None)
    parser.add_argument(
        "--figure", type=flags.file_to_write, default=None, help="file that a sweep is drawn in"
    )
    parser.add_argument(
        "--output", type=flags.file_to_write, default=None, help="file that lines of JSON are appended to"
    )
    options = parser.parse_args(arguments)
    if (options.sweep is None) != (options.values is None):
        parser.error("--sweep and --values are given together or not at all")
    if options.mixed and options.dtype != "float64":
        parser.error("--mixed needs --dtype=float64: it is float64 with products in float32")
    if options.sweep is not None and (options.mixed or options.radius is not None):
        parser.error("--mixed and --radius are for single sizes: leave --sweep out")
    if options.sweep is None and options.figure is not None:
        parser.error("--figure draws a sweep: give --sweep and --values too")
    if options.figure is not None and not HAS_MATPLOTLIB:
        parser.error("--figure needs matplotlib: pip install -e '.[experiments]'")
    if options.values is not None and len(set(options.values)) < 2:
        parser.error("--values needs at least two different sizes, separated by commas")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures at the sizes given on the command line and reports."""
    options = parse(arguments)
    sizes = Sizes(options.num_rows, options.dim, options.num_outputs, options.width)
    dtype, name = jnp.dtype(options.dtype), "deep_rfm_layer"
    with jax.enable_x64(options.dtype == "float64"):
        if options.sweep is None:
            more = {"mixed": options.mixed, "radius": options.radius}
            rows, rate = measure(sizes, options.dtype, options.repeats, **more)
            facts = sizes._replace(width=sizes.num_features)._asdict() | {
                "product_gigaflops_per_second": round(rate / 1e9)
            }
            timing.report_rows(name, facts, rows, dtype, options.output)
            return
        table, exponents = sweep(sizes, options.sweep, options.values, options.dtype, options.repeats)
    fixed = fixed_sizes(sizes, options.sweep)
    timing.report_rows(name, fixed, table, dtype, options.output)
    timing.report(f"{name} by {options.sweep}", {**fixed, **exponents}, dtype, options.output)
    if options.figure is not None:
        shown = {
            "ours": "dnc_jax",
            "baseline": "released algorithm",
            "necessary": "flops at the rate of a product",
        }
        curves = {f"{key}_seconds": label for key, label in shown.items() if f"{key}_seconds" in table[0]}
        title = "One layer of Deep RFM: " + ", ".join(f"{key} {size}" for key, size in fixed.items())
        draw_sweep(options.figure, table, curves, letter=options.sweep, title=f"{title}, {dtype.name}")


def fixed_sizes(sizes: Sizes, by: str) -> Mapping[str, int]:
    """Returns the sizes that a sweep leaves as they are."""
    return {name: size for name, size in sizes._asdict().items() if name != SWEPT[by] and size is not None}


if __name__ == "__main__":
    main()
