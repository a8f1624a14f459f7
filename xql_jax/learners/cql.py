"""Conservative Q-learning, CQL(H) (Kumar et al. 2020): SAC with a penalty on Q at actions not in the data.

Source: Eq. 4; with a threshold its Lagrangian form, Appendix F. Code: aviralkumar2907/CQL.
Hyperparameters: d4rl/examples/cql_mujoco_new.py, lines 38 to 58 (networks), 134 and 135 (rates); README.md
(weight 5 without a threshold, both 5 for AntMaze); d4rl/rlkit/torch/sac/cql.py, lines 46 and 47 (backup,
number of actions). Adroit and kitchen: threshold 5 and weight 1, the defaults of that script (lines 168 and
165). A user could not reach the paper's Adroit scores with them and CQL(rho) (issue 9 there).

Differs: like the authors' code and unlike the paper, this file has a weight in addition to the Lagrange
multiplier, has no 1/2 before the Bellman error, and also samples actions from the policy at s'. In their code
the policy clones the data for the first 40,000 updates (without much effect, says a comment there), and its
loss is computed before the critic's step; here neither. They step the entropy coefficient on log alpha *
(...) before pi's loss; here on alpha * (...) after it, at a rate of its own (theirs is the policy's).
"""

import functools
import math
from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp

from xql_jax.learners import parts
from xql_jax.learners.actor_critic import fit_multiplier
from xql_jax.learners.method import Method
from xql_jax.learners.parts import CriticState, LearnerState, NetworkState
from xql_jax.learners.sac import EntropyState, SoftActorCritic
from xql_jax.losses.regression import check_pairs, td_target
from xql_jax.networks.policies import sac_init
from xql_jax.settings import AT_LEAST_ONE, EITHER, NOT_NEGATIVE, POSITIVE_OR_OFF, part, static, traced
from xql_jax.types import AnyBatch, Array, CalibratedBatch, Metrics, Numeric, PRNGKey

LARGEST_MULTIPLIER = 1e6


def conservative_gap(values: Array, sampled_values: Array, log_densities: Array) -> Array:
    """CQL(H)'s penalty of each example, f32[B]: log(sum_k exp(Q(s, a_k)) / density(a_k)) - Q(s, a).

    With K sampled actions the first term estimates log K + log of the integral of exp(Q(s, .)), for any
    densities that the actions are drawn from.

    Source: Kumar et al. 2020, Eq. 4; the estimate: Appendix F.
    Differs: as in the authors' code the K terms are summed, while the paper takes their mean. The sum adds
    log K. That changes no gradient, but the authors chose their thresholds with it.
    Q of the data's actions is f32[B], of the sampled ones f32[K, B], in reward units; log_densities f32[K, B]
    are of each sampled action in the distribution that it was drawn from, in nats.
    """
    chex.assert_equal_shape([sampled_values, log_densities])
    check_pairs(values, sampled_values[0])
    return jax.nn.logsumexp(sampled_values - jax.lax.stop_gradient(log_densities), axis=0) - values


class ConservativeState(CriticState, kw_only=True):
    """The critics, and the logarithm of their penalty's multiplier."""

    log_multiplier: NetworkState  # its params are f32[]; 0: no threshold


class ConservativeCritic(parts.Critic):
    """Critics with CQL's penalty, which raises Q at the data's actions and lowers it at sampled ones.

    The penalty is `cql_alpha` times the gap of `conservative_gap`. With a finite threshold it is also
    multiplied by a Lagrange multiplier, which rises while cql_alpha * gap is above the threshold and falls
    while it is below.
    """

    cql_alpha: Numeric = traced(
        5.0, NOT_NEGATIVE, "Weight of the penalty that lowers Q at actions not in the data."
    )
    cql_threshold: Numeric = traced(
        jnp.inf,
        POSITIVE_OR_OFF,
        "A tuned multiplier's target for cql_alpha * Q gap (sampled - data); inf: none.",
    )
    cql_actions: int = static(
        10, AT_LEAST_ONE, "Actions at which Q is lowered: as many uniform, the policy's at s, and at s'."
    )

    def init(self, keys: Sequence[PRNGKey], observations: Array, actions: Array) -> ConservativeState:
        critic = super().init(keys, observations, actions)
        dual = NetworkState.create(None, jnp.zeros(()))
        state = ConservativeState.create(critic.network, critic.params, log_multiplier=dual)
        return state.with_target()

    def fit_conservatively(
        self, state: LearnerState, batch: AnyBatch, targets: Array, key: PRNGKey
    ) -> tuple[ConservativeState, Metrics]:
        """One step of every Q, and one of the multiplier with the gaps from before that step."""
        critic: ConservativeState = state.critic
        sampled, log_densities = self.proposals(state.policy, batch, key)
        actions = jnp.concatenate([batch.actions[None], sampled])  # f32[1 + K, B, A]
        observations = jnp.tile(batch.observations, (len(actions), 1))
        # Cal-QL counts Q of the policy's actions as at least the data's return.
        least = batch.returns_to_go if isinstance(batch, CalibratedBatch) else -jnp.inf
        is_uniform = jnp.arange(len(sampled))[:, None] < self.cql_actions
        floor = jnp.where(is_uniform, -jnp.inf, least)  # f32[K, B]
        multiplier = jnp.minimum(jnp.exp(critic.log_multiplier.params), LARGEST_MULTIPLIER)

        def loss(params):
            # One pass over a matrix of rows for the data's and the sampled actions: the fastest on a CPU.
            rows = actions.reshape(-1, actions.shape[-1])
            qs = [q.reshape(actions.shape[:2]) for q in critic.each(params, observations, rows)]
            errors = sum(
                parts.checked(self.loss_of(q[0], targets), self.loss_of, q[0], targets).mean() for q in qs
            )
            gaps = jnp.stack(
                [conservative_gap(q[0], jnp.maximum(q[1:], floor), log_densities).mean() for q in qs]
            )
            metrics = {"critic/loss": errors, "critic/q": qs[0][0].mean(), "critic/gap": gaps.mean()}
            return errors + multiplier * self.cql_alpha * gaps.sum(), metrics

        updated, info = self.minimize(critic, loss, self.critic_lr)
        excess = self.cql_alpha * info["critic/gap"] - self.cql_threshold
        excess = jnp.where(jnp.isinf(self.cql_threshold), 0.0, excess)
        log_multiplier = fit_multiplier(self, critic.log_multiplier, excess, self.critic_lr)
        return updated.replace(log_multiplier=log_multiplier), {**info, "critic/multiplier": multiplier}

    def proposals(self, policy: EntropyState, batch: AnyBatch, key: PRNGKey) -> tuple[Array, Array]:
        """Actions f32[K, B, A], in thirds uniform, of pi at s and of pi at s'; log densities f32[K, B]."""
        key_uniform, key_policy = jax.random.split(key)
        shape = (self.cql_actions, *batch.actions.shape)
        uniform = jax.random.uniform(key_uniform, shape, minval=-1.0, maxval=1.0)
        distribution = policy(jnp.concatenate([batch.observations, batch.next_observations]))
        keys = jax.random.split(key_policy, self.cql_actions)
        sampled, log_probs = jax.vmap(distribution.sample_and_log_prob)(keys)  # f32[K / 3, 2 * B, ...]
        uniform_density = jnp.full(shape[:2], -shape[-1] * math.log(2.0))
        actions = jnp.concatenate([uniform, sampled.reshape(-1, *shape[1:])])
        return actions, jnp.concatenate([uniform_density, log_probs.reshape(-1, shape[1])])


class CQL(SoftActorCritic):
    """SAC with conservative critics and without V; by default Q's targets leave out the policy's entropy."""

    critic: ConservativeCritic = part(functools.partial(ConservativeCritic, critic_init=sac_init))
    deterministic_backup: bool = static(True, EITHER, "Leave entropy out of Q's targets.")

    def update(self, state: LearnerState, batch: AnyBatch, key: PRNGKey) -> tuple[LearnerState, Metrics]:
        """Updates Q and its target, then pi with the new Q, and its coefficient."""
        key_next, key_actor, key_critic = jax.random.split(key, 3)
        step = state.step + 1
        next_v = self.next_values(state, batch.next_observations, key_next)
        targets = td_target(batch.rewards, batch.masks, next_v, discount=self.discount)
        critic, critic_info = self.critic.fit_conservatively(state, batch, targets, key_critic)

        policy, info = self.improve(state, critic.min_q, batch.observations, key_actor)
        state = LearnerState(step, policy, critic=self.follow(critic, step))
        return state, {**critic_info, **info}

    def next_values(self, state: LearnerState, observations: Array, key: PRNGKey) -> Array:
        """V(s') f32[B] of f32[B, O]: the target critics' min Q at an action of the policy."""
        q, cost = state.policy.sampled_q(state.critic.at_target().min_q, observations, key)
        return q if self.deterministic_backup else q - cost


METHODS = {
    "cql": Method(
        CQL,
        {
            "actor_lr": 1e-4,
            "entropy_coef_lr": 1e-4,
            "critic_lr": 3e-4,
            "initial_entropy_coef": 1.0,
            **dict.fromkeys(("actor_hidden_dims", "critic_hidden_dims"), (256, 256, 256)),
            **dict.fromkeys(("actor_period", "target_period"), 1),
        },
        settings={"scale_rewards": False},
    )
}
