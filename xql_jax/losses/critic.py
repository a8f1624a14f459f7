"""The Q function's target and its regression losses."""

import chex
import jax
import optax

from xql_jax.types import Array, Numeric


def check_pairs(*arrays: Array) -> None:
    """Raises AssertionError, while tracing, unless all arrays are f32[B]: (B,) would broadcast to (B, 1)."""
    chex.assert_rank(arrays, 1)
    chex.assert_equal_shape(arrays)


def td_target(rewards: Array, masks: Array, next_values: Array, *, discount: Numeric) -> Array:
    """One-step target r + discount * mask * V(s') of each example, f32[B], reward units.

    A constant for gradients. `masks` is 1 - terminal: a time-out bootstraps. Garg et al. 2023, Eq. 14.
    """
    check_pairs(rewards, masks, next_values)
    return jax.lax.stop_gradient(rewards + discount * masks * next_values)


def mse_loss(values: Array, targets: Array) -> Array:
    """Squared error of each example, f32[B], reward units squared (Garg et al. 2023, Eq. 14)."""
    check_pairs(values, targets)
    return (values - jax.lax.stop_gradient(targets)) ** 2


def huber_loss(values: Array, targets: Array, *, delta: Numeric = 20.0) -> Array:
    """Huber loss of each example, f32[B], half the squared error near 0: the authors' code, not Eq. 14."""
    check_pairs(values, targets)
    return optax.huber_loss(values, jax.lax.stop_gradient(targets), delta=delta)


def conservative_gap(values: Array, sampled_values: Array, log_densities: Array) -> Array:
    """CQL(H)'s penalty of each example, f32[B]: log(sum_k exp(Q(s, a_k)) / density(a_k)) - Q(s, a).

    With K sampled actions the first term estimates log K + log of the integral of exp(Q(s, .)), for any
    densities that the actions are drawn from.

    Source: Kumar et al. 2020, Eq. 4; the estimate: Appendix F.
    Differs: as in the authors' code the K terms are summed, while the paper takes their mean. The sum adds
    log K. That changes no gradient, but the authors chose their thresholds with it.
    Args:
        values: f32[B], Q of the data's actions, reward units.
        sampled_values: f32[K, B], Q of the sampled actions.
        log_densities: f32[K, B], nats, of each sampled action in the distribution that it was drawn from.
    """
    chex.assert_equal_shape([sampled_values, log_densities])
    check_pairs(values, sampled_values[0])
    return jax.nn.logsumexp(sampled_values - jax.lax.stop_gradient(log_densities), axis=0) - values
