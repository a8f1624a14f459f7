"""Runs episodes of a population of policies in lock-step, with one batched policy call per step."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from xql_jax.envs import Suite, get_suite
from xql_jax.evaluation.policies import Act, Remembering
from xql_jax.evaluation.waves import UNTOLD, HostWave, Wave
from xql_jax.tasks import Task


@dataclasses.dataclass(frozen=True)
class EpisodeResults:
    """The results of E episodes of each of M members (policies evaluated together)."""

    returns: np.ndarray  # f64[M, E], undiscounted, in the task's own reward units
    lengths: np.ndarray  # i64[M, E], steps
    successes: np.ndarray | None  # bool[M, E]; None if the task has no criterion of success
    paths: list[list[np.ndarray]] | None  # [member][episode], observations f32[length + 1, O]; if asked for


class Evaluator:
    """Runs the same episodes for every member, and the same again at every call.

    Episode e starts from a seed made of (seed, e), so all members see the same starts, in every run. The
    results do not depend on earlier runs. They depend on `max_environments` only in so far as a policy rounds
    differently for another batch shape.

    Args:
        task: the task to run environments of.
        num_members: M, policies.
        num_episodes: E, of each member, at least 1.
        seed: for the starts and the environments' noise.
        max_environments: at most so many exist at once, or one per member if that is more; None: the suite's.
        suite: makes the environments; None: `get_suite(task)`.
        kind: the class that simulates the episodes.
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
        kind: type[Wave] = HostWave,
    ):
        self._task = task
        suite = suite or get_suite(task)
        self._num_members = num_members
        self._seeds = [episode_seed(seed, episode) for episode in range(num_episodes)]
        affordable = max(1, (max_environments or suite.max_environments) // num_members)
        num_waves = math.ceil(num_episodes / affordable)
        self._num_slots = math.ceil(num_episodes / num_waves)  # K: the fewest for that many waves
        self._wave = kind(task, suite, num_members, self._num_slots)

    @property
    def observation_dim(self) -> int:
        return self._wave.observation_dim

    @property
    def action_dim(self) -> int:
        return len(self._wave.action_bounds[0])

    def run(
        self, act: Act, record_paths: bool = False, on_ended: Callable[[int], object] | None = None
    ) -> EpisodeResults:
        """Runs all episodes, K of each member at a time.

        Args:
            act: the policies, from f32[M, K, O] to f32[M, K, A], called once per step, always with the same
                shape. It must not keep its argument. Actions are clipped to the action space. Places whose
                episode is over keep its last observation, and places without an episode are zero; their
                actions are not used. Policies with a memory are told when episodes begin, all at once, and
                the rewards f64[M, K] of each step, 0 for places that did not run.
            record_paths: keep all observations.
            on_ended: called with the number of episodes that a step ended.
        Raises:
            FloatingPointError: if an action is NaN or infinite.
            ValueError: if the actions' shape is wrong.
        """
        returns = np.zeros((self._num_members, len(self._seeds)))
        lengths = np.zeros(returns.shape, np.int64)
        successes = np.full(returns.shape, UNTOLD, np.int8)
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
        self._wave.close()

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
        """Runs a wave's episodes; fills returns, lengths, successes [M, <= K]; returns what it recorded."""
        observations = self._wave.begin(self._seeds[wave])
        low, high = self._wave.action_bounds
        shape, count = observations.shape[:2], returns.shape[1]
        running = np.broadcast_to(np.arange(shape[1]) < count, shape)
        history = [observations.copy()]
        memory = act if isinstance(act, Remembering) else None
        if memory:
            memory.begin()
        while running.any():
            actions = np.asarray(act(observations))
            self._check(actions, (*shape, *low.shape), wave)
            step = self._wave.step(np.clip(actions, low, high), running)
            observations = step.observations
            returns += step.rewards[:, :count]
            lengths += running[:, :count]
            told = step.successes[:, :count] != UNTOLD
            successes[told] = step.successes[:, :count][told]
            if memory:
                memory.remember(step.rewards)
            ended = running & step.ended
            running = running & ~ended
            if on_ended and ended.any():
                on_ended(int(ended.sum()))
            if record:
                history.append(observations.copy())
        return history

    def _check(self, actions: np.ndarray, shape: tuple[int, ...], wave: slice) -> None:
        if actions.shape != shape:
            raise ValueError(f"{self._task.name}: the policy returned actions {actions.shape}, not {shape}")
        if not np.isfinite(actions).all():
            member, k = np.argwhere(~np.isfinite(actions))[0][:2]
            raise FloatingPointError(
                f"{self._task.name}: member {member} returned a non-finite action in episode {wave.start + k}"
            )


def episode_seed(seed: int, episode: int) -> int:
    """Returns the seed of one episode, from the evaluation's seed and the episode's number."""
    return int(np.random.SeedSequence((seed, episode)).generate_state(1)[0])
