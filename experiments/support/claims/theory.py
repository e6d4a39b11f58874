"""Claims that are theorems, or nearly: each is checked by an optimum or a trajectory, not by its formula."""

import itertools
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from dnc_jax import Laplace, agop, egop, fit_rfm, kernel_agop, nc1, nfm, psd_power, svd_stages
from experiments.support.claims.findings import Finding, verdict_of

MAX_STEPS = 3000


def optimal_kernel() -> list[Finding]:
    """Minimizes kernel learning's objective over Gram matrices of unit rows, from random ones.

    tr(Y^T (G + mu I)^-1 Y), K classes of n points, one-hot Y: at least K n / (n + mu), reached where G is 1
    within a class and 0 between classes.
    """
    num_classes, num_each, mu = 5, 20, 0.1
    targets = jnp.repeat(jnp.eye(num_classes), num_each, axis=0)

    def gram(rows: Float[Array, "n d"]) -> Float[Array, "n n"]:
        rows = rows / jnp.linalg.norm(rows, axis=1, keepdims=True)
        return rows @ rows.T

    def objective(rows: Float[Array, "n d"]) -> Float[Array, ""]:
        ridged = gram(rows) + mu * jnp.eye(len(rows))
        return jnp.sum(targets * jax.scipy.linalg.solve(ridged, targets, assume_a="pos"))

    start = jax.random.normal(jax.random.key(0), (num_classes * num_each, 2 * num_classes))
    rows, _ = minimized(objective, start)
    bound, reached = num_classes * num_each / (num_each + mu), float(objective(rows))
    off = float(jnp.max(jnp.abs(gram(rows) - targets @ targets.T)))
    return [
        Finding(
            "The collapsed kernel is the optimum of kernel learning",
            "Beaglehole et al. 2024, on kernel learning",
            f"minimum of tr(Y^T (G + mu I)^-1 Y) is K n/(n + mu) = {bound:.6f}, at G = collapsed",
            f"{float(objective(start)):.2f} at random features, {reached:.6f} at the optimum found; its G "
            f"differs by at most {off:.1e} from the collapsed one",
            verdict_of(abs(reached / bound - 1) < 1e-6 and off < 1e-2),
        )
    ]


def deep_linear() -> list[Finding]:
    """Trains a deep linear network from a small balanced start, and from one that is not, against its AGOPs.

    Balanced: W_l W_l^T is W_(l+1)^T W_(l+1), which gradient flow keeps. In the last layer the statement is an
    identity, so it is not counted.
    """
    depth, in_dim, width, num_outputs, num_steps = 3, 20, 20, 5, 4000
    key_x, key_map, key_start = jax.random.split(jax.random.key(1), 3)
    x = jax.random.normal(key_x, (500, in_dim)) * jnp.linspace(0.5, 1.5, in_dim)[None]
    y = x @ jax.random.normal(key_map, (in_dim, num_outputs)) / in_dim**0.5
    frames = [
        jnp.linalg.qr(jax.random.normal(key, (dim, num_outputs)))[0]
        for key, dim in zip(
            jax.random.split(key_start, depth + 1), (in_dim, width, width, num_outputs), strict=True
        )
    ]
    # Weights lie in the orientation (inputs, outputs) of this library.
    balanced = [0.1 * before @ after.T for before, after in itertools.pairwise(frames)]
    keys = jax.random.split(key_start, depth)
    unbalanced = [0.1 * jax.random.normal(k, w.shape) for k, w in zip(keys, balanced, strict=True)]

    def loss(weights: list[Array]) -> Float[Array, ""]:
        return jnp.mean(jnp.sum((partial(passed, weights)(x) - y) ** 2, axis=1)) / 2

    @jax.jit
    def descend(weights: list[Array]) -> list[Array]:
        def step(weights: list[Array], _: None) -> tuple[list[Array], None]:
            return jax.tree.map(lambda w, g: w - 0.01 * g, weights, jax.grad(loss)(weights)), None

        return jax.lax.scan(step, weights, length=num_steps)[0]

    trained = descend(balanced)
    found, others = departures(trained), departures(descend(unbalanced))
    return [
        Finding(
            "W_l^T W_l = A_l^(1/(L-l+1)) in balanced deep linear networks",
            "Radhakrishnan et al. 2024; gradient flow",
            "relative Frobenius difference 0 in layers 1 to L - 1, up to the size of steps (below 1e-3)",
            f"{', '.join(f'{value:.1e}' for value in found)} in layers 1 to {depth - 1} of {depth}; "
            f"{', '.join(f'{value:.2f}' for value in others)} from a start that is not balanced; loss "
            f"{float(loss(balanced)):.2f} -> {float(loss(trained)):.1e}",
            verdict_of(all(value < 1e-3 for value in found)),
        )
    ]


def departures(weights: list[Array]) -> list[float]:
    """Returns |W^T W - A^p| / |A^p|, p = 1 / (L - l + 1), in the layers l < L of a linear network."""
    found = []
    for layer, matrix in enumerate(weights[:-1]):
        layer_agop = agop(partial(passed, weights[layer:]), jnp.ones((1, len(matrix))))
        # Eigenvalues that are 0 but for rounding would grow under the root.
        powered = psd_power(layer_agop, 1 / (len(weights) - layer), rtol=1e-14)
        found.append(float(jnp.linalg.norm(nfm(matrix) - powered) / jnp.linalg.norm(powered)))
    return found


def same_nc1() -> list[Finding]:
    """Measures NC1 of W x and of S V^T x, for weights W = U S V^T with more, fewer and as many outputs."""
    labels = jnp.repeat(jnp.arange(5), 40)
    keys = jax.random.split(jax.random.key(5), 5)
    x = jax.random.normal(keys[0], (5, 30))[labels] + jax.random.normal(keys[1], (200, 30))
    differences: list[float] = []
    for key, width in zip(keys[2:], (60, 30, 12), strict=True):
        weights = jax.random.normal(key, (30, width))
        whole = nc1(x @ weights, labels, 5)
        differences.append(abs(float(nc1(svd_stages(x, weights, jax.nn.relu).linear, labels, 5) / whole - 1)))
    return [
        Finding(
            "W x and S V^T x have the same NC1",
            "slides, eq. 25",
            "relative difference at rounding",
            f"{', '.join(f'{value:.0e}' for value in differences)} for 60, 30 and 12 outputs of 30 inputs",
            verdict_of(all(value < 1e-10 for value in differences)),
        )
    ]


def stationarity() -> list[Finding]:
    """Minimizes the loss of a two-layer network with weight decay and compares its weights with gradients.

    At a stationary point of (1/n) sum_i loss + (decay / 2) |W|^2, W^T W = -(1 / (n decay)) sum of gradients
    with respect to the layer's input, times that input.
    """
    decay, num_points, in_dim, width, num_outputs = 1e-2, 200, 8, 30, 3
    keys = jax.random.split(jax.random.key(2), 4)
    x = jax.random.normal(keys[0], (num_points, in_dim))
    y = jnp.tanh(x @ jax.random.normal(keys[1], (in_dim, num_outputs)))
    start = [
        jax.random.normal(keys[2], (in_dim, width)) / in_dim**0.5,
        jax.random.normal(keys[3], (width, num_outputs)) / width**0.5,
    ]

    def point_loss(weights: list[Array], x: Float[Array, "d"], y: Float[Array, "c"]) -> Float[Array, ""]:
        return jnp.sum((jnp.tanh(x @ weights[0]) @ weights[1] - y) ** 2) / 2

    def objective(weights: list[Array]) -> Float[Array, ""]:
        losses = jax.vmap(partial(point_loss, weights))(x, y)
        return jnp.mean(losses) + decay / 2 * sum(jnp.sum(w * w) for w in weights)

    def mismatch(weights: list[Array]) -> float:
        gradients = jax.vmap(jax.grad(partial(point_loss, weights)))(x, y)
        product, expected = -gradients.T @ x / (num_points * decay), weights[0] @ weights[0].T
        return float(jnp.linalg.norm(product - expected) / jnp.linalg.norm(expected))

    weights, slope = minimized(objective, start)
    return [
        Finding(
            "At a stationary point W^T W = -(1/(n decay)) sum of grad_h loss h^T",
            "follows from the gradient; weight decay",
            "relative difference 0 at the optimum (below 1e-5)",
            f"{mismatch(start):.2f} before training, {mismatch(weights):.1e} where the gradient is "
            f"{slope:.1e}",
            verdict_of(mismatch(weights) < 1e-5),
        )
    ]


def expected_gradients() -> list[Finding]:
    """Compares the AGOP of a recursive feature machine with the EGOP of the function that it learns."""
    dim, sizes = 10, (100, 300, 1000)

    def truth(x: Float[Array, "d"]) -> Float[Array, ""]:
        return x[0] * x[1] + jnp.sin(2 * x[2])

    def draw(key: Array, num: int) -> Float[Array, "n d"]:
        return jax.random.normal(key, (num, dim))

    expected = egop(truth, draw, jax.random.key(3), num_samples=5000, batch_size=1000).value
    found: list[float] = []
    for size in sizes:
        x = draw(jax.random.key(4), size)
        y = jax.vmap(truth)(x)[:, None]
        rfm = fit_rfm(Laplace(10.0), x, y, ridge=1e-3, num_iters=3)
        learned = rfm.feature_root @ kernel_agop(rfm.machine) @ rfm.feature_root
        found.append(float(jnp.linalg.norm(learned - expected) / jnp.linalg.norm(expected)))
    is_falling = all(a > b for a, b in itertools.pairwise(found))
    return [
        Finding(
            "The AGOP of a fitted predictor approaches the EGOP of the truth",
            "slides, eq. 21; Trivedi et al. 2014",
            "relative Frobenius difference falls with the number of points, below 0.1 at the last",
            ", ".join(f"{value:.3f} at n = {size}" for size, value in zip(sizes, found, strict=True)),
            verdict_of(is_falling and found[-1] < 0.1),
        )
    ]


def passed(weights: list[Array], x: Float[Array, "*n d"]) -> Float[Array, "*n c"]:
    """Returns x through linear layers."""
    for matrix in weights:
        x = x @ matrix
    return x


def minimized(objective: Callable[[PyTree], Float[Array, ""]], start: PyTree) -> tuple[PyTree, float]:
    """Returns where L-BFGS ends, and the norm of the gradient there."""
    solver = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(objective)

    @jax.jit
    def run(params: PyTree) -> tuple[PyTree, Array]:
        def step(carry: tuple[PyTree, PyTree], _: None) -> tuple[tuple[PyTree, PyTree], None]:
            params, state = carry
            value, grad = value_and_grad(params, state=state)
            updates, state = solver.update(grad, state, params, value=value, grad=grad, value_fn=objective)
            return (optax.apply_updates(params, updates), state), None

        (params, _), _ = jax.lax.scan(step, (params, solver.init(params)), length=MAX_STEPS)
        squares = [jnp.sum(leaf * leaf) for leaf in jax.tree.leaves(jax.grad(objective)(params))]
        return params, jnp.sqrt(sum(squares, jnp.zeros(())))

    params, slope = run(start)
    return params, float(slope)
