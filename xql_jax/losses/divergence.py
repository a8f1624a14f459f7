"""Divergences between policies, estimated from sampled actions."""

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
