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
in each update. They learn from D4RL's rewards in AntMaze, too, from which this one subtracts 1.
"""

import functools
from typing import Any, ClassVar

import flax.struct
import jax
import jax.numpy as jnp

from xql_jax.learners.awac import AdvantageWeighted
from xql_jax.learners.critics import Critic, min_q, next_actions_of
from xql_jax.learners.heads import NarrowGaussian
from xql_jax.learners.methods import Method, RunDefaults
from xql_jax.learners.policy_objectives import ForwardKL
from xql_jax.learners.train_state import LearnerState, TrainState
from xql_jax.types import Array, Batch, Metrics, PRNGKey, SarsaBatch, State


class OneStepState(LearnerState):
    """Learner state with a clone of the behaviour policy, a network like the policy's."""

    behavior: Any = None


@flax.struct.dataclass
class BehaviorEvaluation(AdvantageWeighted):
    """Updates the clone, then Q by SARSA, then pi; advantages are relative to the clone's value."""

    batch_type: ClassVar[type] = SarsaBatch

    def next_values(self, state: State, batch: Batch, key: PRNGKey) -> Array:
        """Q(s', a') f32[B] at the action a' that the data's policy took in s'."""
        return min_q(state.critic, state.critic.target, batch.next_observations, next_actions_of(batch))

    def evaluated(self, state: State) -> TrainState:
        return state.behavior

    def as_taken(self, actions: Array) -> Array:
        """The actions unchanged, because the authors' code does not clip the clone's samples either."""
        return actions

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> OneStepState:
        key_others, key_behavior = jax.random.split(key)
        others = super().init(key_others, observations, actions)
        behavior = self.policy.init(key_behavior, observations, actions)
        return OneStepState(others.step, others.policy, critic=others.critic, behavior=behavior)

    def update(self, state: State, batch: Batch, key: PRNGKey) -> tuple[OneStepState, Metrics]:
        key_others, key_behavior = jax.random.split(key)
        equally = jnp.ones_like(batch.rewards)
        behavior, cloning = self.policy.regress(
            state.behavior, equally, batch, key_behavior, self.max_grad_norm
        )
        state, info = super().update(state.replace(behavior=behavior), batch, key_others)
        return state, {**info, "behavior/log_prob": cloning["actor/log_prob"]}


OneStep = Method(
    BehaviorEvaluation,
    {
        "actor_lr": 1e-4,
        "critic_lr": 1e-4,
        "decay_actor_lr": False,
        "actor_hidden_dims": (1024, 1024),
        "critic_hidden_dims": (1024, 1024),
        "num_critics": 1,
        "tau": 0.0025,
        "value_actions": 10,
    },
    by_suite={"kitchen": {"awr_temperature": 0.1}},
    run=RunDefaults(batch_size=512, scale_rewards=False),
    policy=functools.partial(ForwardKL, head=NarrowGaussian()),
    critic=Critic,
)
