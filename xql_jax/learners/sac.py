"""SAC (Haarnoja et al. 2018), with a value network (the baseline of Garg et al. 2023) or without."""

import functools

import flax.struct
import jax

from xql_jax.learners import fields
from xql_jax.learners.maximum_entropy import TABLE_5, SoftActorCritic, sampled_q
from xql_jax.learners.parts import LearnerState, ValueFit, min_q
from xql_jax.losses.regression import td_target
from xql_jax.networks.policies import sac_init
from xql_jax.types import Array, Batch, Metrics, PRNGKey


@flax.struct.dataclass
class SAC(SoftActorCritic):
    """Fits V by least squares to min Q - entropy_coef * log pi, the soft value of the policy.

    Without V, the usual form of SAC, Q's targets use that soft value directly, at one sampled action in s'
    and with target networks of the critics.

    Source: Haarnoja et al. 2018; with V: the baseline of Garg et al. 2023, Appendix D.6; order, losses and
    the target network as in the authors' code.
    Differs: by default that code updates the actor at every second update, Table 5 at every one.
    """

    value: ValueFit = fields.part(functools.partial(ValueFit, value_init=sac_init))
    uses_value_network: bool = fields.static(
        True, fields.EITHER, "Learn Q's targets with a network for V; if false, with the policy's actions."
    )

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> LearnerState:
        value = self.value if self.uses_value_network else None
        return self.first_state(key, observations, actions, value)

    def update(self, state: LearnerState, batch: Batch, key: PRNGKey) -> tuple[LearnerState, Metrics]:
        """Updates Q; then V with the new Q, and the target; then pi with the new Q, and its coefficient."""
        key_next, key_actions, _ = jax.random.split(key, 3)
        step, value = state.step + 1, state.value
        value_info: Metrics = {}
        if self.uses_value_network:
            next_v = value.at(value.target, batch.next_observations)
        else:
            q, cost = sampled_q(
                state.policy, state.critic, state.critic.target, batch.next_observations, key_next
            )
            next_v = q - cost
        targets = td_target(batch.rewards, batch.masks, next_v, discount=self.discount)
        critic, critic_info = self.critic.fit(state.critic, batch, targets)

        # V and pi use the same actions, sampled before pi's step. If both are updated every time, the
        # compiler notices and computes these actions and their Q only once.
        if self.uses_value_network:
            q, cost = sampled_q(state.policy, critic, critic.params, batch.observations, key_actions)
            value, value_info = self.value.fit(value, batch.observations, q - cost)
            value = self.follow(value, step)
        else:
            critic = self.follow(critic, step)
        q_of = functools.partial(min_q, critic, critic.params)
        policy, info = self.improve(state.policy, step, q_of, batch.observations, key_actions)
        return LearnerState(step, policy, value, critic), {**critic_info, **value_info, **info}


METHODS = {"sac": fields.Method(SAC, TABLE_5)}
