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
that need a critic of their own (dual KL, Wasserstein) are left out. Their target critics start from weights
of their own, here from the critics'; in their code Q counts from update 20,002, here from 20,001. They
evaluate the policy's mean and the best of 10 samples by the first Q; here only the mean.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from xql_jax.learners import parts
from xql_jax.learners.actor_critic import ActorCritic, at_each
from xql_jax.learners.method import Method, rate_setting
from xql_jax.learners.parts import LearnerState, NetworkState
from xql_jax.learners.policy_objectives import Squashed, expected_q
from xql_jax.losses.divergence import laplacian_kernel, mmd_squared, sampled_kl
from xql_jax.networks.policies import Distribution, Draws, draws
from xql_jax.settings import (
    AT_LEAST_ONE,
    NOT_NEGATIVE,
    POSITIVE,
    UNIT_INTERVAL,
    WIDTHS,
    choice,
    part,
    static,
    traced,
)
from xql_jax.types import Array, Batch, Metrics, Numeric, PRNGKey

# The distance of pi and its clone in each state, f32[B], estimated from samples.
DistanceOf = Callable[[Distribution, Distribution, PRNGKey], Array]
MMD_SIGMA = 10.0  # their 20: their kernel, exp(-|d|_1 / sigma), lacks our factor 2


class RegularizedState(NetworkState, kw_only=True):
    """The actor, the clone that it is kept near, and the logarithm of the penalty's multiplier."""

    behavior: NetworkState  # the clone
    log_multiplier: NetworkState = None  # type: ignore[assignment]  # its params are f32[]; None: not tuned


class RegularizedPolicy(parts.PolicyPart):
    """A policy and a clone of the data's policy, which is fitted by maximum likelihood in the same updates.

    During the first `warm_start` updates pi only follows the clone, because Q has learned too little.
    """

    head: parts.Gaussian = part(Squashed)  # of pi and of the clone
    actor_lr: Numeric = rate_setting(1e-4, "the policy")
    behavior_lr: Numeric = traced(3e-4, POSITIVE, "Learning rate of the clone.")
    behavior_hidden_dims: tuple[int, ...] = static((256, 256), WIDTHS, "Hidden layers of the clone.")
    warm_start: Numeric = traced(
        20000.0, NOT_NEGATIVE, "Updates at the start in which the policy only follows the clone."
    )

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> RegularizedState:
        key_actor, key_behavior = jax.random.split(key)
        # The clone has the same kind of head as pi, but its own widths.
        head = self.head.replace(actor_hidden_dims=self.behavior_hidden_dims)
        network, clone = self.head.network(actions.shape[-1]), head.network(actions.shape[-1])
        behavior = NetworkState.create(clone, clone.init(key_behavior, observations))
        return RegularizedState.create(network, network.init(key_actor, observations), behavior=behavior)


class BehaviorRegularized(ActorCritic):
    """Base of BRAC-p and BEAR: pi maximises min Q - coefficient * distance to the clone.

    V(s') in Q's targets, which contain neither entropy nor distance, is the maximum over `backup_actions`
    samples of pi of min_share * min Q + (1 - min_share) * max Q over the target critics.

    Source: Wu et al. 2019 (policy regularisation); Kumar et al. 2019, Algorithm 1.
    """

    policy: RegularizedPolicy = part(RegularizedPolicy)
    min_share: Numeric = traced(
        1.0, UNIT_INTERVAL, "Weight of the smallest critic in Q's targets; the largest has the rest."
    )
    backup_actions: int = static(
        1, AT_LEAST_ONE, "Actions of the policy sampled per next state; the best gives Q's target."
    )
    divergence_samples: int = static(
        4, AT_LEAST_ONE, "Actions per state that estimate the distance of policy and clone."
    )

    def next_values(self, state: LearnerState, batch: Batch, key: PRNGKey) -> Array:
        """V(s'), f32[B]."""
        sampled = sampled_actions(state.policy(batch.next_observations), key, self.backup_actions)
        actions = jnp.clip(sampled, -1.0, 1.0)
        states = at_each(batch.next_observations, actions)
        qs = state.critic.at_target().all_q(states, actions)
        clipped = self.min_share * qs.min(0) + (1.0 - self.min_share) * qs.max(0)  # f32[N, B]
        return clipped.max(0)

    def penalized_update(
        self, state: LearnerState, batch: Batch, key: PRNGKey, coefficient: Numeric, distance_of: DistanceOf
    ) -> tuple[LearnerState, Metrics]:
        """Updates the clone, then Q, then pi with the new Q at this cost per distance, then Q's target."""
        key_clone, key_next, key_actor = jax.random.split(key, 3)
        step = state.step + 1

        def clone_loss(params):
            clone = state.policy.behavior.in_training(params, batch.observations, key_clone)
            log_prob = clone.log_prob(batch.actions, parts.carried_out(batch)).mean()
            return -log_prob, {"behavior/log_prob": log_prob}

        behavior, clone_info = self.policy.minimize(
            state.policy.behavior, clone_loss, self.policy.behavior_lr
        )
        policy = state.policy.replace(behavior=behavior)
        critic, critic_info = self.fit_critic(state, batch, self.next_values(state, batch, key_next))

        key_q, key_distance, key_dropout = jax.random.split(key_actor, 3)
        clone = behavior(batch.observations)
        q_counts = step > self.policy.warm_start

        def loss(params):
            distribution = policy.in_training(params, batch.observations, key_dropout)
            q = expected_q(draws(distribution, key_q), critic.min_q, batch.observations)
            distance = distance_of(distribution, clone, key_distance)
            actor_loss = (coefficient * distance - jnp.where(q_counts, q, 0.0)).mean()
            return actor_loss, {"actor/loss": actor_loss, "actor/divergence": distance.mean()}

        policy, actor_info = self.policy.minimize(policy, loss, self.policy.actor_lr)
        state = LearnerState(step, policy, critic=critic.polyak_update(self.tau))
        return state, {**clone_info, **critic_info, **actor_info}


def sampled_actions(distribution: Distribution, key: PRNGKey, count: int) -> Array:
    """Samples `count` actions per state, f32[count, B, A]."""
    return jax.vmap(distribution.sample)(jax.random.split(key, count))


def repeated_draws(distribution: Distribution, key: PRNGKey, count: int) -> Draws:
    """Joins `count` draws of K actions each into one of count * K actions."""
    repeated = jax.vmap(functools.partial(draws, distribution))(jax.random.split(key, count))
    joined = jax.tree.map(lambda array: array.reshape(-1, *array.shape[2:]), repeated)
    return joined._replace(weights=joined.weights / count)


def kl_to_clone(distribution: Distribution, behavior: Distribution, key: PRNGKey, count: int) -> Array:
    """KL(pi || pi_b), estimated at pi's actions."""
    draws = repeated_draws(distribution, key, count)
    return sampled_kl(draws.log_probs, behavior.log_prob(draws.actions), draws.weights)


def mmd_to_clone(
    distribution: Distribution, behavior: Distribution, key: PRNGKey, count: int,
    kernel: Callable[..., Array] = laplacian_kernel, sigma: Numeric = MMD_SIGMA,
) -> Array:  # fmt: skip
    """Squared MMD of pi and the clone."""
    key_policy, key_behavior = jax.random.split(key)
    draws = repeated_draws(distribution, key_policy, count)
    actions = sampled_actions(behavior, key_behavior, count)
    return mmd_squared(draws.actions, actions, draws.weights, kernel=kernel, sigma=sigma)


class BRACP(BehaviorRegularized):
    """pi maximises Q with a constant penalty per unit of divergence from the clone."""

    brac_alpha: Numeric = traced(1.0, NOT_NEGATIVE, "Penalty per divergence, reward units.")
    divergence: Callable[..., Array] = choice(
        "Distance of policy and clone: kl, or mmd, the maximum mean discrepancy.",
        kl=kl_to_clone,
        mmd=mmd_to_clone,
    )

    def update(self, state: LearnerState, batch: Batch, key: PRNGKey) -> tuple[LearnerState, Metrics]:
        distance_of = functools.partial(self.divergence, count=self.divergence_samples)
        return self.penalized_update(state, batch, key, self.brac_alpha, distance_of)


METHODS = {
    "brac_p": Method(
        BRACP,
        {"actor_lr": 3e-5, "critic_lr": 1e-3, "behavior_lr": 5e-4, "critic_hidden_dims": (300, 300)}
        | dict.fromkeys(("actor_hidden_dims", "behavior_hidden_dims"), (200, 200)),
        settings={"scale_rewards": False},
    )
}
