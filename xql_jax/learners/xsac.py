"""X-SAC (Garg et al. 2023): extreme Q-learning for online RL."""

import functools

import flax.struct
import jax

from xql_jax.learners import fields
from xql_jax.learners.maximum_entropy import TABLE_5, SoftActorCritic, sampled_q
from xql_jax.learners.parts import LearnerState, ValueFit, min_q
from xql_jax.learners.value_fits.xql import Gumbel
from xql_jax.losses.regression import td_target
from xql_jax.networks.policies import sac_init
from xql_jax.types import Array, Batch, Metrics, PRNGKey


@flax.struct.dataclass
class XSAC(SoftActorCritic):
    """SAC with V fitted to beta * log E[exp(min Q / beta)] over the policy's actions by Gumbel regression.

    V is Eq. 11's; the log probabilities of the actions do not enter. Q is fitted to r + discount * V(s') with
    a target network V (Eq. 14).

    Source: Garg et al. 2023, Algorithm 1, Sec. 3.5 (Online RL), Appendix D.6; order, losses and the target
    network as in the authors' code.
    Differs: by default that code updates the actor at every second update, Table 5 at every one.
    """

    value: ValueFit = fields.part(functools.partial(Gumbel, value_init=sac_init))

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> LearnerState:
        return self.first_state(key, observations, actions, self.value)

    def update(self, state: LearnerState, batch: Batch, key: PRNGKey) -> tuple[LearnerState, Metrics]:
        """Updates Q; then V with the new Q, and the target; then pi with the new Q, and its coefficient."""
        _, key_actions, _ = jax.random.split(key, 3)
        step = state.step + 1
        next_v = state.value.at(state.value.target, batch.next_observations)
        targets = td_target(batch.rewards, batch.masks, next_v, discount=self.discount)
        critic, critic_info = self.critic.fit(state.critic, batch, targets)

        # V and pi use the same actions, as in SAC.
        q, _ = sampled_q(state.policy, critic, critic.params, batch.observations, key_actions)
        value, value_info = self.value.fit(state.value, batch.observations, q)
        q_of = functools.partial(min_q, critic, critic.params)
        policy, info = self.improve(state.policy, step, q_of, batch.observations, key_actions)
        state = LearnerState(step, policy, self.follow(value, step), critic)
        return state, {**critic_info, **value_info, **info}


METHODS = {"xsac": fields.Method(XSAC, {**TABLE_5, "clip": 8.0})}  # of z = (Q - V) / beta, Appendix D.6
