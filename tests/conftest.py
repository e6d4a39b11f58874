"""Settings of every test: 64-bit JAX, strict shapes, runtime-checked annotations."""

import os
from collections.abc import Iterator

# Read when matplotlib and jax are first imported: figures without a screen, eight devices for sharded tests.
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"

import jax
import pytest
from jaxtyping import install_import_hook

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")

with install_import_hook("dnc_jax", "beartype.beartype"):
    import dnc_jax  # noqa: F401


@pytest.fixture(autouse=True)
def restored_precision() -> Iterator[None]:
    """Experiments switch the precision of the whole process; the next test gets 64 bits back."""
    yield
    jax.config.update("jax_enable_x64", True)


@pytest.fixture(scope="module", autouse=True)
def compiled_programs_released() -> Iterator[None]:
    """Every compiled program maps memory, and a process may hold only so many maps (65,530 on Linux)."""
    yield
    jax.clear_caches()


@pytest.fixture
def key() -> jax.Array:
    return jax.random.key(0)
