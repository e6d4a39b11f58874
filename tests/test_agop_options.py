"""What `agop` does with examples of any shape, with centering, with diagonals and along directions."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnc_jax import agop
from tests import oracles
from tests.builders import as_a_user, assert_close, over_devices
from tests.instances import DTYPES

SHAPES = [(), (5,), (2, 3), (2, 3, 2)]


def points(shape=(5,), num_points=16, seed=0, dtype=np.float64):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(num_points, *shape)), dtype)


def function(shape, width, outputs=None):
    """A smooth function of one example of the given shape, with width outputs."""
    rng = np.random.default_rng(3)
    dim = int(np.prod(shape))
    first, second = rng.normal(size=(dim, 7)), rng.normal(size=(7, width))

    def fn(example):
        hidden = jnp.tanh(example.reshape(-1) @ jnp.asarray(first, example.dtype))
        return (hidden @ jnp.asarray(second, example.dtype)).reshape(outputs or (width,))

    return fn


def numerical(fn, x):
    """Jacobians (n, c, d) of flattened outputs by flattened inputs."""
    flat = np.asarray(x, np.float64).reshape(len(x), -1)
    flat_fn = jax.jit(lambda row: jnp.ravel(fn(row.reshape(x.shape[1:]))))
    return np.stack([oracles.numerical_jacobian(flat_fn, row) for row in flat])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mode", [None, "forward", "reverse"])
def test_examples_and_outputs_of_any_shape_are_flattened(shape, mode):
    fn, x = function(shape, 4, (2, 2)), points(shape)
    true = oracles.agop(numerical(fn, x))
    got = jax.jit(partial(agop, fn, mode=mode, batch_size=5))(x)
    np.testing.assert_allclose(got, true, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("shape", "batch_size"), [((), None), ((5,), 1), ((2, 3), 5), ((2, 3, 2), 8)])
def test_centering_and_the_diagonal_are_the_oracles(shape, batch_size):
    fn, x = function(shape, 3), points(shape)
    for centered in (False, True):
        true = oracles.agop(numerical(fn, x), centered=centered)
        for diagonal in (False, True):
            options = {"centered": centered, "diagonal": diagonal, "batch_size": batch_size}
            got = jax.jit(partial(agop, fn, **options))(x)
            expected = np.diagonal(true) if diagonal else true
            assert got.shape == expected.shape
            np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch_size", [None, 1, 7, 100])
def test_centering_is_exact_where_means_dominate(dtype, batch_size):
    # f_c(x) = b_c.x + x^T A_c x / 2: the Jacobian b + A x is a constant a thousand times its spread.
    rng = np.random.default_rng(0)
    slopes, curvatures = 1e3 + rng.normal(size=(3, 4)), rng.normal(size=(3, 4, 4))
    slopes, curvatures = (a.astype(dtype).astype(np.float64) for a in (slopes, curvatures))
    x = points((4,), 3000, dtype=dtype)

    def fn(row):
        quadratic = jnp.einsum("i,cij,j->c", row, jnp.asarray(curvatures, dtype), row)
        return jnp.asarray(slopes, dtype) @ row + quadratic / 2

    symmetric = (curvatures + curvatures.transpose(0, 2, 1)) / 2
    jacobians = slopes + np.einsum("cij,nj->nci", symmetric, np.asarray(x, np.float64))
    true = oracles.agop(jacobians, centered=True)
    # Every entry of the Jacobian is itself rounded to eps 1e3.
    limit = 10 * np.finfo(dtype).eps * 1e3 * np.abs(true).max()
    got = jax.jit(lambda x: agop(fn, x, centered=True, batch_size=batch_size))(x)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, true, atol=limit)
    uncentered = np.finfo(dtype).eps * oracles.agop(jacobians).max()
    assert limit < uncentered


@pytest.mark.parametrize("num_directions", [1, 6])
@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_directions_give_the_agop_in_their_span(num_directions, mode):
    fn, x = function((2, 3), 4), points((2, 3))
    directions = np.random.default_rng(4).normal(size=(6, num_directions))
    for centered in (False, True):
        along = jax.jit(
            partial(agop, fn, centered=centered, mode=mode, batch_size=5), static_argnames="diagonal"
        )
        true = directions.T @ along(x) @ directions
        got = along(x, directions=jnp.asarray(directions))
        np.testing.assert_allclose(got, true, rtol=1e-10, atol=1e-12)
        diagonal = along(x, directions=jnp.asarray(directions), diagonal=True)
        np.testing.assert_allclose(diagonal, np.diagonal(true), rtol=1e-10, atol=1e-12)


def test_directions_never_form_the_whole_matrix():
    fn, x, directions = function((50,), 9), points((50,)), jnp.ones((50, 2))
    for centered in (False, True):
        program = str(jax.make_jaxpr(partial(agop, fn, centered=centered, directions=directions))(x))
        assert "50,50]" not in program
        assert "9,50]" not in program
    assert "50,50]" in str(jax.make_jaxpr(lambda x: agop(fn, x))(x))


def forward_only(width):
    """A function that reverse mode refuses, since its loop has no fixed length."""

    def fn(row):
        row = jax.lax.while_loop(lambda r: jnp.sum(jnp.abs(r)) < 0, lambda r: r, row)
        return function((5,), width)(row)

    return fn


@pytest.mark.parametrize(
    ("width", "num_directions", "is_forward"),
    [(4, None, False), (5, None, True), (9, None, True), (3, 3, True), (3, 2, True), (2, 3, False)],
)
def test_the_cheaper_mode_is_taken(width, num_directions, is_forward):
    directions = None if num_directions is None else jnp.ones((5, num_directions))
    if is_forward:
        assert np.all(np.isfinite(agop(forward_only(width), points(), directions=directions)))
    else:
        with pytest.raises(ValueError, match="Reverse-mode differentiation does not work"):
            agop(forward_only(width), points(), directions=directions, mode="reverse")
        with pytest.raises(ValueError, match="Reverse-mode differentiation does not work"):
            agop(forward_only(width), points(), directions=directions)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", [{}, {"centered": True}, {"diagonal": True}, {"batch_size": 3}])
def test_agop_keeps_the_dtype_and_is_symmetric_and_the_same_jitted(dtype, options):
    fn, x = function((2, 3), 3), points((2, 3), dtype=dtype)
    got = agop(fn, x, **options)
    true = agop(function((2, 3), 3), x.astype(np.float64), **options)
    assert_close(got, true, dtype, "product")
    assert_close(jax.jit(lambda x: agop(fn, x, **options))(x), true, dtype, "product")
    if got.ndim == 2:
        np.testing.assert_array_equal(got, got.T)


def test_agop_runs_under_vmap_and_has_gradients():
    fn, stack = function((5,), 3), jnp.stack([points(seed=1), points(seed=2)])
    mapped = jax.vmap(lambda x: agop(fn, x, centered=True, batch_size=5))(stack)
    for x, got in zip(stack, mapped, strict=True):
        np.testing.assert_allclose(got, agop(fn, x, centered=True), rtol=1e-12, atol=1e-14)
    gradient = jax.grad(lambda s: jnp.trace(agop(lambda row: s * fn(row), stack[0], batch_size=5)))(2.0)
    np.testing.assert_allclose(gradient, 4 * jnp.trace(agop(fn, stack[0])), rtol=1e-10)


@pytest.mark.parametrize("options", [{}, {"centered": True}, {"batch_size": 4}])
def test_agop_over_eight_devices_is_that_of_one(options):
    fn, x = function((2, 3), 3), points((2, 3))
    sharded = jax.jit(lambda x: agop(fn, x, **options))(over_devices(x))
    np.testing.assert_allclose(sharded, agop(fn, x, **options), rtol=1e-12, atol=1e-14)


def test_agop_refuses_directions_and_examples_that_do_not_fit():
    fn, x = function((2, 3), 3), points((2, 3))
    for directions in (jnp.ones((5, 2)), jnp.ones((6, 0)), jnp.ones(6)):
        with as_a_user(), pytest.raises(ValueError, match=r"directions must be a matrix \(6, q\)"):
            agop(fn, x, directions=directions)
    with as_a_user(), pytest.raises(ValueError, match=r"at least one row: got shape \(\)"):
        agop(fn, jnp.ones(()))
