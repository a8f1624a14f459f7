"""The hyperparameters of Gumbel regression, for the learners that fit a value by it."""

from collections.abc import Callable

import flax.struct

from xql_jax.learners.train_state import static
from xql_jax.losses.gumbel import ClipRule, clip_both, gumbel_rescaled_loss
from xql_jax.types import Array, Numeric


@flax.struct.dataclass
class GumbelRegression:
    """Fills the hole `value_loss` of the class that it stands before: V goes to L^beta of its targets."""

    beta: Numeric = 2.0  # Gumbel scale, reward units
    clip: Numeric = 7.0  # of z = (Q - V) / beta; "Grad Clip" in Table 4
    loss: Callable[..., Array] = static(gumbel_rescaled_loss)
    clip_rule: ClipRule = static(clip_both)

    def value_loss(self, values: Array, targets: Array) -> Array:
        """Eq. 11."""
        return self.gumbel_loss(values, targets, self.beta)

    def gumbel_loss(self, values: Array, targets: Array, beta: Numeric) -> Array:
        """The chosen loss at a scale of its own, f32[B]; see `losses.gumbel`."""
        return self.loss(values, targets, beta=beta, clip=self.clip, clip_rule=self.clip_rule)
