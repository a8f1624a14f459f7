"""Implicit Q-learning (Kostrikov et al. 2021): XQL with another loss of V.

Hyperparameters: Kostrikov et al. 2021, Appendix B, as in ikostrikov/implicit_q_learning, configs/*.py.
Differs: that code adds up the squared errors of the two Q; here they are averaged.
"""

from xql_jax.learners import parts
from xql_jax.learners.method import Method
from xql_jax.learners.xql import InSample
from xql_jax.losses.regression import expectile_loss
from xql_jax.settings import OPEN_UNIT_INTERVAL, traced
from xql_jax.types import Array, Numeric


class Expectile(parts.ValueFit):
    """Fits V to an expectile of Q (IQL; Kostrikov et al. 2021, Eq. 5)."""

    expectile: Numeric = traced(
        0.7, OPEN_UNIT_INTERVAL, "Expectile of Q that V is fitted to: 0.5: the mean, near 1: the maximum."
    )

    def loss_of(self, values: Array, targets: Array) -> Array:
        return expectile_loss(values, targets, expectile=self.expectile)


METHODS = {"iql": Method(InSample, value=Expectile)}
