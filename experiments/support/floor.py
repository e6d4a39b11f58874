"""Where float precision ends: from which layer on a run's numbers are rounding rather than measurement.

In float64 two numbers of a layer tell. In float32 rounding adds up over layers in ways that no number of one
layer shows, so every layer is fitted twice: for the run, and for a twin of it whose first input was moved by
one rounding. How far the two differ is how far rounding has carried them.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dnc_jax import PrecisionFloorError
from dnc_jax.deep_rfm import LayerDiagnostics

OnFloor = Literal["stop", "warn"]
Values = Mapping[str, Mapping[str, float]]

# Calibrated against float64 on images (tests/experiments/test_floor.py): up to these limits, NC1 and NC2
# stay within ten percent of the truth.
MAX_ROUNDING = 1e-4
MAX_CONDITIONING = 0.3
MAX_SPREAD = 0.02
TWIN_SEED = 1
# What the limits are about. NC4 and accuracies count points and jump.
WATCHED = ("nc1", "nc1_trace_ratio", "nc2", "nc2_gram_mse")


def has_twin(dtype: jnp.dtype) -> bool:
    """Returns whether a run in this precision is watched by a twin."""
    return dtype == jnp.float32


def moved(x: Float[Array, "n d"]) -> Float[Array, "n d"]:
    """Returns x with every entry moved up or down by one rounding, drawn once and for all."""
    signs = jax.random.rademacher(jax.random.key(TWIN_SEED), x.shape, x.dtype)
    return x * (1 + jnp.finfo(x.dtype).eps * signs)


def with_twin(
    x: Float[Array, "n d"], test_x: Float[Array, "t d"]
) -> list[tuple[Float[Array, "n d"], Float[Array, "t d"]]]:
    """Returns training and held-out rows of a run, and after them those of its twin if it has one."""
    pairs = [(x, test_x)]
    return [*pairs, (moved(x), moved(test_x))] if has_twin(x.dtype) else pairs


def spread_reason(values: Values, twins: Sequence[Values], dtype: jnp.dtype) -> str | None:
    """Returns which number of a layer differs too much from its twin's, or None if none does."""
    spreads = {
        (stage, name): _relative_difference(name, value, twin[stage][name], dtype)
        for twin in twins
        for stage, metrics in values.items()
        for name, value in metrics.items()
        if name.removeprefix("test_") in WATCHED
    }
    stage, name = max(spreads, key=lambda place: spreads[place], default=("", ""))
    if spreads.get((stage, name), 0.0) <= MAX_SPREAD:
        return None
    return (
        f"moving the input by one rounding of {dtype} moves {name} at the {stage} stage by "
        f"{100 * spreads[stage, name]:.1f}% (limit {100 * MAX_SPREAD:g}%)"
    )


def _relative_difference(name: str, value: float, twin: float, dtype: jnp.dtype) -> float:
    # A distance of unit vectors is known to a few roundings, its square to the square of that.
    known = 100 * float(jnp.finfo(dtype).eps)
    unit = {"nc2": known, "nc2_gram_mse": known**2}.get(name.removeprefix("test_"), 0.0)
    return abs(value - twin) / max(abs(value), unit) if value != twin else 0.0


def floor_reason(rounding: float, diagnostics: LayerDiagnostics, dtype: jnp.dtype) -> str | None:
    """Returns why a layer lies below what its dtype can carry, or None if its own numbers do not tell.

    Args:
        rounding: `within_class_rounding` of what the layer receives.
    """
    if not has_twin(dtype) and not rounding <= MAX_ROUNDING:
        return (
            f"squared distances within a class carry a relative rounding of {rounding:.1e} in {dtype} "
            f"(limit {MAX_ROUNDING:g})"
        )
    conditioning = float(jnp.finfo(dtype).eps) * float(diagnostics.fit.condition_estimate)
    if not conditioning <= MAX_CONDITIONING:
        return (
            f"the kernel matrix has a condition number of about {diagnostics.fit.condition_estimate:.1e}, "
            f"times the rounding of {dtype} {conditioning:.1e} (limit {MAX_CONDITIONING:g})"
        )
    return None


def stages_below(input_is_below: bool, layer_is_below: bool) -> dict[str, bool]:
    """Returns which parts of a layer to mark: its own input is as good as the layer before it."""
    below = input_is_below or layer_is_below
    return {"input": input_is_below, "linear": below, "nonlinear": below, "machine": below}


def floor_error(layer: int, depth: int, reason: str, dtype: jnp.dtype) -> PrecisionFloorError:
    """Returns the error that stops a run at a layer whose numbers would be noise."""
    precision = "--precision=float64, " if dtype == jnp.float32 else ""
    depth_flag = f"--depth={layer - 1}, " if layer > 1 else ""
    return PrecisionFloorError(
        f"layer {layer} of {depth} is below the floor of {dtype}: {reason}; the layers before it are "
        f"recorded. Use {precision}{depth_flag}a larger --ridge, or --on-floor=warn to go on with every "
        "affected number marked"
    )
