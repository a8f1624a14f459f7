"""Episodes of a population of policies in lock-step: one batched policy call a step."""

import concurrent.futures
import dataclasses
import math
from collections.abc import Callable

import numpy as np

from xql_jax.envs import Suite, get_suite
from xql_jax.evaluation.policies import Act, Remembering
from xql_jax.tasks import Task
from xql_jax.types import Environment

Slot = tuple[int, int]  # member, place in the batch


@dataclasses.dataclass(frozen=True)
class EpisodeResults:
    """What E episodes of each of M members gave; `paths` only where asked for."""

    returns: np.ndarray  # f64[M, E], undiscounted, in the task's own reward units
    lengths: np.ndarray  # i64[M, E], steps
    successes: np.ndarray | None  # bool[M, E]; None where the task has no criterion of success
    paths: list[list[np.ndarray]] | None  # [member][episode], observations f32[length + 1, O]


class Evaluator:
    """Runs the same episodes for every member, each time anew.

    Episode e starts from a seed made of (seed, e): all members see the same starts, in every run. The results
    depend neither on earlier runs nor on `max_environments`, but for what a policy rounds differently in
    another batch shape. Environments are made when first needed and kept until `close`.

    Args:
        task: whose environments to run.
        num_members: M, policies.
        num_episodes: E, of each member, at least 1.
        seed: of the starts and of the environments' noise.
        max_environments: at most so many exist at once, or one a member if that is more; None: the suite's.
        suite: makes the environments; None: `get_suite(task)`.
    Raises:
        UserError: if there is no environment for the task.
    """

    def __init__(
        self,
        task: Task,
        num_members: int,
        num_episodes: int,
        seed: int,
        max_environments: int | None = None,
        suite: Suite | None = None,
    ):
        self._task = task
        self._suite = suite or get_suite(task)
        self._num_members = num_members
        self._seeds = [episode_seed(seed, episode) for episode in range(num_episodes)]
        affordable = max(1, (max_environments or self._suite.max_environments) // num_members)
        num_waves = math.ceil(num_episodes / affordable)
        self._num_slots = math.ceil(num_episodes / num_waves)  # K: no more than even waves need
        self._environments: dict[Slot, Environment] = {}
        num_threads = self._suite.num_threads
        self._threads = concurrent.futures.ThreadPoolExecutor(num_threads) if num_threads > 1 else None

    @property
    def observation_dim(self) -> int:
        return self._environment((0, 0)).observation_space.shape[0]

    @property
    def action_dim(self) -> int:
        return self._environment((0, 0)).action_space.shape[0]

    def run(
        self, act: Act, record_paths: bool = False, on_ended: Callable[[int], object] | None = None
    ) -> EpisodeResults:
        """Runs all episodes, K of each member at a time.

        Args:
            act: the policies, from f32[M, K, O] to f32[M, K, A], called once a step always with the same
                shape; it must not keep its argument. Actions are clipped to the action space. Places of
                episodes that are over keep their last observation, places without an episode are zero; their
                actions are not used. Policies with a memory are told when episodes begin, all at once, and
                what rewards f64[M, K] each step gave, 0 where none ran.
            record_paths: keep all observations.
            on_ended: called with the number of episodes that a step ended.
        Raises:
            FloatingPointError: if an action is NaN or infinite.
            ValueError: if the actions' shape is wrong.
        """
        returns = np.zeros((self._num_members, len(self._seeds)))
        lengths = np.zeros(returns.shape, np.int64)
        successes = np.full(returns.shape, -1, np.int8)  # -1: nothing was said of success
        paths: list[list[np.ndarray]] = [[] for _ in range(self._num_members)]
        for start in range(0, len(self._seeds), self._num_slots):
            wave = slice(start, start + self._num_slots)
            history = self._run_wave(
                act, wave, returns[:, wave], lengths[:, wave], successes[:, wave], record_paths, on_ended
            )
            if record_paths:
                for (member, k), length in np.ndenumerate(lengths[:, wave]):
                    paths[member].append(np.stack([step[member, k] for step in history[: length + 1]]))
        known = successes.min() >= 0
        return EpisodeResults(
            returns, lengths, successes.astype(bool) if known else None, paths if record_paths else None
        )

    def close(self) -> None:
        """Closes the environments."""
        for environment in self._environments.values():
            environment.close()
        self._environments.clear()
        if self._threads:
            self._threads.shutdown()

    def _run_wave(
        self,
        act: Act,
        wave: slice,
        returns: np.ndarray,
        lengths: np.ndarray,
        successes: np.ndarray,
        record: bool,
        on_ended: Callable[[int], object] | None,
    ) -> list[np.ndarray]:
        """Runs a wave's episodes; fills returns, lengths, successes [M, <= K]; gives what it recorded."""
        seeds = self._seeds[wave]
        running: list[Slot] = [(member, k) for member in range(self._num_members) for k in range(len(seeds))]
        starts = {slot: self._environment(slot).reset(seed=seeds[slot[1]])[0] for slot in running}
        shape = self._num_members, self._num_slots
        observations = np.zeros((*shape, *starts[0, 0].shape), np.float32)
        for slot, start in starts.items():
            observations[slot] = start
        over = np.zeros(shape, bool)
        action_space = self._environment((0, 0)).action_space
        history = [observations.copy()]
        memory = act if isinstance(act, Remembering) else None
        rewards = np.zeros(shape)
        if memory:
            memory.begin()

        def step(slots: list[Slot]) -> None:
            for slot in slots:
                outcome = self._environments[slot].step(actions[slot])
                observations[slot], reward, terminated, truncated, info = outcome
                returns[slot] += reward
                rewards[slot] = reward
                lengths[slot] += 1
                if "success" in info:
                    successes[slot] = info["success"]
                over[slot] = terminated or truncated

        while running:
            actions = np.asarray(act(observations))
            self._check(actions, (*shape, *action_space.shape), wave)
            actions = np.clip(actions, action_space.low, action_space.high)
            rewards[:] = 0.0
            if self._threads:
                n = self._suite.num_threads
                list(self._threads.map(step, (running[i::n] for i in range(n))))
            else:
                step(running)
            if memory:
                memory.remember(rewards)
            before = len(running)
            running = [slot for slot in running if not over[slot]]
            if on_ended and len(running) < before:
                on_ended(before - len(running))
            if record:
                history.append(observations.copy())
        return history

    def _environment(self, slot: Slot) -> Environment:
        if slot not in self._environments:
            self._environments[slot] = self._suite.make(self._task)
        return self._environments[slot]

    def _check(self, actions: np.ndarray, shape: tuple[int, ...], wave: slice) -> None:
        if actions.shape != shape:
            raise ValueError(f"{self._task.name}: the policy returned actions {actions.shape}, not {shape}")
        if not np.isfinite(actions).all():
            member, k = np.argwhere(~np.isfinite(actions))[0][:2]
            raise FloatingPointError(
                f"{self._task.name}: member {member} returned a non-finite action in episode {wave.start + k}"
            )


def episode_seed(seed: int, episode: int) -> int:
    """Returns the seed of an episode of the evaluation that has this seed."""
    return int(np.random.SeedSequence((seed, episode)).generate_state(1)[0])
