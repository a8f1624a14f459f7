"""AWAC (Nair et al. 2020): an actor-critic that regresses its policy onto the data, weighted by advantages.

Source: Nair et al. 2020, "AWAC: Accelerating Online Reinforcement Learning with Offline Datasets", Algorithm
1: Q by temporal differences at a' ~ pi; pi by log-likelihood, weighted by exp(A / lambda) with the advantage
A = Q(s, a) - Q(s, pi(s)). `awr_temperature` is 1 / lambda.
Hyperparameters: rail-berkeley/rlkit, examples/awac/mujoco/awac1.py lines 18 to 80 (head, widths, rates, batch
size, lambda 2). Lambda on D4RL's data (1/3 for locomotion, 0.1 elsewhere; none is given for kitchen) and the
cap of the weights: corl-team/CORL, configs/offline/awac/ and algorithms/offline/awac.py line 230, for batches
of 256, three layers, and observations normalised (lines 426 to 430; rlkit's are not).
Differs: the authors' code normalises the weights to sum 1 over the batch (awac_trainer.py line 619). The
paper does not normalise them; neither does this file, which caps them instead. Their policy has weight decay
and small initial standard deviations, which stay between exp(-6) and 1; this one is initialised as IQL's, has
no weight decay, and its deviations stay between exp(-5) and exp(2). Their code can also take V at the
policy's mean; here it is taken at sampled actions. rlkit takes the weights' Q before the critic's step; here
it is taken after it, as in CORL and the paper.
"""

import jax

from xql_jax.learners import parts
from xql_jax.learners.actor_critic import ActorCritic
from xql_jax.learners.method import Method
from xql_jax.learners.parts import LearnerState, NetworkState, QFunction
from xql_jax.learners.policy_objectives import expected_q
from xql_jax.networks.policies import draws
from xql_jax.settings import AT_LEAST_ONE, part, static
from xql_jax.types import Array, Batch, Metrics, PRNGKey


class AWAC(ActorCritic):
    """Q by temporal differences at the policy's actions; the policy by advantage-weighted regression."""

    policy: parts.PolicyObjective = part(parts.ForwardKL)
    value_actions: int = static(
        1, AT_LEAST_ONE, "Actions of the policy over which Q is averaged to give V(s)."
    )

    def update(self, state: LearnerState, batch: Batch, key: PRNGKey) -> tuple[LearnerState, Metrics]:
        """Updates Q, then pi with the new Q, then Q's target."""
        key_next, key_value, key_policy = jax.random.split(key, 3)
        target_q = state.critic.at_target().min_q
        next_v = mean_q(state.policy, target_q, batch.next_observations, key_next, self.value_actions)
        critic, critic_info = self.fit_critic(state, batch, next_v)

        v = mean_q(state.policy, critic.min_q, batch.observations, key_value, self.value_actions)
        q = critic.min_q(batch.observations, batch.actions)
        estimates = parts.Estimates(q, v, q_of=critic.min_q)
        policy, policy_info = self.policy.update(state.policy, estimates, batch, key_policy)
        state = state.replace(step=state.step + 1, policy=policy, critic=critic.polyak_update(self.tau))
        return state, {**critic_info, **policy_info}


def mean_q(
    policy: NetworkState, q_of: QFunction, observations: Array, key: PRNGKey, count: int, limit: float = 1.0
) -> Array:
    """Q(s, a) averaged over `count` samples of the policy in each state, f32[B].

    The samples are clipped to [-limit, limit], because a Gaussian can exceed the bounds of actions, 1.
    """

    def value(key: PRNGKey) -> Array:
        return expected_q(draws(policy(observations), key), q_of, observations, limit)

    return jax.vmap(value)(jax.random.split(key, count)).mean(axis=0)


METHODS = {
    "awac": Method(
        AWAC,
        {"awr_temperature": 0.5, "decay_actor_lr": False, "actor_hidden_dims": (256, 256, 256, 256)},
        settings={"batch_size": 1024, "scale_rewards": False},
    )
}
