"""Where float precision ends: from which layer on a run's numbers are rounding rather than measurement."""

from typing import Literal

import jax.numpy as jnp

from dnc_jax import PrecisionFloorError
from dnc_jax.deep_rfm import LayerDiagnostics

OnFloor = Literal["stop", "warn"]

# Calibrated against float64 on images (tests/experiments/test_floor.py): up to these limits, NC1 and NC2
# of a float32 run stay within ten percent of the truth.
MAX_ROUNDING = 1e-4
MAX_CONDITIONING = 0.3


def floor_reason(rounding: float, diagnostics: LayerDiagnostics, dtype: jnp.dtype) -> str | None:
    """Returns why a layer lies below what its dtype can carry, or None if it does not.

    Args:
        rounding: `within_class_rounding` of what the layer receives.
    """
    if not rounding <= MAX_ROUNDING:
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
    return PrecisionFloorError(
        f"layer {layer} of {depth} is below the floor of {dtype}: {reason}; the layers before it are "
        f"recorded. Use {precision}--depth={max(layer - 1, 1)}, a larger --ridge, or --on-floor=warn to go "
        "on with every affected number marked"
    )
