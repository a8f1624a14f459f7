"""FQL, flow Q-learning (Park et al. 2025): TD3-like Q, and a one-step policy kept near a flow of the data.

Source: Park et al. 2025, "Flow Q-Learning"; seohongpark/fql, agents/fql.py.
Hyperparameters: lines 252 to 267 of that file, with the widths of this project's suites but on OGBench's
tasks. There `flow_alpha` is the authors' per task, with Q in reward units (README.md, the complete list).
That list also has D4RL's AntMaze (10; large: 3) and Adroit (3,000 to 30,000, with `target_q=min`), for Q in
reward units (`normalize_q=false`); here Q is in units of its mean size on these, and `flow_alpha` is 1.
Differs: their critics' target follows the critics from before the step, here those after it. Their critics'
loss is the mean over both, here the sum, with the same steps of Adam; they have GELU and then layer norm,
here layer norm and then ReLU, as all critics here. But for these, 30 updates equal theirs to 1e-6.
"""

import functools
from collections.abc import Callable

import jax

from xql_jax.learners.actor_critic import ActorCritic
from xql_jax.learners.flow_policies import OneStepFlow
from xql_jax.learners.method import Method
from xql_jax.learners.parts import Critic, CriticState, Estimates, LearnerState
from xql_jax.settings import choice, part
from xql_jax.types import Array, Batch, Metrics, PRNGKey


class FQL(ActorCritic):
    """Q by temporal differences at the one-step policy's actions; that policy by `OneStepFlow`."""

    policy: OneStepFlow = part(OneStepFlow)
    critic: Critic = part(functools.partial(Critic, critic_layer_norm=True))
    target_q: Callable[..., Array] = choice(
        "What Q's targets take over the critics: mean or min.", mean=CriticState.mean_q, min=CriticState.min_q
    )

    def update(self, state: LearnerState, batch: Batch, key: PRNGKey) -> tuple[LearnerState, Metrics]:
        """Updates Q, then pi with the Q from before, then Q's target: the authors update both at once."""
        key_next, key_policy = jax.random.split(key)
        next_actions = self.policy.actor(state)(batch.next_observations).sample(key_next)
        next_q = self.target_q(state.critic.at_target(), batch.next_observations, next_actions)
        critic, critic_info = self.fit_critic(state, batch, next_q)

        estimates = Estimates(batch.rewards, batch.rewards, q_of=state.critic.mean_q)  # it uses q_of alone
        policy, policy_info = self.policy.update(state.policy, estimates, batch, key_policy)
        state = state.replace(step=state.step + 1, policy=policy, critic=critic.polyak_update(self.tau))
        return state, {**critic_info, **policy_info}


METHODS = {"fql": Method(FQL, settings={"scale_rewards": False})}
