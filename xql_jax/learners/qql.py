"""Quantile Q-learning, QQL (Gao et al. 2026, TMLR): XQL with a beta estimated for each state.

If Q(s, a) over the data's actions is V minus a Gumbel variable of scale beta, then V is its quantile 1 - 1/e
and V + w * beta its quantile 1 - exp(-exp(w)), for any beta. Two pinball regressions therefore give V and
beta(s).

Source: arXiv 2511.11973; w = 0.5772, one setting for all tasks. Code: yunqianevergarden/QQL, qql.py, with a
least scale of 0.1 for all tasks (`beta` of config.yaml).
Differs: the paper's second part, pinball losses on imagined actions ("value regularisation"), is left out.
The authors normalise observations, leave locomotion's rewards as they are, and have no layer norm in V; here
it is the other way round in all three, so in locomotion the least scale of 0.1 has another meaning. They read
V(s') and the advantages before V's step, the gap in Q's target and beta(s) after it; here all are read after
it. Their config.yaml has 0.561 for the upper quantile, but its formula gives 0.832, as here and in qql.py.
Where the two networks cross, beta(s) is 0 here; the paper has |V_upper - V| / w in the scale of advantages,
and the negative difference in Q's target.
"""

import functools
import math

import jax
import jax.numpy as jnp

from xql_jax.learners import parts
from xql_jax.learners.method import Method
from xql_jax.learners.xql import InSample
from xql_jax.losses.regression import pinball_loss, td_target
from xql_jax.settings import POSITIVE, traced
from xql_jax.types import AnyBatch, Array, Metrics, Numeric, PRNGKey

W = 0.5772156649  # Euler's constant, the mean of a Gumbel variable of scale 1
LOWER = 1.0 - math.exp(-1.0)  # 0.632
UPPER = 1.0 - math.exp(-math.exp(W))  # 0.832


class QuantileState(parts.NetworkState, kw_only=True):
    """The network V, which is the lower quantile, and the network of the upper quantile."""

    upper: parts.NetworkState


class Quantiles(parts.ValueFit):
    """Fits V to the quantile 0.632 of Q and a second network to 0.832; their distance is w * beta(s).

    Q learns from r - w * beta(s) + discount * V_upper(s'). V_upper is V + w * beta unless the networks cross,
    so this lowers Q by w * beta(s) in every state and changes no advantage.
    """

    least_scale: Numeric = traced(
        0.1, POSITIVE, "Constant, in reward units, added to beta(s) in the scale of advantages."
    )

    def init(self, key: PRNGKey, observations: Array) -> QuantileState:
        key_lower, key_upper = jax.random.split(key)
        lower, upper = super().init(key_lower, observations), super().init(key_upper, observations)
        return QuantileState.create(lower.network, lower.params, upper=upper)

    def fit(
        self, value: QuantileState, observations: Array, targets: Array, loss: parts.Loss | None = None
    ) -> tuple[QuantileState, Metrics]:
        lower_loss = functools.partial(pinball_loss, quantile=LOWER)
        upper_loss = functools.partial(pinball_loss, quantile=UPPER)
        upper, _ = super().fit(value.upper, observations, targets, upper_loss)
        lower, info = super().fit(value, observations, targets, lower_loss)
        return lower.replace(upper=upper), info

    def v_and_q_targets(
        self, value: QuantileState, batch: AnyBatch, discount: Numeric
    ) -> tuple[Array, Array, Numeric]:
        """The advantage is the mean of those over V and the upper quantile; the paper weights by both."""
        both = jnp.concatenate([batch.observations, batch.next_observations])
        v, _ = jnp.split(value(both), 2)
        upper, next_upper = jnp.split(value.upper(both), 2)
        beta = jnp.maximum(upper - v, 0.0) / W
        targets = td_target(batch.rewards - W * beta, batch.masks, next_upper, discount=discount)
        return (v + upper) / 2.0, targets, self.least_scale + beta


# Weights of the policy's loss: exp((A + A_upper) / (least_scale + beta(s))).
METHODS = {"qql": Method(InSample, {"awr_temperature": 2.0, "layer_norm": True}, value=Quantiles)}
