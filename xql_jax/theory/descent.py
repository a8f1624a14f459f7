"""Stochastic gradient descent of several regressions at once; Gumbel regression is stable in float32."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from xql_jax.losses.gumbel import gumbel_loss
from xql_jax.networks.mlp import Value
from xql_jax.types import Array, Params, PRNGKey

# (values f32[B], targets f32[B], shape f32[], N) -> f32[B], for targets of variance 1. `shape` is the loss's
# parameter: beta, the expectile, or unused. N is the number of all samples.
DescendedLoss = Callable[[Array, Array, Array, int], Array]

# The steepest slope, in multiples of N: of one sample, and of all samples of a minibatch together. At an
# optimum no batch has more than 2N. With a smaller bound, one outlier could be in balance with all others.
STEEPEST = 4.0


@functools.partial(jax.jit, static_argnames=("loss", "network", "num_batches", "num_epochs"))
def descend(
    loss: DescendedLoss,
    network: Value,
    params: Params,
    inputs: Array,
    targets: Array,
    shapes: Array,
    learning_rate: float,
    key: PRNGKey,
    *,
    num_batches: int,
    num_epochs: int,
) -> tuple[Params, Array]:
    """Fits K models side by side with Adam, on the same minibatches drawn without replacement.

    The learning rate falls to 0 along a cosine. Adam keeps its long second moment (b2 = 0.999). With a short
    one, a rare batch with a large gradient is divided by itself, and the frequent small gradients dominate.

    Args:
        loss: per example; its slopes are of the order of 1.
        network: from inputs f32[B, D] to values f32[B].
        params: of K models, stacked.
        inputs: f32[N, D]. targets: f32[N], of variance 1. shapes: f32[K], of the loss.
    Returns:
        the fitted parameters, stacked, and the mean loss f32[num_epochs, K] of each epoch.
    """
    count = targets.size
    batch_size = count // num_batches
    optimiser = optax.adam(optax.cosine_decay_schedule(learning_rate, num_epochs * num_batches))

    def update(params: Params, state: optax.OptState, shape: Array, indices: Array) -> Any:
        values, pull_back = jax.vjp(lambda p: network.apply(p, inputs[indices]), params)

        def total(values: Array) -> tuple[Array, Array]:
            losses = loss(values, targets[indices], shape, count)
            return losses.sum(), losses.mean()

        slopes, mean_loss = jax.grad(total, has_aux=True)(values)
        # This has no effect at the optimum, so the limit is not biased. On the way there it keeps huge
        # gradients out of Adam's second moment, where they would last for long.
        slopes *= jnp.minimum(1.0, STEEPEST * count / jnp.maximum(jnp.abs(slopes).sum(), 1.0))
        (gradient,) = pull_back(slopes / batch_size)
        change, state = optimiser.update(gradient, state)
        return optax.apply_updates(params, change), state, mean_loss

    def minibatch(carry: Any, indices: Array) -> Any:
        params, state = carry
        params, state, mean_loss = jax.vmap(update, in_axes=(0, 0, 0, None))(params, state, shapes, indices)
        return (params, state), mean_loss

    def epoch(carry: Any, key: PRNGKey) -> Any:
        # A random permutation that compiles in half the time of `jax.random.permutation`.
        order = jnp.argsort(jax.random.bits(key, (count,)))[: num_batches * batch_size]
        carry, losses = jax.lax.scan(minibatch, carry, order.reshape(num_batches, batch_size))
        return carry, losses.mean(0)

    carry = params, jax.vmap(optimiser.init)(params)
    (params, _), curve = jax.lax.scan(epoch, carry, jax.random.split(key, num_epochs))
    return params, curve


def tangent_gumbel_loss(values: Array, targets: Array, beta: Array, count: int) -> Array:
    """beta * `gumbel_loss`, continued by its tangent above the z at which exp(z) is STEEPEST * count.

    At an optimum over `count` samples the mean of exp(z) is 1, because the output's bias has gradient 0. So
    no exp(z) exceeds `count`, and the minimiser is that of Eq. 7. There is no other minimiser where the
    continuation is reached, because one sample there pulls harder than all others together. The loss is
    convex, and finite in float32 at any z.

    Args:
        values, targets: f32[B], in the units of beta.
        count: N, of all samples that are fitted.
    """
    steepest = STEEPEST * count
    edge = targets - beta * jnp.log(steepest)
    inner = beta * gumbel_loss(jnp.maximum(values, edge), targets, beta=beta)
    return inner + (steepest - 1.0) * jnp.maximum(edge - values, 0.0)
