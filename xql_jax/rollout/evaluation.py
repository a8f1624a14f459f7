"""Evaluates a population of policies in the same episodes, with one batched policy call per step."""

import dataclasses
import logging
import math
from collections.abc import Callable

import numpy as np

from xql_jax.envs import EnvironmentMaker
from xql_jax.envs.vector import UNKNOWN_SUCCESS, VectorEnv, VectorStep, repeats
from xql_jax.rollout import rollout
from xql_jax.rollout.acting import Act
from xql_jax.suites.tasks import OWN, Task

LOG = logging.getLogger(__name__)
EVALUATION_START_SEED = 20_000  # default of the tools; evaluations during training use another one
MOST_EPISODES = 1_000_000


@dataclasses.dataclass(frozen=True)
class EpisodeResults:
    """The results of E episodes of each of M members (policies evaluated together)."""

    returns: np.ndarray  # f64[M, E], undiscounted, in the task's own reward units
    lengths: np.ndarray  # i64[M, E], steps
    successes: np.ndarray | None  # bool[M, E]; None if no environment has ever said

    def columns(self, task: Task) -> dict[str, np.ndarray]:
        """Returns each episode's number, return, score, length and, if known, success: [M, E] each."""
        columns = {
            "episode": np.indices(self.returns.shape)[1],
            "return": self.returns,
            "score": task.normalized_score(self.returns, self.successes),
            "length": self.lengths,
        }
        if self.successes is not None:
            columns["success"] = 1 * self.successes
        return columns

    def means(self, task: Task) -> dict[str, list[float]]:
        """Returns by name each member's mean return, score, length and, if known, rate of success."""
        returns = self.returns.mean(axis=1)
        rates = None if self.successes is None else self.successes.mean(axis=1)
        score = np.asarray(task.normalized_score(returns, rates))
        means = {"return": returns, "score": score, "length": self.lengths.mean(axis=1)}
        if rates is not None:
            means["success_rate"] = rates
        return {name: mean.tolist() for name, mean in means.items()}


class Evaluator:
    """Runs the same E episodes for each of M members (policies), and the same again at every call.

    Episode e starts from a seed made of (seed, e), so all members see the same starts, in every run.
    Episodes run in batches, which begin together, so that policies can remember. At most the maker's
    `max_environments` exist at once, or one per member if that is more.

    With `checks_seeds` a user's environment is warned of if its seed does not determine an episode.
    """

    def __init__(
        self,
        task: Task,
        num_members: int,
        num_episodes: int,
        seed: int,
        maker: EnvironmentMaker,
        checks_seeds: bool = True,
    ):
        # Whether any step has said if its episode succeeded. Then an episode without such a step has failed.
        self.tells_success = False
        self._num_members = num_members
        self._seeds = [episode_seed(seed, episode) for episode in range(num_episodes)]
        affordable = max(1, maker.max_environments // num_members)
        # K, the episodes of a batch: the fewest for that many batches.
        self._batch_size = math.ceil(num_episodes / math.ceil(num_episodes / affordable))
        self.env = env = maker.vector_env(task, num_members * self._batch_size)
        # f32[E, O], the first observations of the last run's episodes.
        self.starts = np.empty((0, *env.observation_space.shape), np.float32)
        self.sizes = env.observation_space.shape[0], env.action_space.shape[0]
        try:  # what the run is to tell
            self.caveats = warn_of_its_seeds(env, task, self._seeds[0]) if checks_seeds else []
        except BaseException:
            self.close()
            raise

    def run(self, policy: Act, on_step: Callable[[VectorStep], object] = lambda step: None) -> EpisodeResults:
        """Runs all episodes, K of each member at a time, by a policy from f32[M, K, O] to [M, K, A].

        Places whose episode is over keep its last observation, places without an episode are zero; their
        actions are not used. `on_step` is called after each step of M * K environments, member by member.
        """
        members, places, count = self._num_members, self._batch_size, len(self._seeds)
        seeds = [*self._seeds, *[None] * (-count % places)]  # the last batch may have empty places
        shape = members, len(seeds)
        returns, lengths = np.zeros(shape), np.zeros(shape, np.int64)
        successes = np.full(shape, UNKNOWN_SUCCESS)
        for first in range(0, count, places):
            batch = slice(first, first + places)
            starts = self.env.reset(seeds[batch] * members)
            self.starts = np.concatenate([self.starts[:first], starts[: min(places, count - first)]])
            for _, step in rollout(self.env, policy, starts, members):
                ended = step.ended.reshape(members, places)
                if ended.any():
                    returns[:, batch][ended] = step.returns[step.ended]
                    lengths[:, batch][ended] = step.lengths[step.ended]
                told = step.successes != UNKNOWN_SUCCESS
                successes[:, batch][told.reshape(members, places)] = step.successes[told]
                on_step(step)
        self.tells_success |= bool((successes != UNKNOWN_SUCCESS).any())
        known = successes[:, :count] == 1 if self.tells_success else None
        return EpisodeResults(returns[:, :count], lengths[:, :count], known)

    def close(self) -> None:
        self.env.close()


def warn_of_its_seeds(env: VectorEnv, task: Task, seed: int) -> list[str]:
    """Warns if a user's environment does not repeat an episode from its seed; returns the line, if any."""
    if task.suite is not OWN or repeats(env, seed):
        return []
    line = (
        f"{task.name}: two episodes from one seed differ: it ignores the seed, or keeps a state from one "
        "episode to the next, as NormalizeObservation and NormalizeReward do. Scores and rows then depend on "
        "the number of environments and on the episodes before"
    )
    LOG.warning(line)
    return [line]


def episode_seed(seed: int, episode: int) -> int:
    """Returns the seed of one episode, from the evaluation's seed and the episode's number."""
    return int(np.random.SeedSequence((seed, episode)).generate_state(1)[0])
