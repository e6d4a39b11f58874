"""How long is a fit of a recursive feature machine, beside xRFM and the algorithm of the rfm package?

y_j = x_2j x_2j+1 of standard normal points; Laplace kernel of bandwidth 10, ridge 1e-3, M divided by its
largest entry. Fits are taken in turns within one process, all on the CPU and in one dtype, after one that
compiles and warms up; mean squared errors are on new points. Peers that are not installed are named and
left out. xRFM is run with its default solver, an LU decomposition, and with its Cholesky option.

The parts of ours are programs of their own, timed once and multiplied by how often a fit needs them: within
the one program of a fit the AGOP takes its distances from the kernel, so that they add up to more.

    python -m benchmarks.rfm_fit --output=timings.jsonl
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import flags, timing
from benchmarks.rfm_peers import Arrays, Fit, Fitted, Settings, peers
from dnc_jax import KernelMachine, Laplace, by_max, fit_rfm, kernel_agop, psd_power
from dnc_jax.solvers import quick_cholesky_solve

SETTINGS = Settings(bandwidth=10.0, ridge=1e-3, num_iters=5)
PARTS = ("kernel", "solve", "agop")


def make_data(num_train: int, num_test: int, dim: int, num_outputs: int, dtype: str) -> tuple[Arrays, Any]:
    """Returns points, targets and new points, and the targets of these."""
    rng = np.random.default_rng(0)
    x, new = (rng.normal(size=(size, dim)).astype(dtype) for size in (num_train, num_test))
    targets, true = (
        np.stack([rows[:, 2 * j] * rows[:, 2 * j + 1] for j in range(num_outputs)], axis=1)
        for rows in (x, new)
    )
    return (x, targets, new), true


def ours(arrays: Arrays, settings: Settings) -> Fit:
    """Returns the fit of this library."""
    x, targets, new = map(jnp.asarray, arrays)
    kernel, num_iters = Laplace(settings.bandwidth), settings.num_iters

    def fit() -> Callable[[], Fitted]:
        rfm = fit_rfm(kernel, x, targets, ridge=settings.ridge, num_iters=num_iters, rescale=by_max)
        jax.block_until_ready(rfm)
        return lambda: Fitted(np.asarray(rfm(new)), parts(x, targets, settings))

    return fit


def parts(x: jax.Array, targets: jax.Array, settings: Settings) -> dict[str, float]:
    """Returns the seconds of what a fit is made of, each compiled alone, times how often it is needed."""
    kernel = Laplace(settings.bandwidth)
    gram = jax.jit(lambda x: kernel(x, x))
    system = jax.jit(lambda x: kernel(x, x) + settings.ridge * jnp.eye(len(x), dtype=x.dtype))(x)
    machine = KernelMachine(kernel, x, targets)
    root = jax.jit(lambda m: psd_power(m, 0.5))
    functions = {
        "kernel": partial(gram, x),
        "solve": partial(jax.jit(quick_cholesky_solve), system, targets),
        "agop": lambda: root(kernel_agop(machine)),
    }
    counts = {"kernel": settings.num_iters + 1, "solve": settings.num_iters + 1, "agop": settings.num_iters}
    seconds = timing.medians(functions, repeats=3)
    return {name: seconds[name] * counts[name] for name in seconds}


def measure(
    num_train: int, num_test: int, dim: int, num_outputs: int, dtype: str, repeats: int
) -> list[dict[str, Any]]:
    """Returns a row for each implementation: median seconds, error, ratio to ours, seconds of parts."""
    arrays, true = make_data(num_train, num_test, dim, num_outputs, dtype)
    fits = {"ours": ours(arrays, SETTINGS)} | peers(arrays, SETTINGS)
    seconds: dict[str, list[float]] = {name: [] for name in fits}
    predict: dict[str, Callable[[], Fitted]] = {}
    for repeat in range(repeats + 1):
        for name, fit in fits.items():
            start = time.perf_counter()
            predict[name] = fit()
            # The first fit compiles and warms up.
            if repeat:
                seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    rows = []
    for name, median in medians.items():
        predictions, of_parts = predict[name]()
        error = float(np.mean((predictions - true) ** 2))
        row = {"fit": name, "seconds": median, "over_ours": median / medians["ours"], "test_mse": error}
        rows.append(row | {part: of_parts[part] for part in PARTS})
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures at the sizes given on the command line and reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--num_train", type=flags.count, default=4000)
    parser.add_argument("--num_test", type=flags.count, default=2000)
    parser.add_argument("--dim", type=flags.count, default=100)
    parser.add_argument("--num_outputs", type=flags.count, default=2)
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float64")
    parser.add_argument("--repeats", type=flags.count, default=3)
    parser.add_argument(
        "--output", type=flags.file_to_write, default=None, help="file that lines of JSON are appended to"
    )
    options = vars(parser.parse_args(arguments))
    output, sizes = options.pop("output"), {k: v for k, v in options.items() if isinstance(v, int)}
    with jax.enable_x64(options["dtype"] == "float64"):
        rows = measure(**options)
        timing.report_rows("rfm_fit", sizes, rows, jnp.dtype(options["dtype"]), output)


if __name__ == "__main__":
    main()
