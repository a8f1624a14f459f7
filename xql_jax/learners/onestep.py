"""Onestep RL (Brandfonbrener et al. 2021): Q of the behaviour policy, and one step of improvement on it.

Source: Brandfonbrener et al. 2021, "Offline RL Without Off-Policy Evaluation", Section 4: Q of the behaviour
by SARSA, a clone of the behaviour, and a policy by exponentially weighted imitation, exp(T * (Q - V)); V(s)
is Q averaged over actions of the clone. T is `awr_temperature`.
Hyperparameters: davidbrandfonbrener/onestep-rl, config/q/sarsa.yaml lines 12 to 22, config/beta/bc.yaml lines
14 to 22, config/pi/exp_weight.yaml lines 13 to 24, config/baseline/value_sample.yaml line 7; the weight's
cap: policy_learner.py line 180; standard deviations that begin at 0.08 and stay below 1: policy_network.py
lines 18 and 27. The T in these files, 0.01, is a placeholder: the authors tune it per dataset, from 0.1 to 30
(figures/figures.ipynb). The default here, 3, is in between. Kitchen, which they did not try: the best of 0.1,
0.3 and 1 (chosen here, on seed 100).
Differs: their code trains the clone (500,000 updates), then Q (2,000,000), then the policy (100,000, from the
clone's network, so that it is a Gaussian although exp_weight.yaml names a truncated one); here every update
trains all three. Neither the clone nor Q depends on what is trained after it, so the fixed points are the
same; only the way there differs. Their target of Q moves by 0.005 every second update, here by half of that
in each update.
"""

import functools
from typing import ClassVar

import jax
import jax.numpy as jnp

from xql_jax.learners import parts
from xql_jax.learners.actor_critic import ActorCritic
from xql_jax.learners.awac import mean_q
from xql_jax.learners.method import Method
from xql_jax.learners.policy_objectives import NarrowGaussian
from xql_jax.settings import AT_LEAST_ONE, part, static
from xql_jax.types import Array, Metrics, PRNGKey, SarsaBatch


class OneStepState(parts.LearnerState, kw_only=True):
    """The states of the learner's networks and of a clone of the behaviour policy."""

    behavior: parts.NetworkState


class OneStep(ActorCritic):
    """Q of the behaviour policy by SARSA; the policy by weights of advantages over the clone's value."""

    policy: parts.PolicyObjective = part(functools.partial(parts.ForwardKL, head=NarrowGaussian()))
    value_actions: int = static(
        1, AT_LEAST_ONE, "Actions of the clone over which Q is averaged to give V(s)."
    )

    batch_type: ClassVar[type] = SarsaBatch

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> OneStepState:
        key_others, key_behavior = jax.random.split(key)
        others = super().init(key_others, observations, actions)
        behavior = self.policy.init(key_behavior, observations, actions)
        return OneStepState(others.step, others.policy, critic=others.critic, behavior=behavior)

    def update(self, state: OneStepState, batch: SarsaBatch, key: PRNGKey) -> tuple[OneStepState, Metrics]:
        """Updates the clone, then Q, then pi with the new Q, then Q's target."""
        key_others, key_behavior = jax.random.split(key)
        _, key_value, key_policy = jax.random.split(key_others, 3)
        behavior, cloning = self.policy.clone(state.behavior, batch, key_behavior)

        next_q = state.critic.at_target().min_q(batch.next_observations, batch.next_actions)
        critic, critic_info = self.fit_critic(state, batch, next_q)

        # Like the authors' code, this does not clip the clone's samples.
        v = mean_q(behavior, critic.min_q, batch.observations, key_value, self.value_actions, limit=jnp.inf)
        q = critic.min_q(batch.observations, batch.actions)
        estimates = parts.Estimates(q, v, q_of=critic.min_q)
        policy, policy_info = self.policy.update(state.policy, estimates, batch, key_policy)
        state = OneStepState(state.step + 1, policy, critic=critic.polyak_update(self.tau), behavior=behavior)
        return state, {**critic_info, **policy_info, "behavior/log_prob": cloning["actor/log_prob"]}


METHODS = {
    "onestep": Method(
        OneStep,
        {
            **dict.fromkeys(("actor_lr", "critic_lr"), 1e-4),
            **dict.fromkeys(("actor_hidden_dims", "critic_hidden_dims"), (1024, 1024)),
            "decay_actor_lr": False,
            "num_critics": 1,
            "tau": 0.0025,
            "value_actions": 10,
        },
        settings={"batch_size": 512, "scale_rewards": False},
    )
}
