"""Settings of every test: 64-bit JAX, strict shapes, runtime-checked annotations."""

import os

# Figures are drawn without a screen; set before matplotlib or jax are first imported.
os.environ.setdefault("MPLBACKEND", "Agg")

import jax
import pytest
from jaxtyping import install_import_hook

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")

with install_import_hook("dnc_jax", "beartype.beartype"):
    import dnc_jax  # noqa: F401


@pytest.fixture
def key() -> jax.Array:
    return jax.random.key(0)
