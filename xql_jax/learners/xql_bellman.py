"""XQL without a beta to tune: beta is the scale of the Bellman errors, if they have a Gumbel distribution.

This is the project's own answer to a question that Garg et al. 2023 leave open (Section 6): their method
depends strongly on beta, and the right beta depends on the rewards' scale, the horizon and the data. They
motivate Gumbel regression by Bellman errors that have a Gumbel distribution (Section 3.1). Here beta is set
to the scale of these errors. This is a heuristic: in the paper beta is the scale of noise over actions, and
no result there ties it to the Bellman errors, which also hold the noise of transitions.
"""

import functools
import math
from collections.abc import Sequence

import jax.numpy as jnp

from xql_jax.learners import parts
from xql_jax.learners.method import Method
from xql_jax.learners.parts import LearnerState
from xql_jax.learners.xql import InSample
from xql_jax.losses.gumbel import gumbel_rescaled_loss, saturate
from xql_jax.losses.regression import mse_loss
from xql_jax.settings import ABOVE_ZERO, POSITIVE, part, traced
from xql_jax.types import AnyBatch, Array, Metrics, Numeric, PRNGKey

CLIP = 7.0  # of z; beyond it the loss continues as its tangent
GUMBEL_SCALE = math.sqrt(6.0) / math.pi  # of a Gumbel distribution, in its standard deviations: 0.78


class ScaledState(parts.NetworkState, kw_only=True):
    """The network V, and the beta to which it is fitted."""

    log_beta: Array  # f32[], of reward units


class BellmanScale(parts.ValueFit):
    """Fits V to beta * log E[exp(Q / beta)], with beta following the scale of the Bellman errors.

    beta moves towards `errors_share` times the errors' Gumbel scale, which is sqrt(6) / pi of their root mean
    square, for errors around 0. If beta is so small that V, and so Q, is raised by chance, the errors grow,
    and beta grows with them. On data without errors V goes to the maximum.
    """

    errors_share: Numeric = traced(
        1.0, POSITIVE, "Beta as a multiple of the Gumbel scale of the Bellman errors."
    )
    beta_rate: Numeric = traced(0.003, ABOVE_ZERO, "Polyak rate of log beta, per update.")
    initial_beta: Numeric = traced(
        1.0, POSITIVE, "Beta before the first update, reward units.", of_start=True
    )
    least_beta: Numeric = traced(0.001, POSITIVE, "Beta is never below this, in reward units.")

    def init(self, key: PRNGKey, observations: Array) -> ScaledState:
        log_beta = jnp.log(jnp.asarray(self.initial_beta, jnp.float32))
        value = super().init(key, observations)
        return ScaledState.create(value.network, value.params, log_beta=log_beta)

    def fit(
        self, value: ScaledState, observations: Array, targets: Array, loss: parts.Loss | None = None
    ) -> tuple[ScaledState, Metrics]:
        beta = jnp.maximum(jnp.exp(value.log_beta), self.least_beta)
        loss = functools.partial(gumbel_rescaled_loss, beta=beta, clip=CLIP, clip_rule=saturate)
        value, info = super().fit(value, observations, targets, loss)
        return value, {**info, "value/beta": beta}

    def follow_errors(self, value: ScaledState, qs: Sequence[Array], targets: Array) -> ScaledState:
        """The state with beta moved towards the scale of the errors of each critic's Q(s, a), f32[B]."""
        root_mean_square = jnp.sqrt(sum((mse_loss(q, targets) / len(qs)).mean() for q in qs))
        scale = jnp.maximum(self.errors_share * GUMBEL_SCALE * root_mean_square, self.least_beta)
        log_beta = value.log_beta + self.beta_rate * (jnp.log(scale) - value.log_beta)
        return value.replace(log_beta=log_beta)


class XQLBellman(InSample):
    """Algorithm 1, and after it one step of beta towards the scale of the errors that Q learned from."""

    value: BellmanScale = part(BellmanScale)

    def update(self, state: LearnerState, batch: AnyBatch, key: PRNGKey) -> tuple[LearnerState, Metrics]:
        after, info = super().update(state, batch, key)
        _, targets, _ = self.value.v_and_q_targets(after.value, batch, self.discount)
        qs = state.critic.each(state.critic.params, batch.observations, batch.actions)
        return after.replace(value=self.value.follow_errors(after.value, qs, targets)), info


METHODS = {"xql_bellman": Method(XQLBellman, {"layer_norm": True})}
