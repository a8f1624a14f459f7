"""Online training with environments on the host: members act in rounds, and learn in a thread meanwhile.

A round is a fixed number of environment steps, followed by the updates that these make due.
"""

import concurrent.futures
import functools
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from xql_jax.data import replay
from xql_jax.data.preprocessing import Preprocessing
from xql_jax.data.replay import PriorData
from xql_jax.envs.vector import PATIENT, EpisodeSeeds, Local, Patience, VectorEnv
from xql_jax.errors import EnvironmentFailure
from xql_jax.training.checkpoints import Progress
from xql_jax.training.members import Member
from xql_jax.training.population import Population
from xql_jax.training.replay_files import BufferFiles, ReplayFiles
from xql_jax.training.returns import RunningReturns, with_returns
from xql_jax.training.schedule import OnlineSchedule, ramped
from xql_jax.training.strategy import EPISODE_METRICS, Divergence, Group, Piece, Strategy, member_keys
from xql_jax.training.updates import MemberState, update
from xql_jax.types import Array, Batch, CalibratedBatch, Environment, Learner, Metrics, Params, PRNGKey, State

LOG = logging.getLogger(__name__)
WORK = ("environment", "acting", "waiting for the learner")


class Actor:
    """One member's environments, and how it acts in them.

    Attributes:
        bad_actions_at: the first step with actions that were not finite, if any.
        episode: means over the episodes that ended last.
        known: the last round's `RunningReturns.known`, for a learner from `CalibratedBatch`.
    """

    def __init__(
        self, member: Member, environments: VectorEnv, schedule: OnlineSchedule, preprocessing: Preprocessing
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
        self._returns = RunningReturns(self._schedule.num_environments)

    def act(self, learner: Any, params: Params, step: int, seconds: dict[str, float]) -> Batch:
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
            result = self.environments.step(self._preprocessing.action_bounds.to_environment(actions))
            transitions, self._observations = result.transitions(self._observations), result.observations
            transitions = transitions._replace(actions=np.clip(actions, -1.0, 1.0))  # as learners see them
            if (ended := result.ended).any():
                means = result.returns[ended].mean(), result.lengths[ended].mean()
                self.episode = dict(zip(EPISODE_METRICS, means, strict=True))
            batch = self._preprocessing.online(transitions)
            if learner.batch_type is CalibratedBatch:
                batch = self._returns.step(first, batch, result.ended, learner.discount)
            rows.append(batch)
            seconds["acting"] += acted - started
            seconds["environment"] += time.perf_counter() - acted
        self.known = self._returns.known()
        return jax.tree.map(lambda *fields: np.concatenate(fields), *rows)

    def _actions(self, learner: Learner, params: Params, step: int) -> np.ndarray:
        """Returns actions f32[N, A] at `step`: by the policy, or random in the warm-up."""
        if step < self._schedule.warmup_steps:
            shape = (self._schedule.num_environments, *self.environments.action_space.shape)
            return np.random.default_rng((self._seed, step)).uniform(-1.0, 1.0, shape).astype(np.float32)
        observations = self._preprocessing.observations(self._observations)
        spread = self._schedule.acting_temperature, self._schedule.exploration_noise
        return np.asarray(_act(*spread, learner, params, observations, self._key, np.int32(step)))


class Host(Strategy):
    """Each member acts in its own environments on the host, and fills its own replay buffer.

    The updates of a round run in a thread while the next round acts. Round j acts by the policy after the
    updates of round j - 2, even if those of round j - 1 are already done. So the results do not depend on
    timing. A checkpoint does not hold the episodes in progress: after `resume` new episodes start.

    Args:
        make: makes one environment.
        schedule: `round_steps` must be a multiple of N.
        files: of the replay buffers; each member has its own folder in them.
        patience: how long to wait for environments that run in their own processes.
        first_step: the population's step before the first round; also the number of updates until then.
        prior_data: learned from besides the buffer.
        preprocessing: of the environments' transitions, and of the actions taken in them.
    Attributes:
        restarts: the divergences after which a member's networks were reinitialised, by index.
    """

    unit = "step"

    def __init__(
        self,
        make: Callable[[], Environment],
        schedule: OnlineSchedule,
        files: ReplayFiles,
        patience: Patience = PATIENT,
        *,
        first_step: int = 0,
        prior_data: PriorData | None = None,
        preprocessing: Preprocessing | None = None,
    ):
        self.schedule, self.stride, self.first_step = schedule, schedule.round_steps, first_step
        self.seconds = dict.fromkeys(WORK, 0.0)
        self.restarts: dict[int, list[Divergence]] = {}
        self._make, self._patience, self._prior = make, patience, prior_data
        self._preprocessing = preprocessing or Preprocessing()
        self._files = BufferFiles(files, schedule.keep_checkpoints, schedule.buffer_size)
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="learner")
        self._learning: concurrent.futures.Future | None = None  # of the round before
        self._placed: dict[Any, Any] = {}
        self._actors: list[Actor] = []
        self._policies: tuple[list[Params], list[Params]] = [], []  # after the last round but one; the last

    def open(self, population: Population) -> None:
        for member in population.members:
            environments = self._environments()
            self._actors.append(Actor(member, environments, self.schedule, self._preprocessing))
        sizes = environments.observation_space.shape[0], environments.action_space.shape[0]
        batch_type = type(self._prior.batch) if self._prior else Batch
        self.set_sizes(self.schedule.buffer_size, *sizes, batch_type)

    def begin(self, population: Population) -> None:
        self._start_policies(population)
        self._note_episodes()

    def pieces(self, group: Group, start: int, stop: int) -> Iterator[Piece]:
        if group.shared not in self._placed:
            self._placed[group.shared] = jax.device_put(self._prior, group.shared)
        yield Piece(start, stop, self._placed[group.shared])

    def train(
        self, member: MemberState, data: PriorData | None, start: Array, stop: Array
    ) -> tuple[MemberState, Metrics]:
        def batch(key: PRNGKey, step: Array) -> Batch:
            return replay.sample(member.buffer, key, self.schedule.batch_size, data)

        return update(member, start, stop, batch)

    def advance(self, population: Population, stop: int) -> None:
        self._settle(population)
        while population.step < stop:
            rows = self._act(population)
            self._await_learner(population)
            self._settle(population)
            step = population.step
            known = [actor.known for actor in self._actors]
            self._learning = self._thread.submit(self._learn, population, step, rows, known)
            population.step += self.stride
            self._note_episodes()
        self._await_learner(population)

    def has_learned(self, step: int) -> bool:
        return self.schedule.updates_by(step - self.first_step) > 0

    def own_metrics(self) -> Metrics:
        return {
            name: jnp.array([actor.episode[name] for actor in self._actors], jnp.float32)
            for name in EPISODE_METRICS
        }

    def saving(self, population: Population) -> tuple[dict[str, Any], dict[str, Any], Callable[[], None]]:
        own = {
            member.name: {
                "restarts": [divergence.__dict__ for divergence in self.restarts.get(index, [])],
                "episodes": episodes,
            }
            for index, (member, episodes) in enumerate(zip(population.members, self._episodes, strict=True))
        }
        return {}, own, self._files.saving(population.step - self.first_step, population)

    def resume(self, population: Population, items: Mapping[str, Any], progress: Progress) -> None:
        """Restores the buffers; new episodes start."""
        self.seconds = dict(progress.held["seconds"])
        self._files.load(progress.step - self.first_step, population)
        for index, (member, actor) in enumerate(zip(population.members, self._actors, strict=True)):
            held = progress.members[member.name]
            if held["restarts"]:
                self.restarts[index] = [Divergence(**restart) for restart in held["restarts"]]
            actor.reset(held["episodes"])
        self.begin(population)

    def close(self) -> None:
        self._thread.shutdown()
        for actor in self._actors:
            actor.environments.close()

    def _act(self, population: Population) -> list[Batch]:
        """Acts for one round in all members' environments; returns one batch of transitions per member."""
        acted, step = [], population.step - self.first_step
        policies = self._policies[1 if self._learning else 0]  # a round that is being learned counts already
        for member, actor, learner, params in zip(
            population.members, self._actors, self._learners, policies, strict=True
        ):
            try:
                acted.append(actor.act(learner, params, step, self.seconds))
            except EnvironmentFailure as error:
                self._await_learner(population)
                whose = f"{member}: " if len(population.members) > 1 else ""
                raise EnvironmentFailure(f"{whose}{error}") from error
        return acted

    def _learn(self, population: Population, step: int, rows: Sequence[Batch], known: Sequence[Any]) -> None:
        """Inserts the transitions of the round from `step` on, and does the due updates; in the thread."""
        begun, first = step - self.first_step, self.first_step
        start, stop = (first + self.schedule.updates_by(at) for at in (begun, begun + self.stride))
        for group in population.groups:
            new = jax.tree.map(lambda *fields: np.stack(fields), *(rows[index] for index in group.indices))
            members = group.members
            buffer = _insert(members.buffer, jax.device_put(new, group.split))
            if any(known):
                buffer = with_returns(buffer, [known[index] for index in group.indices])
            learner = ramped(members.learner, self.schedule.ramps, begun, len(group.indices))
            group.members = members.replace(buffer=buffer, learner=jax.device_put(learner, group.split))
        if start < stop:
            population.update(start, stop, step + self.stride)
        jax.block_until_ready([group.members for group in population.groups])

    def _await_learner(self, population: Population) -> None:
        """Waits until the round being learned, if any, is done; its policy acts from the next round on."""
        if self._learning is None:
            return
        started = time.perf_counter()
        learning, self._learning = self._learning, None
        learning.result()
        self._restart(population)
        self._policies = self._policies[1], self._current_policies(population)
        self.seconds["waiting for the learner"] += time.perf_counter() - started

    def _settle(self, population: Population) -> None:
        """Handles actions that were not finite, before the next round is learned; the learner is idle."""
        for index, actor in enumerate(self._actors):
            if actor.bad_actions_at is not None:
                population.diverge(index, self.first_step + actor.bad_actions_at, "actions")
                actor.bad_actions_at = None
        if self._restart(population):
            self._start_policies(population)

    def _restart(self, population: Population) -> bool:
        """Reinitialises diverged members' networks if the schedule asks for it; returns whether it did."""
        restarting = sorted(population.diverged) if self.schedule.restarts else []
        for index in restarting:
            divergence = population.diverged[index]
            LOG.info(
                f"{population.members[index]} diverged at step {divergence.step} ({divergence.quantity} not "
                "finite); its networks begin anew"
            )
            self.restarts.setdefault(index, []).append(divergence)
            population.restart(index, len(self.restarts[index]))
            self._actors[index].bad_actions_at = None  # they were the old networks'
        return bool(restarting)

    def _start_policies(self, population: Population) -> None:
        """Uses the current policies as those after each of the two last rounds."""
        self._learners = [
            jax.device_put(population.member(index)[0], jax.devices("cpu")[0])
            for index in range(len(self._actors))
        ]
        current = self._current_policies(population)
        self._policies = current, current

    def _current_policies(self, population: Population) -> list[Params]:
        """Returns the members' actors' parameters on the CPU, where acting takes place."""
        policies: list[Params] = []
        for group in population.groups:
            policies += _actors(group.members.learner, group.members.state)
        policies = policies[: len(self._actors)]
        cpu = jax.devices("cpu")[0]
        there = all(leaf.devices() == {cpu} for leaf in jax.tree.leaves(policies))
        return policies if there else jax.device_put(policies, cpu)  # 0.2 ms

    def _note_episodes(self) -> None:
        """Keeps the running episodes' numbers: a checkpoint needs them if an environment fails later."""
        self._episodes = [list(actor.seeds.episodes) for actor in self._actors]

    def _environments(self) -> VectorEnv:
        if not self.schedule.processes:
            return Local(self._make, self.schedule.num_environments)
        from xql_jax.envs.processes import Processes  # half a second of imports

        return Processes(self._make, self.schedule.num_environments, self._patience)


@jax.jit
def _actors(learners: Any, states: State) -> list[Params]:
    """Returns one tree of parameters a member, from stacked learners and states."""
    params = jax.vmap(lambda learner, state: learner.actor(state))(learners, states)
    number = len(jax.tree.leaves(params)[0])
    return [jax.tree.map(lambda leaf, place=place: leaf[place], params) for place in range(number)]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _act(
    temperature: float,
    noise: float,
    learner: Learner,
    params: Params,
    observations: Array,
    key: PRNGKey,
    step: Array,
) -> Array:
    """Samples actions f32[N, A], at a temperature other than 1 nearer to the policy's centre or farther.

    Gaussian noise of that standard deviation is added, and the actions are clipped to [-1, 1].
    """
    key = jax.random.fold_in(key, step)
    key_act, key_noise = jax.random.split(key) if noise else (key, key)
    actions = learner.act(params, observations, key_act, False)
    if temperature != 1:
        centre = learner.act(params, observations, key_act, True)
        actions = jnp.clip(centre + temperature * (actions - centre), -1.0, 1.0)
    if noise:
        actions = jnp.clip(actions + noise * jax.random.normal(key_noise, actions.shape), -1.0, 1.0)
    return actions


_insert = jax.jit(jax.vmap(replay.insert), donate_argnums=0)
