"""Extreme Q-learning (Garg et al. 2023): fits V to the soft maximum of Q by Gumbel regression.

Hyperparameters: the paper's Table 4, by suite in configs/, by dataset with --tuned.
Differs: the authors' code (Div99/XQL, offline) clips z from above only, and fits Q by a Huber loss. Here z is
clipped on both sides and Q is fitted by least squares, as in the paper; `clip_rule=above` and
`critic_loss=huber` are theirs. docs/differences.md has the whole list.
"""

from collections.abc import Callable

import flax.struct

from xql_jax.learners import fields
from xql_jax.learners.in_sample import InSample, TemporalDifference
from xql_jax.learners.parts import ForwardKL, ValueFit
from xql_jax.losses import gumbel
from xql_jax.types import Array, Numeric


@flax.struct.dataclass
class GumbelRegression(fields.Part):
    """Gumbel regression loss, minimised by L^beta of its targets, with its scale and clip."""

    beta: Numeric = fields.traced(
        2.0,
        fields.POSITIVE,
        "Scale of the Gumbel regression, in reward units. A small one takes V near the maximum of Q.",
    )
    clip: Numeric = fields.traced(
        7.0,
        fields.POSITIVE_OR_OFF,
        "Bound on the exponent (Q - V) / beta; inf: none. Table 4 calls it Grad Clip.",
    )
    loss: Callable[..., Array] = fields.choice(
        "Form of the Gumbel loss. rescaled: divided by exp of the batch's largest exponent (Appendix D.3); "
        "plain: as in Eq. 11; log: the logarithm of 1 + its mean.",
        rescaled=gumbel.gumbel_rescaled_loss,
        plain=gumbel.gumbel_loss,
        log=gumbel.gumbel_log_loss,
    )
    clip_rule: gumbel.ClipRule = fields.choice(
        "Effect of the clip. both: no gradient beyond +-clip; above: no gradient beyond +clip; saturate: "
        "beyond +clip the loss continues as its tangent.",
        both=gumbel.clip_both,
        above=gumbel.clip_above,
        saturate=gumbel.saturate,
    )

    def __call__(self, values: Array, targets: Array, scale: Numeric = 1.0) -> Array:
        """The loss of values f32[B] against targets f32[B] at scale * beta; see `losses.gumbel`."""
        return self.loss(values, targets, beta=scale * self.beta, clip=self.clip, clip_rule=self.clip_rule)


@flax.struct.dataclass
class Gumbel(ValueFit):
    """Fits V to beta * log E[exp(Q / beta)], the soft maximum of Q (Garg et al. 2023, Eq. 11)."""

    regression: GumbelRegression = fields.part(GumbelRegression)

    def loss_of(self, values: Array, targets: Array) -> Array:
        return self.regression(values, targets)


XQL = fields.Method(
    InSample,
    value=Gumbel,  # Eq. 11: V to beta * log E[exp(Q / beta)] over the data's actions, by Gumbel regression
    policy=ForwardKL,  # Eq. 12: pi by log-likelihood, weighted by exp(awr_temperature * (Q - V))
    critic=TemporalDifference,  # Eq. 14: Q to r + discount * V(s'), by least squares
)
METHODS = {"xql": XQL}
