"""One Deep RFM layer as its authors released it, written anew in PyTorch from what their code does.

Rows are scaled to unit norm. Then the rfm package's fit with one update of M, which starts from the identity:

1. kernel matrix, plus the ridge, solved by an LU decomposition;
2. the AGOP by one gradient per class, G_c = (K/r (a_c * X) - X * K/r a_c) / bandwidth of shape (n, d), with 0
   for K/r where r is tiny; M is the sum of G_c^T G_c divided by its largest entry;
3. kernel matrix with that M, plus the ridge, solved by LU once more, for the predictor that is reported.

The kernel is built four times: in 1, in 3, and in 2 once for K and once for r. Then M^(1/2) in float64, and
phi(x) = max(x M^(1/2) W, 0), where M^(1/2) W is multiplied first. Left out are the held-out points, which the
released fit looks at after each solve.

Between a row and itself the expansion leaves r near sqrt(eps) rather than 0, so that K is 1 - r / bandwidth
there and K/r is large. By that alone M differs from `fit_deep_rfm_layer`'s, by sqrt(eps) or less: 1e-8 in
float64, 2e-4 in float32; with 0 there, by 1e-14 and 6e-6. The roots differ where M has a null space: by the
square root of the rounding of M, which the library counts as 0.

References:
    Beaglehole, Sukenik, Mondelli and Belkin (2024), Algorithm 1 and the code released with it.
"""

import importlib
from collections.abc import Callable
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from benchmarks.rfm_peers import Tensor, laplace_kernel, mahalanobis_distances

HAS_TORCH = find_spec("torch") is not None
TINY_DISTANCE = 1e-10


class BaselineLayer(NamedTuple):
    """M (d, d), M^(1/2) x (n, d), what the layer passes on (n, p), and the weights of the refit (n, c)."""

    feature_matrix: Tensor
    linear: Tensor
    nonlinear: Tensor
    weights: Tensor


def baseline_flops(num_rows: int, dim: int, width: int, num_outputs: int) -> float:
    """Returns the flops of the layer, additions and multiplications, those of order n^2 or n d left out.

    With n rows, d columns, p features and c outputs:
    4 kernels, each 2 n^2 d for the products of rows and 4 n d^2 for the two products with M;
    2 solves, each 2/3 n^3 for LU and 2 n^2 c for its right-hand sides;
    the AGOP, 2 n^2 c + 2 n d^2 + c (2 n^2 d + 2 n d^2);
    the root, 9 d^3 as for any spectrum with its vectors;
    the features, 2 p d^2 + 2 n d^2 + 2 n d p.
    """
    n, d, p, c = map(float, (num_rows, dim, width, num_outputs))
    kernels = 4 * (2 * n**2 * d + 4 * n * d**2)
    solves = 2 * (2 / 3 * n**3 + 2 * n**2 * c)
    gradients = 2 * n**2 * c + 2 * n * d**2 + c * (2 * n**2 * d + 2 * n * d**2)
    features = 2 * p * d**2 + 2 * n * d**2 + 2 * n * d * p
    return kernels + solves + gradients + 9 * d**3 + features


def torch_device() -> str:
    """Returns where the baseline runs: on an accelerator that torch has been built for, or on the CPU."""
    return "cuda" if importlib.import_module("torch").cuda.is_available() else "cpu"


def baseline_layer(
    x: Float[np.ndarray, "n d"],
    targets: Float[np.ndarray, "n c"],
    feature_weights: Float[np.ndarray, "d p"],
    *,
    bandwidth: float,
    ridge: float,
) -> Callable[[], BaselineLayer]:
    """Returns a function that fits the layer and applies it to x; precision and device are set here.

    It works in the dtype of x, rows of which need not have unit norm, and returns once all is computed.
    """
    torch = importlib.import_module("torch")
    rows, outputs, weights = (
        torch.tensor(array, device=torch_device()) for array in (x, targets, feature_weights)
    )

    def solve(gram: Tensor) -> Tensor:
        return torch.linalg.solve(
            gram + ridge * torch.eye(len(gram), dtype=gram.dtype, device=gram.device), outputs
        )

    def layer() -> BaselineLayer:
        inputs = rows / rows.norm(dim=1, keepdim=True)
        identity = torch.eye(inputs.shape[1], dtype=inputs.dtype, device=inputs.device)
        first = solve(laplace_kernel(inputs, inputs, identity, bandwidth))
        matrix = scaled_agop(inputs, first, identity, bandwidth)
        refitted = solve(laplace_kernel(inputs, inputs, matrix, bandwidth))
        root = square_root(matrix)
        linear = inputs @ root
        result = BaselineLayer(matrix, linear, (inputs @ (root @ weights)).relu(), refitted)
        if rows.is_cuda:
            torch.cuda.synchronize()
        return result

    return layer


def scaled_agop(x: Tensor, weights: Tensor, m: Tensor, bandwidth: float) -> Tensor:
    """Returns the sum over outputs of G_c^T G_c at the rows of x, divided by its largest entry."""
    slope = laplace_kernel(x, x, m, bandwidth)
    apart = mahalanobis_distances(x, x, m)
    slope.div_(apart.masked_fill_(apart < TINY_DISTANCE, float("inf")))
    moved = x @ m
    own = slope @ weights
    total = m.new_zeros(m.shape)
    for output in range(weights.shape[1]):
        others = slope @ (weights[:, output, None] * moved)
        gradients = (others - own[:, output, None] * moved) / bandwidth
        total += gradients.T @ gradients
    return total / total.max()


def square_root(matrix: Tensor) -> Tensor:
    """Returns the root of a positive semidefinite matrix, by its spectrum in float64 on the CPU."""
    torch = importlib.import_module("torch")
    values, vectors = torch.linalg.eigh(matrix.cpu().double())
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root.to(matrix)
