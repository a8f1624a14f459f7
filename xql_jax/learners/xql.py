"""Extreme Q-learning (Garg et al. 2023)."""

from collections.abc import Callable

import flax.struct

from xql_jax.learners.in_sample import InSample
from xql_jax.learners.train_state import static
from xql_jax.losses.gumbel import ClipRule, clip_both, gumbel_rescaled_loss
from xql_jax.types import Array, Numeric


@flax.struct.dataclass
class XQL(InSample):
    """V is fitted to beta * log E[exp(Q / beta)] over the data's actions by Gumbel regression, Eq. 11."""

    beta: Numeric = 2.0  # Gumbel scale, reward units
    clip: Numeric = 7.0  # of z = (Q - V) / beta; "Grad Clip" in Table 4
    loss: Callable[..., Array] = static(gumbel_rescaled_loss)
    clip_rule: ClipRule = static(clip_both)

    def value_loss(self, values: Array, targets: Array) -> Array:
        return self.loss(values, targets, beta=self.beta, clip=self.clip, clip_rule=self.clip_rule)
