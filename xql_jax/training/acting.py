"""Members that act: each fills a replay buffer of its own, in environments on the host, and learns from it.

They act in rounds, and learn in a thread meanwhile. A *round* is a fixed number of environment steps,
followed by the updates that these make due.
"""

import concurrent.futures
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from xql_jax.data import replay
from xql_jax.data.preprocessing import Preprocessing
from xql_jax.data.replay import PriorData, ReplayBuffer
from xql_jax.data.views import discounted_returns
from xql_jax.envs.vector import EpisodeSeeds, Local, VectorEnv
from xql_jax.errors import EnvironmentFailure
from xql_jax.numerics.jax_settings import settings_of_jax
from xql_jax.rollout.acting import ActionQueue
from xql_jax.training.checkpoints import Items, Progress, Snapshot
from xql_jax.training.members import Divergence, Member, copied_to, member_keys, ramped
from xql_jax.training.population import Population
from xql_jax.training.replay_files import ReplayFiles
from xql_jax.training.replaying import ActingTrainer
from xql_jax.training.schedule import ActingSchedule
from xql_jax.training.trainer import EPISODE_METRICS
from xql_jax.types import (
    AnyBatch,
    Array,
    Batch,
    CalibratedBatch,
    Environment,
    EpisodeBatch,
    Learner,
    Metrics,
    Params,
    PRNGKey,
    State,
)

UNCHANGED = Preprocessing()
# A member's transitions of a round, NumPy f32[round_steps, ...], `RunningReturns.known`, and the first step
# with actions that were not finite, if any.
Acted = tuple[Batch, list[tuple[int, float]], int | None]


class RunningReturns:
    """The rewards of N environments' running episodes; when these end, their returns-to-go are known."""

    def __init__(self, number: int):
        self._rows: list[list[tuple[int, float, float]]] = [[] for _ in range(number)]
        self.known: list[tuple[int, float]] = []  # number and return-to-go of episodes' transitions

    def step(self, first: int, batch: AnyBatch, ended: np.ndarray, learner: Any) -> CalibratedBatch:
        """Returns the transitions `first`, ..., first + N - 1 with an unknown return-to-go, -inf.

        `ended` bool[N] is true where an episode ends, by a terminal or a time-out.
        """
        for index, rows in enumerate(self._rows):
            rows.append((first + index, float(batch.rewards[index]), float(batch.masks[index])))
            if ended[index]:
                numbers, rewards, masks = zip(*rows, strict=True)
                is_last = np.arange(len(rows)) == len(rows) - 1
                returns = discounted_returns(rewards, masks, is_last, learner.discount, learner.endless)
                self.known += zip(numbers, returns.tolist(), strict=True)
                rows.clear()
        unknown: Any = np.full(len(ended), -np.inf, np.float32)  # NumPy's
        return CalibratedBatch(**batch._asdict(), returns_to_go=unknown)


def with_returns(buffers: ReplayBuffer, known: Sequence[Sequence[tuple[int, float]]]) -> ReplayBuffer:
    """Returns buffers f32[m, capacity, ...] with the returns in `known` of each buffer's episodes.

    `known` is `RunningReturns.known`. Returns of transitions that are overwritten already are left out.
    """
    returns = np.array(buffers.data.returns_to_go)
    for ring, inserted, pairs in zip(returns, np.asarray(buffers.inserted), known, strict=True):
        for number, value in pairs:
            if number >= inserted - len(ring):
                ring[number % len(ring)] = value
    placed = copied_to(returns, buffers.data.rewards.sharding)
    return ReplayBuffer(buffers.data._replace(returns_to_go=placed), buffers.inserted)


class Collector:
    """One member's environments, and how it acts in them."""

    def __init__(
        self, member: Member, environments: VectorEnv, schedule: ActingSchedule, preprocessing: Preprocessing
    ):
        self.environments, self._schedule, self._preprocessing = environments, schedule, preprocessing
        self.episode = dict.fromkeys(EPISODE_METRICS, math.nan)  # means over those that ended last
        self._seed = member.seed
        # Acting is on the CPU, so it never waits for an accelerator.
        self._key = jax.device_put(member_keys(member).acting, jax.devices("cpu")[0])
        self.reset([0] * schedule.num_environments)

    def reset(self, episodes: Sequence[int]) -> None:
        self.seeds = EpisodeSeeds(self._seed, episodes)
        self._observations = self.environments.reset(self.seeds.running(), self.seeds)
        self._returns = RunningReturns(self._schedule.num_environments)
        self._queue = ActionQueue(self._schedule.horizon.action_chunk)

    def act(self, learner: Learner, params: Params, step: int) -> Acted:
        """Acts for a round from `step` on."""
        schedule, rows, bad_at = self._schedule, [], None
        self._returns.known = []
        for first in range(step, step + schedule.round_steps, schedule.num_environments):
            own = ramped(learner, schedule.ramps, first)  # acting may depend on it, as TD3's noise
            actions = self._queue.next(functools.partial(self._decided, own, params, first))
            if not np.isfinite(actions).all():  # finite parameters can be too large
                actions = np.where(np.isfinite(actions), actions, np.float32(0.0))
                bad_at = first if bad_at is None else bad_at
            result = self.environments.step(self._preprocessing.action_bounds.to_environment(actions))
            transitions, self._observations = result.transitions(self._observations), result.observations
            transitions = transitions._replace(actions=np.clip(actions, -1.0, 1.0))  # as learners see them
            if (ended := result.ended).any():
                means = result.returns[ended].mean(), result.lengths[ended].mean()
                self.episode = dict(zip(EPISODE_METRICS, means, strict=True))
            batch = self._preprocessing.of_environment(transitions)
            if schedule.horizon.steps > 1:
                batch = EpisodeBatch._make((*batch, result.ended.astype(np.float32)))
            self._queue.begin(result.ended)
            if learner.batch_type is CalibratedBatch:
                batch = self._returns.step(first, batch, result.ended, learner)
            rows.append(batch)
        batch = jax.tree.map(lambda *fields: np.concatenate(fields), *rows)
        return batch, self._returns.known, bad_at

    def _decided(self, learner: Learner, params: Params, step: int) -> np.ndarray:
        """Returns actions f32[N, h * A] at `step`: by the policy, or random in the warm-up."""
        if step < self._schedule.warmup_steps:
            size = self._schedule.horizon.action_chunk * self.environments.action_space.shape[0]
            shape = self._schedule.num_environments, size
            return np.random.default_rng((self._seed, step)).uniform(-1.0, 1.0, shape).astype(np.float32)
        observations = self._preprocessing.observations(self._observations)
        spread = self._schedule.acting_temperature, self._schedule.exploration_noise
        return np.asarray(_sampled_actions(*spread, learner, params, observations, self._key, np.int32(step)))


class HostTrainer(ActingTrainer):
    """Each member acts in its own environments on the host, and fills its own replay buffer.

    The updates of a round run in a thread while the next round acts. Round j acts by the policy after the
    updates of round j - 2, even if those of round j - 1 are already done. So the results do not depend on
    timing. A checkpoint does not hold the episodes in progress: after `resume` new episodes start.

    Args:
        make: makes one environment.
        on_rewards: called with the first step of each round, counted from the hand-over, and the members'
            rewards f32[M, round_steps] as learners see them.
        handover, prior_data, together: see `ActingTrainer`.
    """

    def __init__(
        self,
        learner: Learner,
        members: Sequence[Member],
        make: Callable[[], Environment],
        schedule: ActingSchedule,
        files: ReplayFiles,
        preprocessing: Preprocessing = UNCHANGED,
        on_rewards: Callable[[int, np.ndarray], object] = lambda step, rewards: None,
        handover: int = 0,
        prior_data: PriorData | None = None,
        together: bool | None = None,
    ):
        self._on_rewards = on_rewards
        vector_env: Callable[..., VectorEnv] = Local
        if schedule.processes:
            from xql_jax.envs.processes import Processes  # half a second of imports

            vector_env = functools.partial(Processes, timeout=schedule.environment_timeout)
        number = schedule.num_environments
        self._collectors = [
            Collector(member, vector_env(make, number), schedule, preprocessing) for member in members
        ]
        environments = self._collectors[0].environments
        sizes = environments.observation_space.shape[0], environments.action_space.shape[0]
        super().__init__(learner, members, schedule, files, sizes, handover, prior_data, together)
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="learner")
        self._learning: concurrent.futures.Future | None = None  # of the round before
        # Each member's, after the last round but one and after the last; none before the first `advance`.
        self._policies: list[list[Params]] = []
        self._record_episodes()

    def advance(self, stop: int) -> Metrics:
        population = self.population
        population.compile()
        if not self._policies:
            self._ramp(self.step)
            learners = [population.member(index)[0] for index in range(len(self._collectors))]
            self._learners = jax.device_put(learners, jax.devices("cpu")[0])
            self._policies = [_policies(population)] * 2
        while self.step < stop:
            acted = self._act_for_a_round()
            self._on_rewards(self.step - self.handover, np.stack([batch.rewards for batch, *_ in acted]))
            self._await_learner()
            for index, (*_, bad_at) in enumerate(acted):  # only now, because the learner is idle
                if bad_at is not None:
                    divergence = Divergence(self.handover + bad_at, "actions")
                    population.diverged.setdefault(index, divergence)
            self._learning = self._thread.submit(self._learn, self.step, acted)
            self.step += self.stride
            self._record_episodes()
        self._await_learner()
        if not self.schedule.updates_by(self.step - self.handover):
            return {}
        episodes = [collector.episode for collector in self._collectors]
        means = {name: jnp.float32([each[name] for each in episodes]) for name in EPISODE_METRICS}
        return population.gathered(lambda members: members.metrics) | means

    def snapshot(self, progress: Progress) -> Snapshot:
        snapshot = super().snapshot(progress)
        for member, episodes in zip(self.population.members, self._episodes, strict=True):
            snapshot.progress.members[member.name].update(episodes)
        return snapshot

    def resume(self, items: Items, progress: Progress) -> None:
        super().resume(items, progress)
        for member, collector in zip(self.population.members, self._collectors, strict=True):
            content = progress.members[member.name]
            collector.reset(content["episodes"])
            means = content.get("last_episodes", collector.episode)  # else of an earlier version
            collector.episode = {name: float(mean) for name, mean in means.items()}
        self._policies = []
        self._record_episodes()

    def close(self) -> None:
        self._thread.shutdown()
        for collector in self._collectors:
            collector.environments.close()

    def _act_for_a_round(self) -> list[Acted]:
        acted, begun, members = [], self.step - self.handover, self.population.members
        # After the round before the last: the newest while the last one is still learned.
        policies = self._policies[1 if self._learning else 0]
        for member, collector, learner, params in zip(
            members, self._collectors, self._learners, policies, strict=True
        ):
            try:
                acted.append(collector.act(learner, params, begun))
            except EnvironmentFailure as error:
                self._await_learner()
                whose = f"{member}: " if len(members) > 1 else ""
                raise EnvironmentFailure(f"{whose}{error}") from error
        return acted

    @settings_of_jax()
    def _learn(self, step: int, acted: Sequence[Acted]) -> None:
        """Inserts the transitions of the round from `step` on, and does the due updates; in the thread."""
        self._ramp(step)
        for group in self.population.groups:
            batches, known, _ = zip(*(acted[index] for index in group.indices), strict=True)
            new = jax.tree.map(lambda *fields: np.stack(fields), *batches)
            members = group.members
            buffer = _insert(members.buffer, jax.device_put(new, group.split))
            if any(known):
                buffer = with_returns(buffer, known)
            group.members = members.replace(buffer=buffer)
        begun = step - self.handover
        first, stop = (self.handover + self.schedule.updates_by(at) for at in (begun, begun + self.stride))
        if first < stop:
            self.population.train(first, stop, (step, step + self.stride))
        jax.block_until_ready([group.members for group in self.population.groups])

    def _ramp(self, step: int) -> None:
        """Gives the members' learners the values of their ramps at `step`."""
        ramps = self.schedule.ramps
        for group in self.population.groups:
            learner = ramped(group.members.learner, ramps, step - self.handover, len(group.indices))
            group.members = group.members.replace(learner=jax.device_put(learner, group.split))

    def _await_learner(self) -> None:
        """Waits for the round being learned, if any."""
        if self._learning is None:
            return
        learning, self._learning = self._learning, None
        learning.result()
        self._policies = [self._policies[1], _policies(self.population)]

    def _record_episodes(self) -> None:
        """A checkpoint needs those of this step if an environment fails later."""
        self._episodes = [
            {"episodes": list(collector.seeds.episodes), "last_episodes": collector.episode}
            for collector in self._collectors
        ]


def _policies(population: Population) -> list[Params]:
    """Returns what each member's actor needs, on the CPU."""
    policies: list[Params] = []
    for group in population.groups:
        policies += _acting_params(group.members.learner, group.members.state)
    policies = policies[: len(population.members)]
    cpu = jax.devices("cpu")[0]
    there = all(leaf.devices() == {cpu} for leaf in jax.tree.leaves(policies))
    return policies if there else jax.device_put(policies, cpu)  # 0.2 ms


@jax.jit
def _acting_params(learners: Learner, states: State) -> list[Params]:
    params = jax.vmap(lambda learner, state: learner.actor(state))(learners, states)
    number = len(jax.tree.leaves(params)[0])
    return [jax.tree.map(lambda leaf, place=place: leaf[place], params) for place in range(number)]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _sampled_actions(
    temperature: float,
    noise: float,
    learner: Learner,
    params: Params,
    observations: Array,
    key: PRNGKey,
    step: Array,
) -> Array:
    """Samples actions f32[N, A], as far from the policy's centre as the temperature says, with noise."""
    key = jax.random.fold_in(key, step)
    key_act, key_noise = jax.random.split(key) if noise else (key, key)
    actions = learner.act(params, observations, key_act, False)
    if temperature != 1:
        centre = learner.act(params, observations, jax.random.key(0), True)  # as in evaluations
        actions = jnp.clip(centre + temperature * (actions - centre), -1.0, 1.0)
    if noise:
        actions = jnp.clip(actions + noise * jax.random.normal(key_noise, actions.shape), -1.0, 1.0)
    return actions


_insert = jax.jit(jax.vmap(replay.insert), donate_argnums=0)
