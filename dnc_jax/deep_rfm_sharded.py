"""A layer of Deep RFM whose rows are shared by the devices of a mesh.

Every device has its own rows of x, targets, centers and weights, and its own tiles of the kernel matrix, of
which none is ever whole. What crosses between devices are rows (n d numbers), products with the kernel matrix
(n c for each step of conjugate gradients) and sums of matrices (d d, r r, c c).
"""

from functools import partial

import jax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int

from dnc_jax.deep_rfm_core import DeepRFMLayer, LayerDiagnostics, deep_rfm_layer_core
from dnc_jax.kernels import Kernel
from dnc_jax.matrix_free import ConjugateGradients
from dnc_jax.types import FeatureMap, Scalar

OF_ROWS = ("centers", "weights")


def sharded_layer_core(
    x: Float[Array, "n d"],
    targets: Float[Array, "n c"],
    features: FeatureMap,
    *,
    mesh: Mesh,
    kernel: Kernel,
    ridge: Scalar,
    num_iters: int,
    solver: ConjugateGradients,
    agop_rows: Int[Array, "q"] | None,
) -> tuple[DeepRFMLayer, LayerDiagnostics]:
    """Returns `deep_rfm_layer_core` by the devices of a mesh of one axis, which share the rows evenly."""
    (axis,) = mesh.axis_names
    core = partial(deep_rfm_layer_core, num_iters=num_iters, solver=solver)

    def local(
        x: Array,
        targets: Array,
        features: FeatureMap,
        kernel: Kernel,
        ridge: Scalar,
        agop_rows: Array | None,
        axis: str | None = axis,
    ) -> tuple[DeepRFMLayer, LayerDiagnostics]:
        return core(x, targets, features, kernel=kernel, ridge=ridge, agop_rows=agop_rows, axis=axis)

    arguments = (x, targets, features, kernel, ridge, agop_rows)
    whole = jax.eval_shape(partial(local, axis=None), *arguments)
    by_row, replicated = PartitionSpec(axis), PartitionSpec()
    outputs = jax.tree_util.tree_map_with_path(
        lambda path, _: by_row if _is_of_rows(path) else replicated, whole
    )
    inputs = (by_row, by_row, *[replicated] * 4)
    # Sums over devices are the same on all of them, which the checker cannot see through loops.
    run = jax.shard_map(local, mesh=mesh, in_specs=inputs, out_specs=outputs, check_vma=False)
    return run(*arguments)


def _is_of_rows(path: tuple[object, ...]) -> bool:
    """Returns whether a leaf of a layer is a machine's centers or weights, not a feature map's."""
    names = [getattr(key, "name", None) for key in path]
    return "machine" in names and names[-1] in OF_ROWS


def check_mesh(mesh: Mesh, num_rows: int, solver: object) -> None:
    """Raises ValueError for a mesh that cannot share the rows, or a solver that needs the whole matrix."""
    if len(mesh.axis_names) != 1 or num_rows % mesh.size:
        raise ValueError(
            f"mesh must have one axis whose devices share the rows evenly: got axes {mesh.axis_names}, "
            f"{mesh.size} devices and {num_rows} rows"
        )
    if not isinstance(solver, ConjugateGradients):
        raise ValueError(
            f"a mesh needs solver=ConjugateGradients(), which never holds a kernel matrix whole: got {solver}"
        )
