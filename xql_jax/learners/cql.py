"""Conservative Q-learning, CQL(H) (Kumar et al. 2020): SAC with a penalty on Q at actions not in the data.

Source: Eq. 4; with a threshold its Lagrangian form, Appendix F. Code: aviralkumar2907/CQL.
Hyperparameters: d4rl/examples/cql_mujoco_new.py, lines 38 to 58 (networks), 134 and 135 (rates); README.md
(weight 5 without a threshold, both 5 for AntMaze); d4rl/rlkit/torch/sac/cql.py, lines 46 and 47 (backup,
number of actions). Adroit and kitchen: threshold 5 and weight 1, the defaults of that script (lines 168 and
165). A user could not reach the paper's Adroit scores with them and CQL(rho) (issue 9 there).

Differs: like the authors' code and unlike the paper, this file has a weight in addition to the Lagrange
multiplier, has no 1/2 before the Bellman error, and also samples actions from the policy at s'. In their code
the policy clones the data for the first 40,000 updates (without much effect, says a comment there), and its
loss is computed before the critic's step; here neither. Their last layers begin near 0, biases at 0.1
and the deviation at 1 (a log-std clipped to [-5, 2]); here kernels are orthogonal, biases 0, and it begins at
0.2 (a tanh into [-5, 2]). Their entropy coefficient has the policy's rate; here its own, `entropy_coef_lr`,
also where a suite or a user changes `actor_lr`. They train AntMaze on the rewards 4 * (r - 0.5); here on
the same rewards as all methods.
"""

import functools
import math
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from xql_jax.learners import fields
from xql_jax.learners.critics import Critic
from xql_jax.learners.maximum_entropy import MaximumEntropy
from xql_jax.learners.methods import Method, RunDefaults
from xql_jax.learners.sac import SoftValues
from xql_jax.learners.train_state import LearnerState, Model, TrainState
from xql_jax.losses.critic import conservative_gap
from xql_jax.networks.squashed_policies import sac_init
from xql_jax.types import Array, Batch, Metrics, Numeric, PRNGKey

LARGEST_MULTIPLIER = 1e6


class ConservativeState(TrainState):
    """The critics' train state and the logarithm of their penalty's multiplier."""

    log_multiplier: Any = None  # a train state whose params are f32[]; always 0 without a threshold


@flax.struct.dataclass
class ConservativeCritic(Critic):
    """Critics with CQL's penalty, which raises Q at the data's actions and lowers it at sampled ones.

    The penalty is `cql_alpha` times the gap of `conservative_gap`. With a finite threshold it is also
    multiplied by a Lagrange multiplier, which rises while cql_alpha * gap is above the threshold and falls
    while it is below.
    """

    cql_alpha: Numeric = fields.traced(
        5.0, fields.NOT_NEGATIVE, "Weight of the penalty that lowers Q at actions that are not in the data."
    )
    cql_threshold: Numeric = fields.traced(
        jnp.inf,
        fields.POSITIVE_OR_OFF,
        "Value of cql_alpha times the gap between Q at sampled and at the data's actions that a tuned "
        "multiplier aims at; inf: no multiplier.",
    )
    cql_actions: int = fields.static(
        10,
        fields.AT_LEAST_ONE,
        "Actions per state at which Q is lowered, of each of three kinds: uniform, and the policy's at s "
        "and at s'.",
    )

    def init(self, *args: Any, **options: Any) -> ConservativeState:
        log_multiplier = TrainState.create(None, jnp.zeros(()))
        return ConservativeState.extending(super().init(*args, **options), log_multiplier=log_multiplier)

    def fit_conservatively(
        self,
        critic: ConservativeState,
        policy: Model,
        batch: Batch,
        targets: Array,
        key: PRNGKey,
        max_grad_norm: Numeric,
    ) -> tuple[ConservativeState, Metrics]:
        """One step of every Q, and one of the multiplier with the gaps from before that step."""
        sampled, log_densities = self.proposals(policy, batch, key)
        actions = jnp.concatenate([batch.actions[None], sampled])  # f32[1 + K, B, A]
        observations = jnp.tile(batch.observations, (len(actions), 1))
        multiplier = jnp.minimum(jnp.exp(critic.log_multiplier.params), LARGEST_MULTIPLIER)

        def loss(params):
            # One pass over a matrix of rows for the data's and the sampled actions: the fastest on a CPU.
            rows = actions.reshape(-1, actions.shape[-1])
            qs = [critic.at(p, observations, rows).reshape(actions.shape[:2]) for p in params]
            errors = sum(self.loss_of(q[0], targets).mean() for q in qs)
            gaps = jnp.stack([conservative_gap(q[0], q[1:], log_densities).mean() for q in qs])
            metrics = {"critic/loss": errors, "critic/q": qs[0][0].mean(), "critic/gap": gaps.mean()}
            return errors + multiplier * self.cql_alpha * gaps.sum(), metrics

        def multiplier_loss(log_multiplier):
            excess = self.cql_alpha * info["critic/gap"] - self.cql_threshold
            return -jnp.exp(log_multiplier) * jnp.where(jnp.isinf(self.cql_threshold), 0.0, excess), {}

        updated, info = critic.minimize(loss, self.critic_lr, max_grad_norm)
        log_multiplier, _ = critic.log_multiplier.minimize(multiplier_loss, self.critic_lr, max_grad_norm)
        return updated.replace(log_multiplier=log_multiplier), {**info, "critic/multiplier": multiplier}

    def proposals(self, policy: Model, batch: Batch, key: PRNGKey) -> tuple[Array, Array]:
        """Samples actions f32[K, B, A] for the states s and returns them with their log densities f32[K, B].

        One third of them is uniform, one third is from the policy at s, and one third from the policy at s'.
        """
        key_uniform, key_policy = jax.random.split(key)
        shape = (self.cql_actions, *batch.actions.shape)
        uniform = jax.random.uniform(key_uniform, shape, minval=-1.0, maxval=1.0)
        distribution = policy(jnp.concatenate([batch.observations, batch.next_observations]))
        keys = jax.random.split(key_policy, self.cql_actions)
        sampled, log_probs = jax.vmap(distribution.sample_and_log_prob)(keys)  # f32[K / 3, 2 * B, ...]
        uniform_density = jnp.full(shape[:2], -shape[-1] * math.log(2.0))
        actions = jnp.concatenate([uniform, sampled.reshape(-1, *shape[1:])])
        return actions, jnp.concatenate([uniform_density, log_probs.reshape(-1, shape[1])])


@flax.struct.dataclass
class ConservativeActorCritic(SoftValues):
    """SAC with conservative critics and without V; by default Q's targets leave out the policy's entropy."""

    critic: ConservativeCritic = fields.part(ConservativeCritic)
    deterministic_backup: bool = fields.static(
        True, fields.EITHER, "Leave the policy's entropy out of Q's targets."
    )
    uses_value_network: bool = fields.internal(False)
    value: Any = fields.internal(None)  # there is no V

    def value_targets(self, q: Array, log_probs: Array, entropy_coef: Array) -> Array:
        return q if self.deterministic_backup else super().value_targets(q, log_probs, entropy_coef)

    def fit_critic(
        self, state: LearnerState, batch: Batch, targets: Array, key: PRNGKey
    ) -> tuple[TrainState, Metrics]:
        return self.critic.fit_conservatively(
            state.critic, state.policy, batch, targets, key, self.max_grad_norm
        )


CQL = Method(
    ConservativeActorCritic,
    {
        "actor_lr": 1e-4,
        "entropy_coef_lr": 1e-4,
        "critic_lr": 3e-4,
        "actor_hidden_dims": (256, 256, 256),
        "critic_hidden_dims": (256, 256, 256),
        "initial_entropy_coef": 1.0,
        "actor_period": 1,
        "target_period": 1,
    },
    by_suite={
        "antmaze": {"cql_alpha": 5.0, "cql_threshold": 5.0},
        "kitchen": {"cql_alpha": 1.0, "cql_threshold": 5.0},
        "adroit": {"cql_alpha": 1.0, "cql_threshold": 5.0},
        # The actor is slower than the critics (1e-3 in pointmaze_config.py). Rewards are 0 or 1, and with a
        # weight of 5 Q of the data's actions is below 0. The best of 0.1, 0.5 and 1 on seed 100.
        "pointmaze": {"actor_lr": 3e-4, "cql_alpha": 0.1},
    },
    run=RunDefaults(scale_rewards=False),
    policy=MaximumEntropy,
    critic=functools.partial(ConservativeCritic, critic_init=sac_init),
)
