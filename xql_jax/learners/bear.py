"""BEAR (Kumar et al. 2019): pi maximises Q while its MMD to the data's policy stays below a threshold.

Source: Algorithm 1 of Kumar et al. Code: rail-berkeley/d4rl_evaluations, bear (the authors' later code, which
has these hyperparameters) and aviralkumar2907/BEAR.
Hyperparameters: bear/examples/bear_hdf5_d4rl.py, lines 133, 134 and 137 (rates, threshold), 145 (networks)
and 84 (the clone's); bear/rlkit/torch/sac/bear.py, lines 42 (4 actions), 76 and 84 (rates), 172 and 180 (10
actions and 0.75 in the backup), 215 (40,000 updates of the MMD alone) and 247 (the multiplier's range);
bear/README.md: sigma 20 and a Laplacian kernel. For HalfCheetah it has a Gaussian kernel
(`--kernel=gaussian`), here the default is Laplacian for every task.

Differs: the authors clone the data's policy with a conditional VAE. They clip its latent to 0.5 when
sampling, which narrows the distribution. Here the clone has the same head as pi and is fitted by maximum
likelihood; use `bear+mixture` if the data's policy has several modes. Two samples of 4 actions each from so
wide a policy are far apart: the MMD of the clone to itself is about 0.26 in the point maze, above their
threshold of 0.05. Then the multiplier only rises, and pi stays the clone: give an `mmd_threshold` above the
`actor/divergence` of the first updates. In the D4RL code pi's loss is computed before the critic's step, here
and in the first code after it. In evaluation they take the action with the largest Q among 10 (first code) or
100 (D4RL) samples of pi; here among 10. One of their MMD's samples of pi is also the action for Q; here a
sample of its own. Their 40,000 updates without Q are of 3,000,000: shorten them (`--warm_start=N`) with the
run.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from xql_jax.learners import brac_p
from xql_jax.learners.actor_critic import at_each, chosen, fit_multiplier
from xql_jax.learners.method import Method
from xql_jax.learners.parts import LearnerState, NetworkState
from xql_jax.losses.divergence import gaussian_kernel, laplacian_kernel
from xql_jax.networks.policies import Distribution, TanhGaussian
from xql_jax.settings import AT_LEAST_ONE, POSITIVE, choice, static, traced
from xql_jax.types import Array, Batch, Metrics, Numeric, Params, PRNGKey

LOG_MULTIPLIER_RANGE = (-5.0, 10.0)


class Chooser(NetworkState, kw_only=True):
    """An actor that samples several actions and chooses among them by a critic."""

    critic: NetworkState


class BEAR(brac_p.BehaviorRegularized):
    """pi maximises Q, penalised by its MMD to the clone with a Lagrange multiplier.

    The multiplier rises while the MMD is above the threshold and falls while it is below. The MMD is computed
    from actions before the tanh, because its gradient then does not vanish at the bounds. In evaluation it
    takes the action with the largest first Q among several samples.
    """

    kernel: Callable[..., Array] = choice(
        "Kernel of the maximum mean discrepancy.", laplacian=laplacian_kernel, gaussian=gaussian_kernel
    )
    mmd_sigma: Numeric = traced(20.0, POSITIVE, "Width of the discrepancy's kernel.")
    mmd_threshold: Numeric = traced(0.05, POSITIVE, "Largest discrepancy from the clone.")
    multiplier_lr: Numeric = traced(1e-3, POSITIVE, "Learning rate of the multiplier.")
    evaluation_actions: int = static(
        10, AT_LEAST_ONE, "Actions sampled per state in evaluation; that of the largest Q is taken."
    )

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> LearnerState:
        state = super().init(key, observations, actions)
        dual = NetworkState.create(None, jnp.zeros(()))
        return state.replace(policy=state.policy.replace(log_multiplier=dual))

    def update(self, state: LearnerState, batch: Batch, key: PRNGKey) -> tuple[LearnerState, Metrics]:
        """Updates the networks as BRAC-p does, then the multiplier by the MMD before pi's step."""
        dual = state.policy.log_multiplier
        state, info = self.penalized_update(state, batch, key, jnp.exp(dual.params), self.mmd)
        excess = info["actor/divergence"] - self.mmd_threshold
        dual = fit_multiplier(self.policy, dual, excess, self.multiplier_lr)
        dual = dual.replace(params=jnp.clip(dual.params, *LOG_MULTIPLIER_RANGE))
        policy = state.policy.replace(log_multiplier=dual)
        return state.replace(policy=policy), {**info, "actor/multiplier": jnp.exp(dual.params)}

    def mmd(self, distribution: Distribution, behavior: Distribution, key: PRNGKey) -> Array:
        """The MMD of pi and the clone in each state, f32[B], before the tanh."""
        pi = distribution.gaussian if isinstance(distribution, TanhGaussian) else distribution
        clone = behavior.gaussian if isinstance(behavior, TanhGaussian) else behavior
        squared = brac_p.mmd_to_clone(pi, clone, key, self.divergence_samples, self.kernel, self.mmd_sigma)
        return jnp.sqrt(squared + 1e-6)  # the gradient of a root is unbounded at 0

    def actor(self, state: LearnerState) -> Chooser:
        first = NetworkState(state.critic.network, state.critic.params[0])
        return Chooser(state.policy.network, state.policy.params, critic=first)

    def act(self, actor: Params, observations: Array, key: PRNGKey, deterministic: bool) -> Array:
        """Actions f32[B, A] within [-1, 1] for observations f32[B, O]: a sample, or the best of several."""
        if not deterministic:
            return super().act(actor, observations, key, deterministic)

        def candidates(observation: Array) -> Array:
            # By the state: it gets the same ones in each batch, and another state gets others.
            bits = jax.lax.bitcast_convert_type(observation, jnp.uint32)
            key_of_state = jax.random.fold_in(key, (bits * jnp.arange(1, 2 * len(bits), 2, jnp.uint32)).sum())
            distribution = actor(observation[None])
            return brac_p.sampled_actions(distribution, key_of_state, self.evaluation_actions)[:, 0]

        actions = jnp.clip(jax.vmap(candidates, out_axes=1)(observations), -1.0, 1.0)
        return chosen(actions, actor.critic(at_each(observations, actions), actions).argmax(0))


METHODS = {
    "bear": Method(
        BEAR,
        {"warm_start": 40_000.0, "backup_actions": 10, "min_share": 0.75, "behavior_hidden_dims": (750, 750)}
        | {"actor_lr": 1e-4, "critic_lr": 3e-4, "behavior_lr": 3e-4},
        settings={"scale_rewards": False},
    )
}
