"""Transforms of data before training and of observations before acting, fitted once and saved."""

import dataclasses
import logging
import pkgutil
from pathlib import Path
from typing import TypeVar

import numpy as np

from xql_jax.data.dataset import Dataset, alike, check_order, listed, spread_rows
from xql_jax.errors import Damaged, UserError
from xql_jax.files import digest, read_record, with_numbers, write_record
from xql_jax.settings import EITHER, Checked, by_config, within
from xql_jax.suites.tasks import Task, get_task
from xql_jax.types import UNKNOWN, ActionBounds, AnyBatch, Array

LOG = logging.getLogger(__name__)
Numbers = TypeVar("Numbers", np.ndarray, Array)

IQL_ACTION_BOUND = 1 - 1e-5  # keeps a tanh policy's log-density finite
SPAN = 1000.0  # range of the returns after scaling
LEAST_STD = 1e-3  # an observation's entry is never divided by less than this
SHARE_OF_ROWS = 0.95  # if so many of the data have D4RL's reward, it is that of all


@dataclasses.dataclass(frozen=True)
class PreprocessingSettings(Checked):
    """The settings of preprocessing; the kinds of training in runs/kinds.py inherit these.

    `best_trajectories` applies `top_returns`, before the others are fitted.
    """

    normalize_observations: bool = by_config(
        False,
        EITHER,
        "Observations of mean 0 and standard deviation 1 (divided by 0.001 at least).",
        of_checkpoint=True,
    )
    scale_rewards: bool = by_config(
        True,
        EITHER,
        "Scale the rewards: on locomotion as IQL does; of your own data to a root mean square of 1.",
        of_checkpoint=True,
    )
    top_returns: float = by_config(
        1.0,
        within(1e-6, 1),
        "Share of the transitions that is learned from, of the highest returns.",
        of_checkpoint=True,
    )


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Numbers fitted to a dataset, and the transforms that use them. The defaults change nothing."""

    action_bound: float = np.inf  # of the data: each action entry is clipped to ±this
    reward_scale: float = 1.0  # applied before the shift
    reward_shift: float = 0.0  # reward units
    observation_mean: tuple[float, ...] = ()  # one per entry; (): observations are not changed
    observation_std: tuple[float, ...] = ()
    rewards_as_in: str = ""  # the task whose data's rewards replace an environment's, see `of_environment`
    action_bounds: ActionBounds = UNKNOWN  # of the environment: learners see -1 and 1
    action_chunk: int = 1  # actions that a learner's action holds
    action_range: ActionBounds = UNKNOWN  # of data without an environment: learned policies stay within it

    @property
    def chunk_bounds(self) -> ActionBounds:
        """The bounds of a learner's action, which may be a chunk of the environment's."""
        return self.action_bounds.repeated(self.action_chunk)

    @property
    def limits(self) -> ActionBounds:
        """The lowest and highest action, or chunk of actions, that is carried out, as `acted` returns it."""
        bounds, within = self.chunk_bounds, self.action_range.repeated(self.action_chunk)
        if not within.low:
            return bounds
        low, high = (bounds.to_environment(np.array(each, np.float32)).tolist() for each in within)
        return ActionBounds(tuple(low), tuple(high))

    def acted(self, actions: Numbers) -> Numbers:
        """Returns a learner's actions f32[..., h * A] as they are carried out, in environment units."""
        scaled = self.chunk_bounds.to_environment(actions)
        return scaled.clip(*np.array(self.limits, np.float32)) if self.action_range.low else scaled

    def dataset(self, dataset: Dataset) -> Dataset:
        """Returns the dataset as a learner sees it."""
        return dataclasses.replace(dataset, batch=self.batch(dataset.batch))

    def batch(self, batch: AnyBatch) -> AnyBatch:
        """Returns transitions f32[..., ] as a learner sees them: a dataset, a minibatch or an online row."""
        fields = batch._asdict()
        if self.action_bound < np.inf:
            fields["actions"] = np.clip(batch.actions, -self.action_bound, self.action_bound)
        fields["rewards"] = self.rewards(batch.rewards)
        fields["observations"] = self.observations(batch.observations)
        fields["next_observations"] = self.observations(batch.next_observations)
        return type(batch)(**fields)

    def of_environment(self, batch: AnyBatch) -> AnyBatch:
        """Returns an environment's transitions f32[..., ], with a learner's actions, as a learner sees them.

        With `rewards_as_in`, the rewards are computed as in D4RL's data, because a learner that sees both
        needs the same reward for all rows. These data go on after the kitchen's last task is done, and the
        mazes have no terminals. So an episode's end is no terminal there.
        """
        if not self.rewards_as_in:
            return self.batch(batch)
        rewards = data_rewards(get_task(self.rewards_as_in), batch.observations)
        masks = np.ones_like(batch.masks)
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

    def rewards_given(self, rewards: np.ndarray) -> np.ndarray:
        """Returns the rewards f32[...] of the data from the rewards that a learner sees."""
        return (rewards - np.float32(self.reward_shift)) / np.float32(self.reward_scale)

    def rewards_met(self, observations: np.ndarray, rewards: np.ndarray) -> np.ndarray:
        """Returns an environment's rewards f32[...], in states f32[..., O], as a learner sees them."""
        if self.rewards_as_in:
            rewards = data_rewards(get_task(self.rewards_as_in), observations)
        return self.rewards(rewards)

    def numbers_digest(self) -> str:
        """Returns a digest of the numbers that neither the settings nor the transformed data tell.

        Rewards times 1,000, divided by a root mean square that is 1,000 times as large, are the same data to
        a learner; but values in reward units are others. Numbers are float32, as they are used.
        """
        bounds = UNKNOWN if self.action_bounds.are_unit else self.action_bounds
        vectors = (self.reward_scale,), self.observation_mean, self.observation_std, *bounds
        return digest([np.asarray(vector, np.float32).tolist() for vector in vectors])[:16]

    def save(self, path: Path, run: str) -> None:
        """Writes it as a record of the run."""
        write_record(path, {**dataclasses.asdict(self), "run": run})

    @classmethod
    def load(cls, path: Path, run: str) -> "Preprocessing":
        """Reads what `save` wrote.

        Raises:
            Damaged: if the file is missing, changed, or another run's.
            UserError: if another version wrote it, with a field that is not known here.
        """
        content = with_numbers(read_record(path))
        content.pop("most_rows", None)  # of an earlier version: `top_returns` in config.json says it
        if content.pop("run", None) != run:
            raise Damaged(f"{path}: of another run; this one is {run}")
        if unknown := content.keys() - {field.name for field in dataclasses.fields(cls)}:
            names = ", ".join(sorted(unknown))
            raise UserError(
                f"{path}: of another version of the program: {names} is not known; use that version"
            )
        for name in {"action_bounds", "action_range"} & content.keys():  # older runs have no range
            content[name] = ActionBounds(*map(tuple, content[name]))
        vectors = {name: tuple(content[name]) for name in ("observation_mean", "observation_std")}
        return cls(**{**content, **vectors})


def fit_preprocessing(
    dataset: Dataset,
    task: Task | None,
    settings: PreprocessingSettings = PreprocessingSettings(),
    unit_rewards: bool = False,
    whole: Dataset | None = None,
) -> Preprocessing:
    """Fits IQL's preprocessing for a task, and whatever else is asked for.

    IQL clips actions to ±(1 - 1e-5), scales locomotion's rewards so that trajectories' returns span 1000, and
    adds -1 to AntMaze's rewards. Rewards of Gymnasium's MuJoCo tasks are scaled here, too. Without a task
    nothing tells the bounds of actions, so the policy is to stay within the range of the data's.

    Args:
        dataset: the transitions learned from, with actions within ±1.
        settings: what to fit. Observations get mean 0 and deviation 1.
        unit_rewards: divide rewards by their root mean square.
        whole: the data of which `dataset` is a part; the returns of all its trajectories scale locomotion's
            rewards.
    """
    rewards = dataset.batch.rewards
    size = float(np.sqrt(np.mean(np.square(rewards, dtype=np.float64))))
    reward_scale, scaled_so_that = 1.0, ""
    if unit_rewards and size:
        reward_scale, scaled_so_that = 1.0 / size, "their root mean square is 1"
    elif settings.scale_rewards and task and task.suite.scales_rewards:
        reward_scale = SPAN / _span_of_returns(whole or dataset)
        scaled_so_that = f"trajectories' returns span {SPAN:g}"
    least, most = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
    if 0 < size < least or not least <= reward_scale <= most:
        raise UserError(
            f"{dataset.source}: rewards have a root mean square of {size:.3g}, too "
            f"{'small' if size < 1 else 'large'} for float32: give them in another unit"
        )
    if scaled_so_that:
        LOG.info(
            f"rewards are multiplied by {reward_scale:.4g}, so that {scaled_so_that} (--noscale_rewards "
            "leaves them)"
        )
    mean, std = _moments(dataset) if settings.normalize_observations else ((), ())
    return Preprocessing(
        action_bound=IQL_ACTION_BOUND,
        reward_scale=reward_scale,
        reward_shift=task.suite.reward_shift if task else 0.0,
        observation_mean=mean,
        observation_std=std,
        action_range=UNKNOWN if task else _range_of_actions(dataset),
    )


def _span_of_returns(dataset: Dataset) -> float:
    """Returns the largest return of a trajectory minus the smallest; UserError if they are about equal."""
    check_order(dataset, "rewards are scaled by returns (--noscale_rewards leaves them)")
    returns = dataset.trajectory_returns()
    if alike(returns.min(), returns.max()):
        raise UserError(
            f"{dataset.source}: rewards cannot be scaled by the range of returns: all {len(returns):,} "
            f"trajectories return {returns.min():g} to {returns.max():g}; --noscale_rewards leaves them"
        )
    return float(returns.max() - returns.min())


def _moments(dataset: Dataset) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns means and standard deviations of observations by entry; warns where these are small."""
    observations = np.asarray(dataset.batch.observations, np.float64)
    mean, std = observations.mean(0), np.maximum(observations.std(0), LEAST_STD)
    ranges = zip(observations.min(0).tolist(), observations.max(0).tolist(), strict=True)
    small = [entry for entry, bounds in enumerate(ranges) if any(bounds) and alike(*bounds)]
    if small:
        LOG.warning(
            f"{dataset.source}: observation entries {listed(np.array(small))} vary by less than 1% of "
            f"their size, or not at all, and are divided by their spread (at least {LEAST_STD:g}): leave "
            "them out, or give --nonormalize_observations"
        )
    return tuple(mean.tolist()), tuple(std.tolist())


def _range_of_actions(dataset: Dataset) -> ActionBounds:
    """Returns the lowest and highest action by entry, as learners see them."""
    actions = dataset.batch.actions
    low, high = (
        bound.clip(-IQL_ACTION_BOUND, IQL_ACTION_BOUND)
        for bound in (actions.min(axis=0), actions.max(axis=0))
    )
    LOG.info(
        "no environment tells the bounds of actions: the policy stays within the data's range, entry by "
        f"entry, in all {low.min():.4g} to {high.max():.4g}"
    )
    return ActionBounds(tuple(low.tolist()), tuple(high.tolist()))


def task_of_rewards(dataset: Dataset, task: Task | None) -> str:
    """Returns the task's name if the data have the rewards of D4RL's data for it, which are of s; else "".

    An environment's rewards are of s'. Most rows fit either in a maze.
    """
    if task is None or not task.suite.data_rewards:
        return ""
    rows, batch = spread_rows(dataset.size), dataset.batch
    before, after = (
        np.isclose(batch.rewards[rows], data_rewards(task, states[rows])).mean()
        for states in (batch.observations, batch.next_observations)
    )
    return task.name if before > SHARE_OF_ROWS and before >= after else ""


def data_rewards(task: Task, observations: np.ndarray | Array) -> np.ndarray:
    """Returns the rewards f32[...] of D4RL's data in states f32[..., O], which are not normalised."""
    rewards: np.ndarray = pkgutil.resolve_name(task.suite.data_rewards)(task, observations)
    return rewards
