"""Implicit Q-learning (Kostrikov et al. 2021)."""

import flax.struct

from xql_jax.learners.in_sample import InSample
from xql_jax.losses.value import expectile_loss
from xql_jax.types import Array, Numeric


@flax.struct.dataclass
class IQL(InSample):
    """V is fitted to an expectile of Q over the data's actions, Eq. 5 of that paper."""

    expectile: Numeric = 0.7  # in (0, 1)

    def value_loss(self, values: Array, targets: Array) -> Array:
        return expectile_loss(values, targets, expectile=self.expectile)
