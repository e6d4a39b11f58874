import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnc_jax import Laplace, median_bandwidth
from tests.builders import as_a_user, assert_close
from tests.instances import DTYPES


def rows(num_rows, dtype=np.float64):
    return np.random.default_rng(0).normal(size=(num_rows, 3)).astype(dtype)


def true_median(x):
    x = np.asarray(x, np.float64)
    distances = [np.sqrt(((a - b) ** 2).sum()) for i, a in enumerate(x) for b in x[:i]]
    return np.median([distance for distance in distances if distance > 0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("num_rows", [2, 3, 4, 11])
def test_bandwidth_is_the_median_distance(num_rows, dtype):
    x = rows(num_rows, dtype)
    assert_close(median_bandwidth(jnp.asarray(x)), true_median(x), dtype, "entry")
    assert_close(jax.jit(median_bandwidth)(jnp.asarray(x)), true_median(x), dtype, "entry")


def test_duplicates_are_left_out():
    x = np.concatenate([rows(6)] + [rows(1)] * 20)
    assert_close(median_bandwidth(jnp.asarray(x)), true_median(x), np.float64, "entry")


def test_a_subset_is_drawn_with_the_key_beyond_max_points():
    x = jnp.asarray(rows(60))
    drawn = [float(median_bandwidth(x, max_points=20, key=jax.random.key(seed))) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    np.testing.assert_allclose(drawn, true_median(x), rtol=0.3)
    whole = [median_bandwidth(x, max_points=most) for most in (60, 1000, None)]
    np.testing.assert_allclose(whole, true_median(x), rtol=1e-13)


def test_bandwidth_can_be_mapped_differentiated_and_used():
    x = jnp.asarray(rows(7))
    scaled = jax.vmap(lambda scale: median_bandwidth(scale * x))(jnp.array([1.0, 3.0]))
    np.testing.assert_allclose(scaled, true_median(x) * np.array([1.0, 3.0]), rtol=1e-13)
    np.testing.assert_allclose(jax.grad(lambda s: median_bandwidth(s * x))(2.0), true_median(x), rtol=1e-12)
    Laplace(median_bandwidth(x)).check()
    assert Laplace(median_bandwidth(x))(x, x).shape == (7, 7)


def test_rows_that_give_no_bandwidth():
    x = jnp.asarray(rows(5))
    assert np.isnan(median_bandwidth(x.at[2, 1].set(jnp.nan)))
    equal = jnp.ones((4, 3))
    with pytest.raises(ValueError, match=r"x must have rows that differ: got 4 equal rows"):
        median_bandwidth(equal)
    assert jax.jit(median_bandwidth)(equal) == 0
    assert np.all(np.isfinite(jax.jit(jax.grad(median_bandwidth))(equal)))


def test_arguments_out_of_range_are_refused():
    x = jnp.asarray(rows(5))
    with pytest.raises(ValueError, match=r"at least two rows: got shape \(1, 3\)"):
        median_bandwidth(x[:1])
    with as_a_user(), pytest.raises(ValueError, match=r"at least two rows: got shape \(5,\)"):
        median_bandwidth(x[:, 0])
    with pytest.raises(ValueError, match=r"max_points must be at least 2, or None for all rows: got 1"):
        median_bandwidth(x, max_points=1)
    with pytest.raises(ValueError, match=r"a subset of 3 of 5 rows needs a key: got None; pass key="):
        median_bandwidth(x, max_points=3)
