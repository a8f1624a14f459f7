"""Evaluates a population of policies in the same episodes, with one batched policy call per step."""

import logging
import math
from collections.abc import Callable

import numpy as np

from xql_jax.envs import EnvironmentMaker
from xql_jax.envs.vector import VectorEnv, VectorStep, repeats
from xql_jax.errors import UserError
from xql_jax.rollout import rollout
from xql_jax.rollout.acting import Act
from xql_jax.rollout.quantities import QUANTITIES, EpisodeResults
from xql_jax.suites.tasks import OWN, Task

LOG = logging.getLogger(__name__)
EVALUATION_START_SEED = 20_000  # default of the tools; evaluations during training use another seed
MOST_EPISODES = 1_000_000


class Evaluator:
    """Runs the same E episodes for each of M members (policies), and the same again at every call.

    Episode e starts from a seed made of (seed, e), so all members see the same starts, in every run.
    Episodes run in batches, which begin together, so that policies can remember. At most the maker's
    `max_environments` exist at once, or as many as members, if these are more.

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
        self._task, self._num_members = task, num_members
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
        reading = {
            name: (quantity.read, quantity.start) for name, quantity in QUANTITIES.items() if quantity.read
        }
        numbers = {name: np.full((members, len(seeds)), np.nan) for name in reading}  # of the episodes
        for first in range(0, count, places):
            batch = slice(first, first + places)
            starts = self.env.reset(seeds[batch] * members)
            self.starts = np.concatenate([self.starts[:first], starts[: min(places, count - first)]])
            now = {name: np.full(members * places, start) for name, (_, start) in reading.items()}
            for _, step in rollout(self.env, policy, starts, members):
                now = {name: read(now[name], step) for name, (read, _) in reading.items()}
                if step.ended.any():
                    ended = step.ended.reshape(members, places)
                    for name, of_all in numbers.items():
                        of_all[:, batch][ended] = now[name][step.ended]
                on_step(step)
        return self._results({name: of_all[:, :count] for name, of_all in numbers.items()})

    def _results(self, numbers: dict[str, np.ndarray]) -> EpisodeResults:
        """Takes the numbers of the episodes f64[M, E] by quantity."""
        for name, of_all in numbers.items():
            if np.isnan(of_all).all() and not QUANTITIES[name].may_lack:
                raise UserError(
                    f"{self._task.name}: no episode tells the quantity {name}: declare it with "
                    "may_lack=True, or look at how it is read"
                )
        returns, lengths, successes = (numbers.pop(name) for name in ("return", "length", "success_rate"))
        self.tells_success |= not np.isnan(successes).all()
        return EpisodeResults(
            returns, lengths.astype(np.int64), successes == 1 if self.tells_success else None, numbers
        )

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
