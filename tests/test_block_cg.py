"""Block conjugate gradients on small systems."""

import jax.numpy as jnp
import numpy as np
import pytest

from dnc_jax.matrix_free import block_cg


@pytest.mark.parametrize("scale", [1.0, 1e-9, 0.0])
def test_orthonormal_columns_span_what_they_are_made_of(scale):
    rng = np.random.default_rng(0)
    a = rng.normal(size=(50, 4)) * np.array([1.0, 1e6, 1e-6, scale])
    basis, coefficients = block_cg.orthonormal(jnp.asarray(a), None)
    np.testing.assert_allclose(basis @ coefficients, a, atol=1e-14 * 1e6)
    rank = 3 if scale == 0 else 4
    np.testing.assert_allclose(np.linalg.eigvalsh(basis.T @ basis)[-rank:], 1, atol=1e-12)
    np.testing.assert_allclose(np.linalg.eigvalsh(basis.T @ basis)[:-rank], 0, atol=1e-12)


def conjugate_gradients(a, targets, limits, **options):
    settings = {"max_steps": 200, "residual_root": lambda v: v, "axis": None} | options
    return block_cg.block_conjugate_gradients(
        lambda v: jnp.asarray(a) @ v, jnp.asarray(targets), jnp.asarray(limits), **settings
    )


def test_as_many_steps_as_eigenvalues_are_enough():
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.normal(size=(40, 40)))
    a = (q * np.repeat([1.0, 5.0, 30.0], [10, 20, 10])) @ q.T
    targets = rng.normal(size=(40, 3))
    found = conjugate_gradients(a, targets, np.full(3, 1e-10))
    assert int(found.num_steps) == 3
    np.testing.assert_allclose(found.solution, np.linalg.solve(a, targets), rtol=1e-9)


def test_outputs_help_each_other():
    # In exact arithmetic n / c steps end it: the columns share one Krylov space.
    a = np.diag(np.geomspace(1, 1e3, 40))
    targets = np.random.default_rng(0).normal(size=(40, 8))
    alone = conjugate_gradients(a, targets[:, :1], np.full(1, 1e-6))
    together = conjugate_gradients(a, targets, np.full(8, 1e-6))
    assert int(together.num_steps) <= 7 < int(alone.num_steps)
    np.testing.assert_allclose(a @ together.solution, targets, atol=1e-5)


def test_equal_and_empty_outputs_do_no_harm():
    a = np.diag(np.geomspace(1, 100, 30))
    one = np.random.default_rng(0).normal(size=(30, 1))
    found = conjugate_gradients(a, np.concatenate([one, one, 0 * one, -2 * one], axis=1), np.full(4, 1e-9))
    true = one / np.diag(a)[:, None]
    np.testing.assert_allclose(found.solution, true * [1, 1, 0, -2], atol=1e-8)


def test_the_best_iterate_is_kept():
    # The residuals of an ill-conditioned system rise before they fall.
    a = np.diag(np.geomspace(1, 1e6, 60))
    targets = np.random.default_rng(0).normal(size=(60, 1))
    targets[30:] *= 1e-3
    limits, length = np.full(1, 1e-6), np.linalg.norm(targets)
    found = [conjugate_gradients(a, targets, limits, max_steps=steps) for steps in range(1, 13)]
    reached = np.array([float(one.residual_norms[0]) for one in found])
    assert np.all(np.diff(reached) <= 0)
    assert np.any(np.diff(reached) == 0)
    assert reached[0] <= length
    for one, norm in zip(found, reached, strict=True):
        np.testing.assert_allclose(np.linalg.norm(targets - a @ one.solution), norm, rtol=1e-6)


def test_it_ends_where_nothing_gets_better(monkeypatch):
    monkeypatch.setattr(block_cg, "PATIENCE", 5)
    found = conjugate_gradients(np.zeros((20, 20)), np.ones((20, 1)), np.full(1, 1e-6))
    assert int(found.num_steps) == 5
    np.testing.assert_array_equal(found.solution, 0)
