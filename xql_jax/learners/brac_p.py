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
1 less. They evaluate the policy's mean and the best of 10 samples by the first Q; here only the mean.
"""

from collections.abc import Callable

import flax.struct
import jax

from xql_jax.learners import fields
from xql_jax.learners.behavior_regularized import (
    BehaviorRegularized,
    RegularizedPolicy,
    RegularizedState,
    repeated_draws,
    sampled_actions,
)
from xql_jax.learners.critics import Critic
from xql_jax.learners.methods import Method, RunDefaults
from xql_jax.losses.divergence import laplacian_kernel, mmd_squared, sampled_kl
from xql_jax.networks.policies import Distribution
from xql_jax.types import Array, Numeric, PRNGKey

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
class Penalized(RegularizedPolicy):
    """Policy with a constant penalty per unit of divergence from the clone."""

    brac_alpha: Numeric = fields.traced(
        1.0,
        fields.NOT_NEGATIVE,
        "Penalty of the policy per unit of divergence from the clone, in reward units.",
    )
    divergence: Callable[..., Array] = fields.choice(
        "Distance between the policy and the clone: kl, or mmd, the maximum mean discrepancy.",
        kl=kl_to_clone,
        mmd=mmd_to_clone,
    )

    def coefficient(self, policy: RegularizedState) -> Numeric:
        return self.brac_alpha

    def distance(self, distribution: Distribution, behavior: Distribution, key: PRNGKey) -> Array:
        return self.divergence(distribution, behavior, key, self.divergence_samples)


BRACP = Method(
    BehaviorRegularized,
    {
        "actor_lr": 3e-5,
        "critic_lr": 1e-3,
        "behavior_lr": 5e-4,
        "actor_hidden_dims": (200, 200),
        "behavior_hidden_dims": (200, 200),
        "critic_hidden_dims": (300, 300),
    },
    by_suite={"pointmaze": {"behavior_lr": 1e-3, "warm_start": 3_000.0}},
    run=RunDefaults(scale_rewards=False),
    policy=Penalized,
    critic=Critic,
)
