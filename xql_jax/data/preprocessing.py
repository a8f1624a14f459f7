"""Transforms of data before training and of observations before acting, fitted once and saved."""

import dataclasses
from pathlib import Path
from typing import TypeVar

import numpy as np

from xql_jax.data.dataset import Dataset, spread_rows
from xql_jax.errors import Damaged, UserError
from xql_jax.files import read_record, with_numbers, write_record
from xql_jax.tasks import Task
from xql_jax.types import UNKNOWN, ActionBounds, AnyBatch, Array

Numbers = TypeVar("Numbers", np.ndarray, Array)

IQL_ACTION_BOUND = 1 - 1e-5  # keeps a tanh policy's log-density finite
SPAN = 1000.0  # range of the returns after scaling
LEAST_STD = 1e-3  # an observation's entry is never divided by less than this
SHARE_OF_COUNTS = 0.95  # of kitchen's rows; if so many have D4RL's reward, it is that of the data

KITCHEN_POSITIONS = 30  # of joints and objects; as many goal positions follow in an observation
KITCHEN_THRESHOLD = 0.3  # from the goal, in metres and radians, below which D4RL counts a task as done
# Positions of each object; in Gymnasium-Robotics' OBS_ELEMENT_INDICES, as in D4RL's.
KITCHEN_OBJECTS = {
    "bottom burner": (11, 12),
    "top burner": (15, 16),
    "light switch": (17, 18),
    "slide cabinet": (19,),
    "hinge cabinet": (20, 21),
    "microwave": (22,),
    "kettle": (23, 24, 25, 26, 27, 28, 29),
}


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Numbers fitted to a dataset, and the transforms that use them. The defaults change nothing."""

    action_bound: float = np.inf  # of the data: each action entry is clipped to ±this
    reward_scale: float = 1.0  # applied before the shift
    reward_shift: float = 0.0  # reward units
    observation_mean: tuple[float, ...] = ()  # one per entry; (): observations are not changed
    observation_std: tuple[float, ...] = ()
    most_rows: float = np.inf  # of the trajectories with the highest returns; one trajectory in any case
    counts_kitchen_tasks: bool = False  # whether an environment's rewards are replaced, see `of_environment`
    action_bounds: ActionBounds = UNKNOWN  # of the environment: learners see -1 and 1
    action_chunk: int = 1  # actions that a learner's action holds

    @property
    def chunk_bounds(self) -> ActionBounds:
        """The bounds of a learner's action, which may be a chunk of the environment's."""
        return self.action_bounds.repeated(self.action_chunk)

    def dataset(self, dataset: Dataset) -> Dataset:
        """Returns the dataset with its trajectories filtered and its rows transformed."""
        kept = dataset if self.most_rows == np.inf else best_trajectories(dataset, self.most_rows)
        return dataclasses.replace(kept, batch=self.batch(kept.batch))

    def batch(self, batch: AnyBatch) -> AnyBatch:
        """Returns transitions f32[..., ] as a learner sees them: a dataset, a minibatch or one online row."""
        fields = batch._asdict()
        if self.action_bound < np.inf:
            fields["actions"] = np.clip(batch.actions, -self.action_bound, self.action_bound)
        fields["rewards"] = self.rewards(batch.rewards)
        fields["observations"] = self.observations(batch.observations)
        fields["next_observations"] = self.observations(batch.next_observations)
        return type(batch)(**fields)

    def of_environment(self, batch: AnyBatch) -> AnyBatch:
        """Returns an environment's transitions f32[..., ], with a learner's actions, as a learner sees them.

        With `counts_kitchen_tasks`, their rewards are those of D4RL's kitchen data. These go on after the
        last task is done, so the end of an episode there is no terminal.
        """
        if not self.counts_kitchen_tasks:
            return self.batch(batch)
        rewards, masks = tasks_done(batch.observations), np.ones_like(batch.masks)
        return self.batch(batch._replace(rewards=rewards, masks=masks))  # type: ignore[arg-type]

    def observations(self, observations: Numbers) -> Numbers:
        """Returns observations f32[..., O] as a learner sees them, also before it acts."""
        if not self.observation_mean:
            return observations
        mean, std = (np.asarray(x, np.float32) for x in (self.observation_mean, self.observation_std))
        return (observations - mean) / std

    def rewards(self, rewards: Numbers) -> Numbers:
        """Returns rewards f32[...] as a learner sees them."""
        scaled = rewards if self.reward_scale == 1.0 else rewards * np.float32(self.reward_scale)
        return scaled if self.reward_shift == 0.0 else scaled + np.float32(self.reward_shift)

    def rewards_met(self, observations: np.ndarray, rewards: np.ndarray) -> np.ndarray:
        """Returns an environment's rewards f32[...] as a learner sees them, see `of_environment`.

        The observations f32[..., O] are those before the steps, unnormalised.
        """
        return self.rewards(tasks_done(observations) if self.counts_kitchen_tasks else rewards)

    def save(self, path: Path, run: str) -> None:
        """Writes it as a record of the run."""
        write_record(path, {**dataclasses.asdict(self), "run": run})

    @classmethod
    def load(cls, path: Path, run: str) -> "Preprocessing":
        """Reads what `save` wrote; Damaged if the file is missing, changed, or another run's."""
        content = with_numbers(read_record(path))
        if content.pop("run", None) != run:
            raise Damaged(f"{path}: of another run; this one is {run}")
        for name in ("observation_mean", "observation_std"):
            content[name] = tuple(content.get(name, ()))
        content["action_bounds"] = ActionBounds(*map(tuple, content.get("action_bounds", ())))
        try:
            return cls(**content)
        except TypeError as error:
            raise Damaged(f"{path}: of another version: {error}") from error


def fit_preprocessing(
    dataset: Dataset,
    task: Task | None,
    *,
    normalize_observations: bool = False,
    scale_rewards: bool = True,
    top_returns: float = 1.0,
) -> Preprocessing:
    """Fits IQL's preprocessing for a task, and whatever else is asked for.

    IQL clips actions to ±(1 - 1e-5), scales locomotion's rewards so that trajectories' returns span 1000, and
    adds -1 to AntMaze's rewards. Rewards of PyBullet's robots and of Gymnasium's tasks are scaled here, too.
    Without a task, nothing says what rewards mean, so they are not changed.

    Args:
        normalize_observations: give each entry mean 0 and standard deviation 1 over the transitions that are
            learned from.
        scale_rewards: False leaves all rewards unscaled, for a method whose settings assume that.
        top_returns: share of the transitions to learn from: whole trajectories, those of the highest returns,
            as many as fit (10%BC; Chen et al. 2021).
    """
    reward_scale, most_rows = 1.0, np.inf
    mean, std = np.empty(0), np.empty(0)
    if scale_rewards and task and task.suite.scales_rewards:
        returns = dataset.trajectory_returns()
        if (span := float(returns.max() - returns.min())) == 0:
            raise UserError(
                f"{dataset.source}: rewards cannot be scaled by the range of returns, "
                f"all {len(returns)} trajectories return {returns[0]:g}"
            )
        reward_scale = SPAN / span
    learned = dataset
    if top_returns < 1.0:
        most_rows = float(top_returns * dataset.size)
        learned = best_trajectories(dataset, most_rows)
    if normalize_observations:
        observations = np.asarray(learned.batch.observations, np.float64)
        mean, std = observations.mean(0), np.maximum(observations.std(0), LEAST_STD)
    return Preprocessing(
        action_bound=IQL_ACTION_BOUND,
        reward_scale=reward_scale,
        reward_shift=task.suite.reward_shift if task else 0.0,
        observation_mean=tuple(mean.tolist()),
        observation_std=tuple(std.tolist()),
        most_rows=most_rows,
        counts_kitchen_tasks=counts_kitchen_tasks(dataset, task),
    )


def best_trajectories(dataset: Dataset, most_rows: float) -> Dataset:
    """Returns the trajectories with the highest returns, at least one, as many as fit into so many rows."""
    lengths = dataset.trajectory_lengths()
    best_first = np.argsort(-dataset.trajectory_returns(), kind="stable")
    fits = np.cumsum(lengths[best_first]) <= most_rows
    number = max(1, np.argmin([*fits, False]))  # of trajectories before the first that does not fit
    is_kept = np.isin(np.arange(len(lengths)), best_first[:number])
    return dataset.part(np.flatnonzero(np.repeat(is_kept, lengths)))


def counts_kitchen_tasks(dataset: Dataset, task: Task | None) -> bool:
    """Whether kitchen data have D4RL's reward, the number of tasks done, which is not the environment's."""
    if task is None or not task.suite.data_count_tasks or dataset.observation_dim != 2 * KITCHEN_POSITIONS:
        return False
    rows = dataset.take(spread_rows(dataset.size))
    return bool(np.mean(rows.rewards == tasks_done(rows.observations)) > SHARE_OF_COUNTS)


def tasks_done(observations: np.ndarray | Array) -> np.ndarray:
    """Returns the reward of D4RL's kitchen data: how many of the goal's tasks are done, f32[...].

    The data count a task again in each step; the environment rewards it once, in the step that completes it.
    A learner that sees both, as in fine-tuning, needs one reward for all rows. The observations f32[..., 60]
    are unnormalised; the goal's positions are 0 for objects without a task.
    """
    seen = np.asarray(observations)
    number = np.zeros(seen.shape[:-1], np.float32)
    for positions in KITCHEN_OBJECTS.values():
        now, goal = seen[..., positions], seen[..., np.add(positions, KITCHEN_POSITIONS)]
        number += (goal != 0.0).any(-1) & (np.linalg.norm(now - goal, axis=-1) < KITCHEN_THRESHOLD)
    return number
