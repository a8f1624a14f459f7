"""XQL without a beta to tune: it is kept where the exponential weights have a given effective sample size.

This project's own answer to what Garg et al. 2023 leave open (Section 6): their method depends strongly on
beta, and the right one on the reward's scale, the horizon and the data.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from xql_jax.learners import fields
from xql_jax.learners.critics import TemporalDifference
from xql_jax.learners.in_sample import InSample
from xql_jax.learners.methods import Method
from xql_jax.learners.policy_objectives import ForwardKL
from xql_jax.learners.train_state import TrainState
from xql_jax.learners.value_fit import ValueFit
from xql_jax.losses.gumbel import gumbel_rescaled_loss, saturate
from xql_jax.types import Array, Metrics, Numeric, PRNGKey

CLIP = 7.0  # of z, from where on the loss is continued by its tangent


def effective_share(values: Array, targets: Array, *, beta: Numeric) -> Array:
    """The effective sample size of weights exp((targets - values) / beta), as a share of the batch, f32[].

    (sum w)^2 / (B sum w^2), from 1 / B to 1 (Kish 1965). It grows with beta: 1 where all weights are equal.
    Where V is the soft maximum, E[w | s] = 1 in each state, and this is 1 / E[w^2]: 1 / (1 + chi^2) of the
    policy mu * exp((Q - V) / beta) from mu. A normal Q of deviation sigma gives exp(-(sigma / beta)^2).
    """
    logits = (targets - values) / beta
    log_size = 2.0 * jax.nn.logsumexp(logits) - jax.nn.logsumexp(2.0 * logits)
    return jnp.exp(log_size) / len(logits)


class ScaledState(TrainState):
    """V and the beta that goes with it."""

    log_beta: Any = None  # f32[], of reward units


@flax.struct.dataclass
class EffectiveSample(ValueFit):
    """V goes to beta * log E[exp(Q / beta)], beta to where the weights have the wanted effective size.

    Each update moves log beta by `beta_rate` times the lacking log size, so that beta follows the spread of Q
    as that grows, in reward units of any scale. The policy's temperature is the suite's, as for XQL: with
    1 / beta in its place a small set of demonstrations is cloned by the errors of V.
    """

    target_share: Numeric = fields.traced(0.1, fields.OPEN_UNIT_INTERVAL)  # of the batch
    beta_rate: Numeric = fields.traced(0.003, fields.POSITIVE)  # per update
    initial_beta: Numeric = fields.traced(1.0, fields.POSITIVE)  # reward units
    least_beta: Numeric = fields.traced(1e-3, fields.POSITIVE)  # reward units, for data without any spread

    def init(self, key: PRNGKey, observations: Array, with_target: bool = False) -> ScaledState:
        value = super().init(key, observations, with_target)
        log_beta = jnp.log(jnp.asarray(self.initial_beta, jnp.float32))
        return ScaledState(
            value.network, value.params, value.optimizer_state, value.target, log_beta=log_beta
        )

    def fit(
        self,
        value: ScaledState,
        observations: Array,
        targets: Array,
        max_grad_norm: Numeric,
        loss_of: Any = None,
    ) -> tuple[ScaledState, Metrics]:
        beta = jnp.exp(value.log_beta)

        def loss(values: Array, targets: Array) -> Array:
            return gumbel_rescaled_loss(values, targets, beta=beta, clip=CLIP, clip_rule=saturate)

        value, info = super().fit(value, observations, targets, max_grad_norm, loss)
        share = effective_share(value(observations), targets, beta=beta)
        lacking = jnp.log(self.target_share) - jnp.log(share)
        log_beta = jnp.maximum(value.log_beta + self.beta_rate * lacking, jnp.log(self.least_beta))
        return value.replace(log_beta=log_beta), {**info, "value/beta": beta, "value/effective_share": share}


XQL_ESS = Method(
    InSample,
    {"layer_norm": True},
    by_suite={"pointmaze": {"awr_temperature": 10.0}},  # this project's, of seeds 100 and 101
    value=EffectiveSample,
    policy=ForwardKL,
    critic=TemporalDifference,
)
METHODS = {"xql_ess": XQL_ESS}
