"""Unbiased estimates of gradient outer products, with their standard errors."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from dnc_jax.chunking import sum_rows
from dnc_jax.jacobians import flattened, jacobians, num_outputs
from dnc_jax.linalg import symmetric_product
from dnc_jax.moments import Moments, moments_of_rows


class Estimate(NamedTuple):
    """An unbiased estimate and the standard error of each of its entries."""

    value: Float[Array, "..."]
    standard_error: Float[Array, "..."]


def agop_by_probes(
    key: PRNGKeyArray,
    fn: Callable[[Float[Array, "*shape"]], Float[Array, "..."]],
    x: Float[Array, "n *shape"],
    *,
    num_probes: int,
    batch_size: int | None = None,
) -> Estimate:
    """Returns an estimate of `agop` at the cost of one backward pass per probe, not one per output.

    The mean over probes of (1/n) sum_i (J_i^T v_i) (J_i^T v_i)^T, v_i independent random signs over outputs,
    of every example its own: E[v v^T] = I. The standard error is over probes, as if x were not random. With
    one output every probe is exact.

    Args:
        num_probes: Probes of all examples; the error shrinks as num_probes^(-1/2).
        batch_size: Examples handled at once; None takes all.

    Raises:
        ValueError: If num_probes is below 2, which leaves no standard error, or x has no rows.

    References:
        Hutchinson (1990), for the trace.
    """
    _check_count("num_probes", num_probes)
    fn, rows = flattened(fn, x)
    shape = (rows.shape[0], num_outputs(fn, rows))
    output_dtype = jax.eval_shape(fn, rows[0]).dtype

    def gradient(row: Float[Array, "d"], signs: Float[Array, "c"]) -> Float[Array, "d"]:
        return jax.vjp(fn, row)[1](signs)[0]

    def block_sum(block: tuple[Array, Array]) -> Float[Array, "d d"]:
        return symmetric_product(jax.vmap(gradient)(*block))

    def of_probe(key: PRNGKeyArray) -> Float[Array, "d d"]:
        signs = jax.random.rademacher(key, shape, output_dtype)
        total = sum_rows(block_sum, (rows, signs), batch_size)
        return total / rows.shape[0]

    probe_keys = jax.random.split(key, num_probes)
    return _estimate(moments_of_rows(lambda keys: of_probe(keys[0])[None], probe_keys, 1, _squares))


def egop(
    fn: Callable[[Float[Array, "*shape"]], Float[Array, "..."]],
    sampler: Callable[[PRNGKeyArray, int], Float[Array, "n *shape"]],
    key: PRNGKeyArray,
    *,
    num_samples: int,
    batch_size: int | None = None,
) -> Estimate:
    """Returns an estimate of the expected gradient outer product E[J(x)^T J(x)] of a known function.

    The mean over independent examples x, with the standard error of that mean, which shrinks as
    num_samples^(-1/2). `agop` at the same examples gives the value alone and needs less memory.

    Args:
        sampler: Draws a number of examples from a key: sampler(key, num) of shape (num, ...).
        batch_size: Examples whose (d, d) products are held at once, for the standard error; None holds all.

    Raises:
        ValueError: If num_samples is below 2, or the sampler draws another number of examples.

    References:
        Trivedi, Wang, Kpotufe and Shakhnarovich (2014), A consistent estimator of the expected gradient
        outerproduct.
    """
    _check_count("num_samples", num_samples)
    x = sampler(key, num_samples)
    if x.shape[:1] != (num_samples,):
        raise ValueError(f"sampler must return shape ({num_samples}, ...): got {x.shape}")
    fn, rows = flattened(fn, x)
    mode = "reverse" if num_outputs(fn, rows) < rows.shape[1] else "forward"
    gradients = jacobians(fn, mode=mode)

    def products(block: Float[Array, "b d"]) -> Float[Array, "b d d"]:
        return jax.vmap(symmetric_product)(gradients(block))

    return _estimate(moments_of_rows(products, rows, batch_size, _squares))


def _squares(deviations: Float[Array, "b d d"]) -> Float[Array, "d d"]:
    return jnp.sum(deviations * deviations, axis=0)


def _estimate(moments: Moments) -> Estimate:
    variance = moments.scatter / (moments.num_rows * (moments.num_rows - 1))
    is_positive = variance > 0
    return Estimate(
        moments.mean, jnp.where(is_positive, jnp.sqrt(jnp.where(is_positive, variance, 1.0)), 0.0)
    )


def _check_count(name: str, count: int) -> None:
    if count < 2:
        raise ValueError(f"{name} must be at least 2, or there is no standard error: got {count}")
