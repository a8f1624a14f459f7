"""Gumbel regression of y on x, by stochastic gradients: L^beta(Y|x) (Garg et al. 2023, Eq. 7, Sec. 3.2)."""

import functools
import warnings
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import ArrayLike, NDArray

from xql_jax.losses.gumbel import gumbel_loss
from xql_jax.networks.mlp import Value, iql_init
from xql_jax.theory import arguments
from xql_jax.theory.log_partition import log_partition
from xql_jax.types import Array, Numeric, Params, PRNGKey

# Range of beta, in standard deviations of y, with errors below 1% of that deviation; measured without inputs.
# Above, z is so small that float32 loses exp(z) - 1: the error is 0.5% at 3e6 and up to 5% at 1e7.
# Below, z of the lower samples passes `losses.gumbel.LOWEST_Z`, where the loss is flat: from 1e-19 on the
# error is 1% to 30%, at 1e-30 it is some deviations. In float32 L^beta is the maximum long before.
BETA_RANGE = (1e-15, 1e6)
INTERCEPT_TOLERANCE = 0.01  # of the intercept, in standard deviations of y; beyond it a fit warns
# The steepest slope, in multiples of N: of one sample, and of all samples of a minibatch together. At an
# optimum no batch has more than 2N. With a smaller bound, one outlier could be in balance with all others.
STEEPEST = 4.0

Model = tuple[Params, optax.OptState]


def tangent_gumbel_loss(values: Array, targets: Array, beta: Numeric, count: int) -> Array:
    """beta * `gumbel_loss`, continued by its tangent above the z at which exp(z) is STEEPEST * count.

    At an optimum over all `count` samples the mean of exp(z) is 1, because the output's bias has gradient 0.
    So no exp(z) exceeds `count`, and the minimiser is Eq. 7's. The loss is convex, and finite in
    float32 at any z.
    """
    steepest = STEEPEST * count
    edge = targets - beta * jnp.log(steepest)
    inner = beta * gumbel_loss(jnp.maximum(values, edge), targets, beta=beta)
    return inner + (steepest - 1.0) * jnp.maximum(edge - values, 0.0)


@functools.partial(jax.jit, static_argnames=("network", "num_batches", "num_epochs"))
def descend(
    network: Value,
    params: Params,
    inputs: Array,
    targets: Array,
    beta: Numeric,
    learning_rate: float,
    key: PRNGKey,
    *,
    num_batches: int,
    num_epochs: int,
) -> Params:
    """Returns the parameters that Adam fits to inputs f32[N, D] and targets f32[N], of variance 1.

    Minibatches are drawn without replacement. The learning rate falls to 0 along a cosine. Adam keeps its
    long second moment (b2 = 0.999). With a short moment, a rare batch with a large gradient is divided by
    itself, and the frequent small gradients dominate. `beta` is in the units of these targets.
    """
    count = targets.size
    batch_size = count // num_batches
    optimiser = optax.adam(optax.cosine_decay_schedule(learning_rate, num_epochs * num_batches))

    def update(model: Model, indices: Array) -> tuple[Model, None]:
        def total_loss(values: Array) -> Array:
            return tangent_gumbel_loss(values, targets[indices], beta, count).sum()

        params, state = model
        values, pull_back = jax.vjp(lambda p: network.apply(p, inputs[indices]), params)
        slopes = jax.grad(total_loss)(values)
        # This has no effect at the optimum, so the limit is not biased. On the way there it keeps huge
        # gradients out of Adam's second moment, where they would last for long.
        slopes *= jnp.minimum(1.0, STEEPEST * count / jnp.maximum(jnp.abs(slopes).sum(), 1.0))
        (gradient,) = pull_back(slopes / batch_size)
        change, state = optimiser.update(gradient, state)
        return (optax.apply_updates(params, change), state), None

    def epoch(model: Model, key: PRNGKey) -> tuple[Model, None]:
        # A random permutation that compiles in half the time of `jax.random.permutation`.
        order = jnp.argsort(jax.random.bits(key, (count,)))[: num_batches * batch_size]
        return jax.lax.scan(update, model, order.reshape(num_batches, batch_size))

    model = params, optimiser.init(params)
    (fitted, _), _ = jax.lax.scan(epoch, model, jax.random.split(key, num_epochs))
    return fitted


def gumbel_regression(
    inputs: ArrayLike,
    y: ArrayLike,
    beta: float,
    *,
    hidden_dims: Sequence[int] = (),
    learning_rate: float = 0.02,
    batch_size: int = 256,
    num_updates: int = 10_000,
    seed: int = 0,
) -> Callable[[ArrayLike], NDArray[np.float64]]:
    """Fits f(x) = L^beta(Y|x) = beta * log E[exp(Y / beta) | x] to samples, without computing it.

    It minimises exp(z) - z - 1 with z = (y - f(x)) / beta by stochastic gradients over a linear model or an
    MLP. The result is the mean of Y for a large beta and its largest value for a small beta (Lemma 3.1).
    The plain loss is used, because minibatches do not change its minimiser (Lemma 3.2). Inputs and y are
    scaled to mean 0 and variance 1, and beta with them.

    Source: Garg et al. 2023, Eq. 7, Section 3.2 and Lemma 3.2.
    Args:
        inputs: [N, D].
        y: [N].
        beta: Gumbel scale, positive, in the units of y.
        hidden_dims: widths of the hidden layers, with ReLU; () is the linear model.
        learning_rate: Adam's at the start, in standardised units; it falls to 0 along a cosine.
        batch_size: upper bound; all data if there are fewer.
        num_updates: gradient steps, rounded up to whole epochs.
        seed: of the initial parameters and of the order of the samples.
    Returns:
        f, from inputs [M, D] to f64[M]. A warning if too few updates leave a constant error above 1%.
    Raises:
        ValueError: if an argument is invalid, or beta beyond `BETA_RANGE`.
    """
    x, targets = arguments.samples("inputs", inputs), arguments.samples("y", y)
    if x.ndim != 2 or targets.shape != x.shape[:1]:
        raise ValueError(f"inputs must be [N, D] and y [N], not of shapes {x.shape} and {targets.shape}")
    arguments.positive("beta", beta)
    arguments.positive("learning_rate", learning_rate)
    arguments.positive("batch_size", batch_size)
    arguments.positive("num_updates", num_updates)
    (centre, spread), (mean, scale) = _mean_and_deviation(x), _mean_and_deviation(targets)
    lowest, highest = BETA_RANGE
    if not lowest <= beta / scale <= highest:
        raise ValueError(
            f"beta must be within {lowest:g} and {highest:g} times the standard deviation of y ({scale:g}) "
            f"for float32, not {beta}"
        )
    # As few minibatches as the size allows, all of one size. An epoch leaves out samples that remain.
    num_batches = -(-len(targets) // batch_size)
    network = Value(tuple(hidden_dims), kernel_init=iql_init)
    key_init, key_epochs = jax.random.split(jax.random.key(seed))
    scaled = np.asarray((x - centre) / spread, np.float32)
    params = descend(
        network,
        network.init(key_init, scaled[:1]),
        scaled,
        np.asarray((targets - mean) / scale, np.float32),
        beta / scale,
        float(learning_rate),
        key_epochs,
        num_batches=num_batches,
        num_epochs=-(-num_updates // num_batches),
    )
    wide = jax.tree.map(np.float64, params)

    def fitted(inputs: ArrayLike) -> NDArray[np.float64]:
        with jax.enable_x64(True):  # so that a value does not depend on the number of rows
            values = network.apply(wide, (np.asarray(inputs, np.float64) - centre) / spread)
        return np.asarray(mean + scale * np.asarray(values))

    miss = float(log_partition(targets - fitted(x), beta)) / scale
    if not abs(miss) <= INTERCEPT_TOLERANCE:  # NaN has not converged either
        warnings.warn(
            f"the Gumbel regression has not converged: its intercept lacks {miss:.3g} deviations of y. "
            "More num_updates, a larger batch_size or another learning_rate may help",
            RuntimeWarning,
            stacklevel=2,
        )
    return fitted


def _mean_and_deviation(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Over the first axis; 1 for what is constant."""
    return values.mean(axis=0), np.where(np.ptp(values, axis=0) > 0, values.std(axis=0), 1.0)
