"""Divergences between policies, estimated from sampled actions; and weights that hold a divergence."""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import numpy as np

from xql_jax.types import Array, Numeric


def gaussian_kernel(differences: Array, *, sigma: Numeric) -> Array:
    """exp(-|d|_2^2 / (2 * sigma)) of differences f32[..., A]: sigma is the variance, as in BEAR's code."""
    return jnp.exp(-(differences**2).sum(-1) / (2.0 * sigma))


def laplacian_kernel(differences: Array, *, sigma: Numeric) -> Array:
    """exp(-|d|_1 / (2 * sigma)) of differences f32[..., A]."""
    return jnp.exp(-jnp.abs(differences).sum(-1) / (2.0 * sigma))


def mmd_squared(
    first: Array, second: Array, first_weights: Array, *, kernel: Callable[..., Array], sigma: Numeric
) -> Array:
    """Squared maximum mean discrepancy of two sets of actions in each state, f32[B], within [0, 2].

    It is mean k(x, x') + mean k(y, y') - 2 * mean k(x, y). The means are over all pairs, including each
    action with itself. Therefore it is 0 for equal sets and never negative, but biased upwards: a set of n
    actions adds (1 - E k(x, x')) / n, even if both sets come from the same distribution.

    Source: Gretton et al. 2012, Eq. 5 (the biased estimate); in Kumar et al. 2019 (BEAR) and Wu et al. 2019.
    Args:
        first, second: f32[M, B, A] and f32[N, B, A].
        first_weights: f32[M, B] with sum 1 over M, how much each first action counts.
    """
    chex.assert_rank([first, second], 3)
    second_weights = jnp.full(second.shape[:2], 1.0 / len(second))

    def mean(x: Array, y: Array, x_weights: Array, y_weights: Array) -> Array:
        similarities = kernel(x[:, None] - y[None], sigma=sigma)  # f32[M, N, B]
        return (x_weights[:, None] * y_weights[None] * similarities).sum((0, 1))

    within = mean(first, first, first_weights, first_weights)
    within += mean(second, second, second_weights, second_weights)
    return within - 2.0 * mean(first, second, first_weights, second_weights)


def sampled_kl(log_probs: Array, other_log_probs: Array, weights: Array) -> Array:
    """Estimate of KL(p || q) in each state, f32[B], nats, from actions drawn from p; it may be negative.

    All are f32[K, B]: log densities of the actions in p and in q, and weights with sum 1 over K.

    Source: Wu et al. 2019 (BRAC), the primal form of the KL divergence.
    """
    chex.assert_equal_shape([log_probs, other_log_probs, weights])
    return (weights * (log_probs - other_log_probs)).sum(0)


def batch_divergence(log_weights: Array) -> Array:
    """KL divergence of a weighted minibatch from the minibatch itself, f32[...], nats.

    With p = softmax(log_weights) it is log B + sum of p * log p: 0 for equal weights, at most log B. A
    constant that is added to all log weights does not change it. With log weights (Q - V) / beta it estimates
    E_s KL(pi || mu) of pi = mu * exp((Q - V) / beta), if V is right; an error of V that differs between
    states adds to it.

    Args:
        log_weights: f32[..., B].
    """
    log_p = jax.nn.log_softmax(log_weights)
    divergence: Array = (jnp.exp(log_p) * log_p).sum(-1) + np.log(log_weights.shape[-1])
    return divergence


def weights_divergence(weights: Array) -> Array:
    """`batch_divergence` of weights f32[..., B], themselves, which are not negative; 0 if all are 0."""
    total = weights.sum(-1, keepdims=True)
    p = weights / jnp.where(total > 0.0, total, 1.0)
    divergence: Array = jax.scipy.special.xlogy(p, p).sum(-1) + np.log(weights.shape[-1])
    return jnp.where(total[..., 0] > 0.0, divergence, 0.0)


# Inverse temperatures that `held_weights` tries, in units of the advantages' deviation: a third apart.
TRIED = np.logspace(-3.0, 4.0, 57, dtype=np.float32)
LEAST_NATS = 1e-12


def held_weights(advantages: Array, *, nats: Numeric, most: Numeric) -> tuple[Array, Array]:
    """Weights of a batch's actions at a chosen divergence from the batch, and their inverse temperature.

    The weights are min(exp(T * A) / mean exp(T * A), most). T is found in each batch, so the divergence is
    held whatever the unit of the advantages, and however a method fits V. It is the temperature of a trust
    region on the batch's states together: states in which actions matter more may go further.

    Source: the weights are from Garg et al. 2023, Eq. 12; T is the multiplier of a bound on the
    divergence, as in Peters et al. 2010 (REPS), whose dual is solved here by a grid and interpolation.
    Errors: the divergence is within 3% of `nats` for 256 rows. For 1,024 with heavy tails it may be a third
    too large, where `most` binds; `actor/divergence` is the one that the weights have.

    Args:
        advantages: f32[B], any unit.
        nats: the divergence, below log B.
        most: largest weight, in units of the mean of exp(T * A).
    Returns:
        f32[B], constant for gradients; they are 1 if all advantages are equal. And T, f32[], in 1 / the
        advantages' unit, 0 if all are equal.
    """
    centred = jax.lax.stop_gradient(advantages - advantages.mean())
    size = jnp.abs(centred).max()  # divided by first, so that no square underflows or overflows
    size = jnp.where(size > 0.0, size, 1.0)
    spread = (centred / size).std()
    unit = centred / size / jnp.where(spread > 0.0, spread, 1.0)

    def weights_at(temperatures: Array) -> Array:  # f32[..., 1] to f32[..., B]
        weights = jnp.exp(temperatures * (unit - unit.max()))
        return jnp.minimum(weights / weights.mean(-1, keepdims=True), most)

    tried = jnp.log(jnp.maximum(weights_divergence(weights_at(jnp.asarray(TRIED)[:, None])), LEAST_NATS))
    wanted = jnp.log(jnp.maximum(nats, LEAST_NATS))
    temperature = jnp.exp(jnp.interp(wanted, tried, np.log(TRIED)))
    inverse = jnp.where(spread > 0.0, temperature / jnp.where(spread > 0.0, spread, 1.0) / size, 0.0)
    return weights_at(temperature[None]), inverse
