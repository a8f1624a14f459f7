"""BRAC-p (Wu et al. 2019): an actor-critic that penalises the policy, not the value, for leaving the data.

pi maximises Q - alpha * D(pi, pi_b), where pi_b is a clone of the data's policy. Q's targets have no penalty
(policy regularisation). Code: google-research/behavior_regularized_offline_rl/brac, brac_primal_agent.py with
`value_penalty=False`, and divergences.py.
Hyperparameters: as run on D4RL, rail-berkeley/d4rl_evaluations, brac/scripts/train_brac.py, lines 55 (alpha),
76 and 77 (the clone), 108 and 109 (networks and rates); number of actions and updates without Q:
brac_primal_agent.py, lines 50 and 51.

Differs: the authors first train the clone alone (300,000 updates; 1,000,000 on D4RL) and hold its entropy at
-A nats or above. Here the clone learns in the same updates, with no entropy term, so that a run is one
program that can be resumed anywhere. As in their code, pi ignores Q for the first 20,000 updates. Their
log-std stays below 0, here below 2. They clip actions to +-0.999 in log densities, here to +-0.99999, so
actions at the bounds widen the clone more. On D4RL they drop terminal transitions and take the next row's
terminal as the mask (train_eval_offline.py, lines 56 to 77); here each row has its own. Their divergences
that need a critic of their own (dual KL, Wasserstein) are left out. AntMaze's rewards are D4RL's there, here
1 less. Their target critics start from weights of their own, here from the critics'; in their code Q counts
from update 20,002, here from 20,001. They evaluate the policy's mean and the best of 10 samples by the first
Q; here only the mean.
"""

import functools
from collections.abc import Callable

import flax.struct
import jax

from xql_jax.learners import fields
from xql_jax.learners.cloned import BehaviorRegularized, repeated_draws, sampled_actions
from xql_jax.learners.parts import LearnerState
from xql_jax.losses.divergence import laplacian_kernel, mmd_squared, sampled_kl
from xql_jax.networks.policies import Distribution
from xql_jax.types import Array, Batch, Metrics, Numeric, PRNGKey

SIGMA = 10.0  # their 20: their kernel, exp(-|d|_1 / sigma), lacks our factor 2


def kl_to_clone(distribution: Distribution, behavior: Distribution, key: PRNGKey, count: int) -> Array:
    """KL(pi || pi_b), estimated at pi's actions."""
    draws = repeated_draws(distribution, key, count)
    return sampled_kl(draws.log_probs, behavior.log_prob(draws.actions), draws.weights)


def mmd_to_clone(distribution: Distribution, behavior: Distribution, key: PRNGKey, count: int) -> Array:
    """Squared MMD with a Laplacian kernel."""
    key_policy, key_behavior = jax.random.split(key)
    draws = repeated_draws(distribution, key_policy, count)
    actions = sampled_actions(behavior, key_behavior, count)
    return mmd_squared(
        draws.actions, actions, kernel=laplacian_kernel, sigma=SIGMA, first_weights=draws.weights
    )


@flax.struct.dataclass
class BRACP(BehaviorRegularized):
    """pi maximises Q with a constant penalty per unit of divergence from the clone."""

    brac_alpha: Numeric = fields.traced(
        1.0, fields.NOT_NEGATIVE, "Penalty of the policy per unit of divergence, in reward units."
    )
    divergence: Callable[..., Array] = fields.choice(
        "Distance between the policy and the clone: kl, or mmd, the maximum mean discrepancy.",
        kl=kl_to_clone,
        mmd=mmd_to_clone,
    )

    def update(self, state: LearnerState, batch: Batch, key: PRNGKey) -> tuple[LearnerState, Metrics]:
        """Updates the clone, then Q, then pi with the new Q, then Q's target."""
        key_clone, key_next, key_actor = jax.random.split(key, 3)
        step = state.step + 1
        policy, clone_info = self.policy.fit_clone(state.policy, batch, key_clone)
        targets = self.targets(state, batch, key_next)
        critic, critic_info = self.critic.fit(state.critic, batch, targets)
        distance_of = functools.partial(self.divergence, count=self.divergence_samples)
        policy, actor_info = self.policy.maximize_q(
            policy, critic, batch.observations, step, key_actor, self.brac_alpha, distance_of
        )
        state = LearnerState(step, policy, critic=critic.polyak_update(self.tau))
        return state, {**clone_info, **critic_info, **actor_info}


METHOD = fields.Method(
    BRACP,
    {
        "actor_lr": 3e-5,
        "critic_lr": 1e-3,
        "behavior_lr": 5e-4,
        "actor_hidden_dims": (200, 200),
        "behavior_hidden_dims": (200, 200),
        "critic_hidden_dims": (300, 300),
    },
    by_suite={"pointmaze": {"behavior_lr": 1e-3, "warm_start": 3_000.0}},
    run=fields.RunDefaults(scale_rewards=False),
)
METHODS = {"brac_p": METHOD}
