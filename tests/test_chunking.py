"""Matrices in tiles: the same whatever the tiles are, and computed no oftener than they must be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnc_jax.chunking import map_tiles, tree_bytes

N, M = 7, 5


def rows(num, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(num, 3)))


def prepared(x):
    return {"rows": 2 * x, "squares": jnp.sum(x * x, axis=1)}


def entries(a, b):
    product = jnp.matmul(a["rows"], b["rows"].T, precision="highest")
    return jnp.exp(product / 8) + a["squares"][:, None] * b["squares"][None]


def tiled(x, z, size, keep_bytes=10**6, fn=entries):
    return map_tiles(fn, x, z, size, prepare=prepared, keep_bytes=keep_bytes)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 100])
@pytest.mark.parametrize("keep_bytes", [0, 10**6])
def test_tiles_of_any_size_make_the_same_matrix(size, keep_bytes):
    x, z = rows(N), rows(M, 1)
    run = jax.jit(lambda x, z: tiled(x, z, size, keep_bytes))
    across = entries(prepared(x), prepared(z))
    np.testing.assert_allclose(run(x, z), across, rtol=1e-14)
    np.testing.assert_allclose(run(x, None), entries(prepared(x), prepared(x)), rtol=1e-14)
    assert run(z, x).shape == (M, N)


@pytest.mark.parametrize("size", [2, 100])
def test_of_itself_what_is_below_the_diagonal_is_mirrored(size):
    x = rows(6)
    # Not symmetric, so that the tiles that were not computed are told from those that were.
    one_sided = tiled(x, None, size, fn=lambda a, b: entries(a, b) + a["squares"][:, None])
    block = np.arange(6) // min(size, 6)
    full = entries(prepared(x), prepared(x)) + jnp.sum(x * x, axis=1)[:, None]
    expected = np.where(block[:, None] <= block[None], full, full.T)
    np.testing.assert_allclose(one_sided, expected, rtol=1e-14)


def count_calls(x, z, size, keep_bytes):
    """How often tiles and preparations run, told by the host."""
    calls = {"tiles": 0, "prepared": 0}

    def tell(name):
        calls[name] += 1

    def tile(a, b):
        jax.debug.callback(lambda: tell("tiles"))
        return entries(a, b)

    def prepare(x):
        jax.debug.callback(lambda: tell("prepared"))
        return prepared(x)

    jax.block_until_ready(
        jax.jit(lambda x, z: map_tiles(tile, x, z, size, prepare=prepare, keep_bytes=keep_bytes))(x, z)
    )
    jax.effects_barrier()
    return calls["tiles"], calls["prepared"]


def test_symmetric_tiles_are_computed_once_and_rows_prepared_once_where_they_may_be_kept():
    x, z = rows(6), rows(6, 1)
    block_bytes = tree_bytes(prepared(x[:2]))
    assert block_bytes == 2 * (3 + 1) * 8
    # Three blocks a side: their columns once each if all three fit, otherwise once in each tile.
    assert count_calls(x, None, 2, 3 * block_bytes) == (6, 6)
    assert count_calls(x, None, 2, 3 * block_bytes - 1) == (6, 9)
    assert count_calls(x, z, 2, 3 * block_bytes) == (9, 6)
    assert count_calls(x, z, 2, 3 * block_bytes - 1) == (9, 12)


@pytest.mark.parametrize("keep_bytes", [0, 10**6])
def test_derivatives_are_those_of_the_whole(keep_bytes):
    x, z, weights = rows(N), rows(M, 1), rows(N, 2) @ rows(M, 3).T
    got = jax.jit(jax.grad(lambda x, z: jnp.sum(weights * tiled(x, z, 3, keep_bytes)), argnums=(0, 1)))(x, z)
    true = jax.grad(lambda x, z: jnp.sum(weights * entries(prepared(x), prepared(z))), argnums=(0, 1))(x, z)
    for a, b in zip(got, true, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    own = jax.jit(jax.grad(lambda x: jnp.sum(weights[:, :1] * tiled(x, None, 3, keep_bytes))))(x)
    true = jax.grad(lambda x: jnp.sum(weights[:, :1] * entries(prepared(x), prepared(x))))(x)
    np.testing.assert_allclose(own, true, rtol=1e-12)


def test_a_tile_is_written_into_the_matrix_in_place():
    # A copy of the matrix for each tile would show as a second array of its size.
    x = rows(256)
    program = jax.jit(lambda x, z: tiled(x, z, 8)).lower(x, x + 0).compile()
    analysis = program.memory_analysis()
    assert analysis.output_size_in_bytes == 256 * 256 * 8
    assert analysis.temp_size_in_bytes < 256 * 256 * 8 * 1.5
