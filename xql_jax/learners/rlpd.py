"""RLPD (Ball et al. 2023): SAC that learns online from minibatches that are half offline data.

Source: Ball et al. 2023, "Efficient Online Reinforcement Learning with Offline Data": symmetric sampling
(`PriorData`), layer norm in the critics, an ensemble of them with random subsets in the targets, and many
updates of Q per step of the environment and of the policy.
Hyperparameters: ikostrikov/rlpd, its configs/rlpd_config.py and sac_config.py, the commands in README.md, and
rlpd/agents/sac/sac_learner.py lines 78 and 79 (target entropy). That code has no values for kitchen or point
mazes, and Adroit's are for AWAC's sparse tasks (pen-binary-v0).
Differs: they average the critics' errors over the ensemble. Here the errors are summed, which makes no
difference with Adam. They act by the newest policy; here it lacks up to `--max_policy_lag` updates of Q.
"""

import functools

import jax
import jax.numpy as jnp

from xql_jax.learners.method import Method
from xql_jax.learners.parts import Critic, LearnerState
from xql_jax.learners.sac import SoftActorCritic
from xql_jax.networks.policies import sac_init
from xql_jax.settings import AT_LEAST_ONE, EITHER, NOT_NEGATIVE, part, static, traced
from xql_jax.types import Batch, Metrics, Numeric, Params, PRNGKey


class RLPD(SoftActorCritic):
    """SAC without V. Q's targets take the minimum of a few critics drawn anew; pi climbs the mean of all."""

    critic: Critic = part(functools.partial(Critic, critic_init=sac_init, critic_layer_norm=True))
    target_entropy_share: Numeric = traced(
        0.5, NOT_NEGATIVE, "Target entropy in units of SAC's, -1 nat per action dimension."
    )
    num_min_critics: int = static(
        2, AT_LEAST_ONE, "Critics, drawn anew in each update, whose minimum gives Q's targets."
    )
    backup_entropy: bool = static(True, EITHER, "Include the policy's entropy in Q's targets.")

    def update(self, state: LearnerState, batch: Batch, key: PRNGKey) -> tuple[LearnerState, Metrics]:
        """Updates Q and its target, then pi with the new Q, and its coefficient."""
        key_next, key_actor, _ = jax.random.split(key, 3)
        key_subset, key_actions = jax.random.split(key_next)
        step = state.step + 1
        subset = state.critic.replace(params=self.subset(state.critic.target, key_subset))
        next_q, next_cost = state.policy.sampled_q(subset.min_q, batch.next_observations, key_actions)
        next_v = next_q - next_cost if self.backup_entropy else next_q
        critic, critic_info = self.fit_critic(state, batch, next_v)

        share = self.target_entropy_share
        policy, info = self.improve(state, critic.mean_q, batch.observations, key_actor, share)
        state = LearnerState(step, policy, critic=self.follow(critic, step))
        return state, {**critic_info, **info}

    def subset(self, critic: Params, key: PRNGKey) -> Params:
        """The parameters of `num_min_critics` different networks, or of all if there are no more."""
        if self.num_min_critics >= len(critic):
            return critic
        indices = jax.random.choice(key, len(critic), (self.num_min_critics,), replace=False)
        drawn = jax.tree.map(lambda *leaves: jnp.stack(leaves)[indices], *critic)
        return tuple(jax.tree.map(lambda leaf, i=i: leaf[i], drawn) for i in range(self.num_min_critics))


METHODS = {
    "rlpd": Method(
        RLPD,
        {
            **dict.fromkeys(("actor_lr", "critic_lr", "entropy_coef_lr"), 3e-4),
            **dict.fromkeys(("actor_hidden_dims", "critic_hidden_dims"), (256, 256)),
            "num_critics": 10,
            "initial_entropy_coef": 1.0,
            "actor_period": 20,
            "target_period": 1,
        },
        settings={
            "scale_rewards": False,
            "num_pretraining_steps": 0,
            "offline_fraction": 0.5,
            "warmup_steps": 5_000,
            "updates_per_step": 20.0,
        },
    )
}
