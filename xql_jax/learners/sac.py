"""SAC (Haarnoja et al. 2018), with a value network (the baseline of Garg et al. 2023) or without."""

import functools

import flax.struct

from xql_jax.learners import fields
from xql_jax.learners.critics import Critic
from xql_jax.learners.maximum_entropy import MaximumEntropy
from xql_jax.learners.methods import Method
from xql_jax.learners.soft_actor_critic import DEFAULTS, SoftActorCritic
from xql_jax.learners.train_state import LearnerState, TrainState
from xql_jax.learners.value_fit import ValueFit
from xql_jax.networks.squashed_policies import sac_init
from xql_jax.types import Array, Metrics, PRNGKey


@flax.struct.dataclass
class SoftValues(SoftActorCritic):
    """Fits V by least squares to min Q - entropy_coef * log pi, the soft value of the policy.

    Without V, the usual form of SAC, Q's targets use that soft value directly, at one sampled action in s'
    and with target networks of the critics.

    Source: Haarnoja et al. 2018; with V: the baseline of Garg et al. 2023, Appendix D.6.
    """

    uses_value_network: bool = fields.static(
        True,
        fields.EITHER,
        "Learn Q's targets with a network for V. If false, they come from the policy's own actions.",
    )

    def value_targets(self, q: Array, log_probs: Array, entropy_coef: Array) -> Array:
        return q - entropy_coef * log_probs

    def init_value(self, key: PRNGKey, observations: Array) -> TrainState | None:
        return super().init_value(key, observations) if self.uses_value_network else None

    def next_values(self, state: LearnerState, observations: Array, key: PRNGKey) -> Array:
        if self.uses_value_network:
            return super().next_values(state, observations, key)
        return self.sampled_values(state, state.critic.target, observations, key)

    def update_value(
        self, state: LearnerState, observations: Array, key: PRNGKey
    ) -> tuple[LearnerState, Metrics]:
        if self.uses_value_network:
            return super().update_value(state, observations, key)
        return state.replace(critic=self.follow(state.critic, state.step)), {}


SAC = Method(
    SoftValues,
    DEFAULTS,
    value=functools.partial(ValueFit, value_init=sac_init),
    policy=MaximumEntropy,
    critic=functools.partial(Critic, critic_init=sac_init),
)
