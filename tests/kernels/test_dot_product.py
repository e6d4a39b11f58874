"""Polynomials and the neural tangent kernel: known numbers, limits and refusals."""

from decimal import Decimal, getcontext
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnc_jax import NTK, Polynomial
from dnc_jax.kernels.arc_cosine import add_bias, relu_layer
from tests.builders import as_a_user

# Values of the reference implementation, neural-tangents, in float64, by depth: two rows against two rows.
REFERENCE = {
    1: [[0.9341422238091217, 0.11508377878025546], [-0.08353899003750437, 0.14737010640169057]],
    2: [[1.30676445077292, 0.3758024986279677], [0.47731442523400325, 0.5950940936758665]],
    3: [[1.6470984504288886, 0.6405243734158754], [1.0336415287509673, 1.0483184972508401]],
}
# More of them, in a file that may lie beside the repository.
GOLDEN = Path(__file__).parents[2].parent / "shared" / "data" / "ntk_golden.npz"
relu = jax.jit(relu_layer)


def reference_rows():
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(size=(5, 8))), jnp.asarray(rng.normal(size=(4, 8)))


@pytest.mark.parametrize("depth", REFERENCE)
def test_ntk_is_the_reference(depth):
    x, z = reference_rows()
    np.testing.assert_allclose(NTK(depth)(x[:2], z[:2]), REFERENCE[depth], rtol=0, atol=1e-13)


@pytest.mark.skipif(not GOLDEN.exists(), reason="no golden values beside the repository")
@pytest.mark.parametrize("depth", REFERENCE)
def test_ntk_is_the_golden_values_beside_the_repository(depth):
    golden = np.load(GOLDEN)
    got = NTK(depth)(jnp.asarray(golden["X"]), jnp.asarray(golden["Z"]))
    np.testing.assert_allclose(got, golden[f"ntk{depth}"], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bias", [0.0, 0.7])
def test_ntk_of_a_row_with_itself_grows_by_a_layer_at_a_time(bias):
    # Parallel rows: S_l = 2 |x|^2 / d + l bias^2 and T_L = S_1 + ... + S_L, both halved in the last layer.
    x = reference_rows()[0]
    for depth in (1, 2, 5):
        layers = [
            2 * np.sum(np.asarray(x) ** 2, axis=1) / 8 + layer * bias**2 for layer in range(1, depth + 1)
        ]
        true = (layers[-1] + sum(layers)) / 2 + bias**2
        for z in (x, x + 0):
            np.testing.assert_allclose(np.diagonal(NTK(depth, bias)(x, z)), true, rtol=1e-14)


def test_ntk_without_bias_is_homogeneous():
    x, z = reference_rows()
    np.testing.assert_allclose(NTK(3)(5 * x, z), 5 * NTK(3)(x, z), rtol=1e-13)
    np.testing.assert_allclose(np.diagonal(NTK(3)(7 * x, x)), 7 * np.diagonal(NTK(3)(x, x)), rtol=1e-14)
    assert np.all(np.abs(np.diagonal(NTK(1)(x, -x))) < 1e-15)


@pytest.mark.parametrize("bias", [0.0, 0.4])
def test_derivatives_of_ntk_at_zero_rows_are_those_of_the_kernel(bias):
    x, z = jnp.zeros((1, 8)), reference_rows()[1]
    kernel, step = NTK(2, bias), 1e-6
    numerical = np.stack(
        [kernel(x + step * e, z)[0] - kernel(x - step * e, z)[0] for e in np.eye(8)[:, None]], axis=1
    )
    numerical = numerical / (2 * step) if bias else np.zeros((4, 8))
    np.testing.assert_allclose(jax.jacrev(lambda x: kernel(x, z)[0])(x)[:, 0], numerical, atol=1e-8)
    own, other = kernel.gradient_terms(x, z)
    np.testing.assert_allclose(own[0, :, None] * x + other[0, :, None] * z, numerical, atol=1e-8)


def test_second_derivatives_of_ntk_are_those_of_its_gradient():
    x, z = reference_rows()
    kernel, step = NTK(2, 0.4), 1e-6

    @jax.jit
    def gradient(row):
        return jax.grad(lambda row: kernel(row[None], z[:1])[0, 0])(row)

    numerical = np.stack(
        [(gradient(x[0] + step * e) - gradient(x[0] - step * e)) / (2 * step) for e in np.eye(8)]
    )
    np.testing.assert_allclose(jax.jit(jax.jacfwd(gradient))(x[0]), numerical, atol=1e-8)


@pytest.mark.parametrize("bias", [0.0, 0.4])
def test_a_parallel_center_pulls_along_the_row_alone(bias):
    # What has no limit there counts as 0, and is not left to cancel between the two terms.
    x = reference_rows()[0]
    own, other = NTK(2, bias).gradient_terms(x, x + 0)
    assert np.all(np.diagonal(other) == 0)
    assert np.all(np.diagonal(own) > 0)
    if bias == 0:
        assert np.all(np.diagonal(NTK(2).gradient_terms(x, 3 * x)[1]) == 0)


def exact_relu_layer(angle):
    """1 - cos t, 1 - t/pi and 1 - (sin t + (pi - t) cos t)/pi with 60 digits."""
    getcontext().prec = 60
    t, term, terms = Decimal(angle), Decimal(1), [Decimal(1)]
    for k in range(1, 60):
        term *= t / k
        terms.append(term)
    cos, sin = (sum((-1) ** k * term for k, term in enumerate(terms[odd::2])) for odd in (0, 1))
    pi = Decimal("3.14159265358979323846264338327950288419716939937510582097494")
    return 1 - cos, 1 - t / pi, 1 - cos + (t * cos - sin) / pi


@pytest.mark.parametrize(("dtype", "smallest"), [(np.float64, 1e-9), (np.float32, 1e-4)])
def test_a_layer_keeps_small_gaps_to_rounding(dtype, smallest):
    angles = [float(angle) for angle in (*np.geomspace(smallest, 2.0, 60), 0.2499, 0.2501)]
    gaps, order0, order1 = np.array([[float(v) for v in exact_relu_layer(angle)] for angle in angles]).T
    got0, got1 = relu(jnp.asarray(gaps, dtype))
    assert got0.dtype == got1.dtype == dtype
    np.testing.assert_allclose(got0, order0, rtol=8 * np.finfo(dtype).eps)
    np.testing.assert_allclose(got1, order1, rtol=8 * np.finfo(dtype).eps)


def test_a_layer_at_the_ends():
    order0, order1 = relu(jnp.array([0.0, 2.0]))
    np.testing.assert_allclose(order0, [1.0, 0.0], atol=1e-16)
    np.testing.assert_allclose(order1, [0.0, 1.0], atol=1e-15)
    assert np.all(np.isfinite(jax.jacfwd(relu_layer)(jnp.array([0.0, 2.0]))))


@pytest.mark.parametrize("shift", [0.0, 1e-9, 0.3])
def test_a_bias_keeps_small_gaps_to_rounding(shift):
    getcontext().prec = 60
    p, q, gap, variance = 1.7, 1.7 * (1 + shift), 1e-14, 0.3
    big_p, big_q, big_gap, big_variance = map(Decimal, (p, q, gap, variance))
    size = ((big_p + big_variance) * (big_q + big_variance)).sqrt()
    true = 1 - ((big_p * big_q).sqrt() * (1 - big_gap) + big_variance) / size
    got = add_bias(*map(jnp.asarray, (p, q, gap)), variance)
    np.testing.assert_allclose(got, float(true), rtol=1e-6 if shift == 1e-9 else 1e-13)
    assert float(add_bias(*map(jnp.asarray, (0.0, 1.0, 0.5)), 0.0)) == 0.5


def test_nearly_parallel_rows_keep_their_angle():
    # Where the difference of unit rows is recomputed. By a cosine, these angles would all be 0 or 2e-8.
    angles = np.array([1e-12, 1e-10, 1e-9])
    z = jnp.asarray(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    gap = 1 - NTK(1)(jnp.array([[1.0, 0.0]]), z)[0]
    # k = (1 - t^2/2 + ...)/2 + (1 - t/pi)/2 for rows of norm 1, d = 2.
    np.testing.assert_allclose(gap, angles / (2 * np.pi), atol=3e-16)


@pytest.mark.parametrize("degree", [1, 2, 3, 6])
def test_polynomial_of_negative_numbers_is_finite_with_its_gradients(degree):
    x, z = jnp.array([[-2.0], [0.0], [1.5]]), jnp.array([[1.0], [0.0]])
    base = 0.5 * np.asarray(x @ z.T)
    kernel = Polynomial(degree, offset=0.0, scale=0.5)
    np.testing.assert_allclose(jax.jit(kernel)(x, z), base**degree, rtol=1e-15)
    np.testing.assert_allclose(
        kernel.gradient_terms(x, z)[1], 0.5 * degree * base ** (degree - 1), rtol=1e-15
    )
    gradient = jax.jit(jax.grad(lambda kernel, x: jnp.sum(kernel(x, z)), argnums=(0, 1)))(kernel, x)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


def test_a_degree_may_be_traced_where_the_kernel_is_made():
    x = jnp.array([[-2.0], [1.5]])
    with as_a_user():
        grams = jax.jit(jax.vmap(lambda degree: Polynomial(degree, 0.0)(x, x - 1)))(jnp.arange(1, 4))
    np.testing.assert_allclose(
        grams, [np.asarray(x @ (x - 1).T) ** degree for degree in (1, 2, 3)], rtol=1e-14
    )


def test_every_hyper_parameter_changes_the_kernel():
    x, z = reference_rows()
    for kernels in (
        [Polynomial(2), Polynomial(3), Polynomial(2, 0.5), Polynomial(2, 1.0, 0.5)],
        [NTK(1), NTK(2), NTK(1, 0.5)],
    ):
        base = kernels[0](x, z)
        assert all(np.max(np.abs(kernel(x, z) - base)) > 1e-2 for kernel in kernels[1:])


@pytest.mark.parametrize("value", [0, -1, 2.5, 2.0, float("nan"), "2"])
@pytest.mark.parametrize(("kernel", "name"), [(Polynomial, "degree"), (NTK, "depth")])
def test_counts_that_are_not_whole_and_positive_are_refused(kernel, name, value):
    with (
        as_a_user(),
        pytest.raises(ValueError, match=rf"{name} must be a whole number of at least 1: got {value!r}"),
    ):
        kernel(value).check()


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_numbers_out_of_range_are_refused(value):
    for kernel, name in ((NTK(2, value), "bias"), (Polynomial(2, value), "offset")):
        with pytest.raises(ValueError, match=rf"{name} must be a finite number of at least 0: got {value:g}"):
            kernel.check()
    with pytest.raises(ValueError, match=rf"scale must be a positive finite number: got {value:g}"):
        Polynomial(2, 1.0, value).check()
    with pytest.raises(ValueError, match=r"scale must be a positive finite number: got 0"):
        Polynomial(2, 1.0, 0.0).check()
