"""A scale that is found by a divergence: beta as a number of nats.

Weights exp(A / scale), with A = Q - V, tilt the data's actions. How far the tilted data are from the data is
a divergence in nats, whose size means the same for all rewards; a scale is in reward units, and no value fits
two tasks. The scale that holds the divergence is the multiplier of a trust region.

Source: Peters et al. 2010 (REPS) and Abdolmaleki et al. 2018 (MPO) find it by the dual's gradient, whose
V is the one that XQL fits: `theory/trust_region.py`.
Differs: the step is Newton's, of a running mean. So one rate serves all scales and divergences.
"""

from typing import Self

import flax.struct
import jax.numpy as jnp

from xql_jax.losses.divergence import batch_divergence
from xql_jax.numerics.pytrees import Distinct
from xql_jax.types import Array, Numeric

AVERAGED = 0.02  # share of the new divergence in its running mean, per update
RATE = 0.003  # share of Newton's step that an update takes: some 300 updates for a scale to follow
LEAST = 1e-3  # of the wanted divergence; below it a step is as long as here
FAR = 60.0  # bound on the logarithm of a scale, so that it stays a float32


class HeldScale(Distinct, flax.struct.PyTreeNode):
    """A scale in reward units that follows a divergence, and the divergence's running mean."""

    log_scale: Array  # f32[]
    divergence: Array  # f32[], nats

    @classmethod
    def create(cls, scale: Numeric, nats: Numeric) -> Self:
        """It begins at this scale, as if that were right."""
        return cls(_log(scale), jnp.asarray(nats, jnp.float32))

    def scale(self, nats: Numeric, start: Numeric) -> Array:
        """The scale for advantages: the one that was found or, if `nats` is 0, `start` itself."""
        return jnp.where(nats > 0.0, jnp.exp(self.log_scale), start)

    def follow(self, log_weights: Array, nats: Numeric, start: Numeric) -> tuple[Self, Array]:
        """The state after a minibatch, and its divergence, f32[].

        Were advantages normally distributed, the divergence would fall as scale^-2, and half the logarithm of
        its ratio to `nats` would be the step to the right scale. If `nats` is 0, the scale is `start`.

        Args:
            log_weights: f32[..., B], A / scale.
        """
        divergence = batch_divergence(log_weights).mean()
        mean = self.divergence + AVERAGED * (divergence - self.divergence)
        step = 0.5 * jnp.log(jnp.maximum(mean / jnp.maximum(nats, 1e-9), LEAST))
        moved = jnp.clip(self.log_scale + RATE * step, -FAR, FAR)
        log_scale = jnp.where(nats > 0.0, moved, _log(start))
        return self.replace(log_scale=log_scale, divergence=mean), divergence


def _log(scale: Numeric) -> Array:
    return jnp.clip(jnp.log(jnp.asarray(scale, jnp.float32)), -FAR, FAR)
