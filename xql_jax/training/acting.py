"""Acting of one member in its environments on the host."""

import math
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from xql_jax.data.preprocessing import Preprocessing
from xql_jax.envs.vector import EpisodeSeeds, VectorEnv
from xql_jax.training.members import Member
from xql_jax.training.ramps import ramped
from xql_jax.training.schedule import OnlineSchedule
from xql_jax.training.strategy import member_keys
from xql_jax.types import Array, Batch, Learner, Params, PRNGKey

EPISODE_METRICS = ("episode/return", "episode/length")  # means over the episodes that ended last


class Actor:
    """One member's environments, and how it acts in them.

    Attributes:
        bad_actions_at: the first step with actions that were not finite, if any.
        episode: means over the episodes that ended last.
    """

    def __init__(
        self,
        member: Member,
        environments: VectorEnv,
        schedule: OnlineSchedule,
        preprocessing: Preprocessing,
    ):
        self.environments, self._schedule, self._preprocessing = environments, schedule, preprocessing
        self.seeds: EpisodeSeeds
        self.bad_actions_at: int | None = None
        self.episode = dict.fromkeys(EPISODE_METRICS, math.nan)
        self._seed = member.seed
        # Acting is on the CPU, so it never waits for an accelerator.
        self._key = jax.device_put(member_keys(member)[2], jax.devices("cpu")[0])
        self.reset([0] * schedule.num_environments)

    def reset(self, episodes: Sequence[int]) -> None:
        """Begins the episodes of these numbers, one per environment."""
        self.seeds = EpisodeSeeds(self._seed, episodes)
        self._observations = self.environments.reset(self.seeds.running(), self.seeds)

    def act(self, learner: Learner, params: Params, step: int, seconds: dict[str, float]) -> Batch:
        """Acts for a round from `step` on; returns its transitions, NumPy f32[round_steps, ...]."""
        schedule, rows = self._schedule, []
        for first in range(step, step + schedule.round_steps, schedule.num_environments):
            started = time.perf_counter()
            own = ramped(learner, schedule.ramps, first)  # acting may depend on it, as TD3's noise
            actions = self._actions(own, params, first)
            if not np.isfinite(actions).all():  # finite parameters can be too large
                actions = np.where(np.isfinite(actions), actions, np.float32(0.0))
                self.bad_actions_at = first if self.bad_actions_at is None else self.bad_actions_at
            acted = time.perf_counter()
            result = self.environments.step(actions)
            transitions, self._observations = result.transitions(self._observations), result.observations
            if (ended := result.ended).any():
                means = result.returns[ended].mean(), result.lengths[ended].mean()
                self.episode = dict(zip(EPISODE_METRICS, means, strict=True))
            rows.append(self._preprocessing.online(transitions))
            seconds["acting"] += acted - started
            seconds["environment"] += time.perf_counter() - acted
        return jax.tree.map(lambda *fields: np.concatenate(fields), *rows)

    def _actions(self, learner: Learner, params: Params, step: int) -> np.ndarray:
        """Returns actions f32[N, A] at `step`: by the policy, or random in the warm-up."""
        if step < self._schedule.warmup_steps:
            shape = (self._schedule.num_environments, *self.environments.action_space.shape)
            return np.random.default_rng((self._seed, step)).uniform(-1.0, 1.0, shape).astype(np.float32)
        observations = self._preprocessing.observations(self._observations)
        arguments = learner, params, observations, self._key, np.int32(step)
        if std := self._schedule.exploration_noise:
            return np.asarray(_act_noisily(*arguments, np.float32(std)))
        return np.asarray(_act(*arguments))


@jax.jit
def _act(learner: Learner, params: Params, observations: Array, key: PRNGKey, step: Array) -> Array:
    return learner.act(params, observations, jax.random.fold_in(key, step), False)


@jax.jit
def _act_noisily(
    learner: Learner, params: Params, observations: Array, key: PRNGKey, step: Array, std: Array
) -> Array:
    """Like `_act`, but adds Gaussian noise and clips the actions to [-1, 1]."""
    key_act, key_noise = jax.random.split(jax.random.fold_in(key, step))
    actions = learner.act(params, observations, key_act, False)
    return jnp.clip(actions + std * jax.random.normal(key_noise, actions.shape), -1.0, 1.0)
