"""AWAC (Nair et al. 2020): an actor-critic that regresses its policy onto the data, weighted by advantages.

Source: Nair et al. 2020, "AWAC: Accelerating Online Reinforcement Learning with Offline Datasets", Algorithm
1: Q by temporal differences at a' ~ pi; pi by log-likelihood, weighted by exp(A / lambda) with the advantage
A = Q(s, a) - Q(s, pi(s)). `awr_temperature` is 1 / lambda.
Hyperparameters: rail-berkeley/rlkit, examples/awac/mujoco/awac1.py lines 18 to 80 (head, widths, rates, batch
size, lambda 2). Lambda on D4RL's data (1/3 for locomotion, 0.1 elsewhere; none is given for kitchen) and the
cap of the weights: corl-team/CORL, configs/offline/awac/ and algorithms/offline/awac.py line 230, for
batches of 256, three layers, and observations normalised (lines 426 to 430; rlkit's are not).
Differs: the authors' code normalises the weights to sum 1 over the batch (awac_trainer.py line 619). The
paper does not normalise them; neither does this file, which caps them instead. Their policy has weight decay
and small initial standard deviations, which stay between exp(-6) and 1; this one is initialised as IQL's, has
no weight decay, and its deviations stay between exp(-5) and exp(2). Their code can also take V at the
policy's mean; here it is taken at sampled actions.
"""

import functools

import flax.struct
import jax
import jax.numpy as jnp

from xql_jax.learners import fields
from xql_jax.learners.critics import Critic, at_each, init_actor_critic, min_q
from xql_jax.learners.methods import Method, RunDefaults
from xql_jax.learners.policy_objectives import Estimates, ForwardKL, PolicyLearner, PolicyObjective
from xql_jax.learners.train_state import LearnerState, TrainState
from xql_jax.losses.critic import td_target
from xql_jax.types import Array, Batch, Metrics, Numeric, Params, PRNGKey


@flax.struct.dataclass
class AdvantageWeighted(PolicyLearner):
    """AWAC: each update fits Q, then pi with the new Q, then moves Q's target network.

    Other methods may override `next_values`, `evaluated` and `as_taken`.
    """

    policy: PolicyObjective = fields.part(ForwardKL)
    critic: Critic = fields.part(Critic)
    discount: Numeric = fields.traced(0.99, fields.UNIT_INTERVAL)
    tau: Numeric = fields.traced(0.005, fields.ABOVE_ZERO)  # Polyak rate of the target, per update
    value_actions: int = fields.static(
        1, fields.AT_LEAST_ONE, "Number of the policy's actions over which Q is averaged to give V(s)."
    )

    def next_values(self, state: LearnerState, batch: Batch, key: PRNGKey) -> Array:
        """V(s') in Q's targets, f32[B]: the policy's value by the target critics."""
        return self.value_of(state.policy, state.critic, state.critic.target, batch.next_observations, key)

    def evaluated(self, state: LearnerState) -> TrainState:
        """The policy that gives V(s) in the advantages Q(s, a) - V(s)."""
        return state.policy

    def as_taken(self, actions: Array) -> Array:
        """Actions at which Q is evaluated: clipped to [-1, 1], because a Gaussian can exceed the bounds."""
        return jnp.clip(actions, -1.0, 1.0)

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> LearnerState:
        return init_actor_critic(self.policy, self.critic, key, observations, actions)

    def update(self, state: LearnerState, batch: Batch, key: PRNGKey) -> tuple[LearnerState, Metrics]:
        key_next, key_value, key_policy = jax.random.split(key, 3)
        next_v = self.next_values(state, batch, key_next)
        targets = td_target(batch.rewards, batch.masks, next_v, discount=self.discount)
        critic, critic_info = self.critic.fit(state.critic, batch, targets, self.max_grad_norm)

        q_of = functools.partial(min_q, critic, critic.params)
        v = self.value_of(self.evaluated(state), critic, critic.params, batch.observations, key_value)
        estimates = Estimates(q_of(batch.observations, batch.actions), v, q_of=q_of)
        policy, policy_info = self.policy.update(
            state.policy, estimates, batch, key_policy, self.max_grad_norm
        )
        state = state.replace(step=state.step + 1, policy=policy, critic=critic.followed(self.tau))
        return state, {**critic_info, **policy_info}

    def value_of(
        self, policy: TrainState, critic: TrainState, params: Params, observations: Array, key: PRNGKey
    ) -> Array:
        """Minimum of the critics' Q with these parameters, averaged over the policy's samples, f32[B]."""

        def drawn(key: PRNGKey) -> Array:
            draws = policy(observations).draws(key)
            actions = self.as_taken(draws.actions)
            return draws.mean(min_q(critic, params, at_each(observations, actions), actions))

        return jax.vmap(drawn)(jax.random.split(key, self.value_actions)).mean(axis=0)


ELSEWHERE = {"awr_temperature": 10.0}
AWAC = Method(
    AdvantageWeighted,
    {"awr_temperature": 0.5, "decay_actor_lr": False, "actor_hidden_dims": (256, 256, 256, 256)},
    by_suite={
        "locomotion": {"awr_temperature": 3.0},
        **dict.fromkeys(("antmaze", "kitchen", "adroit", "pointmaze"), ELSEWHERE),
    },
    run=RunDefaults(batch_size=1024, scale_rewards=False),
    policy=ForwardKL,
    critic=Critic,
)
