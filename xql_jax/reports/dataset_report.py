"""A report on a dataset: its statistics, and warnings about what is likely to spoil a training."""

import dataclasses
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
from matplotlib.figure import Figure

from xql_jax.data.dataset import Dataset, as_learners_see
from xql_jax.data.suspicions import suspicions
from xql_jax.reports.style import BLUE, count_axis, legend_below, styled
from xql_jax.tasks import Task
from xql_jax.types import UNKNOWN, ActionBounds

AT_BOUND = 0.99  # a tanh policy's action of this size is saturated


@dataclasses.dataclass(frozen=True)
class DatasetSummary:
    """The range, mean and median of a set of numbers, in their own unit."""

    least: float
    mean: float
    median: float
    most: float

    def __str__(self) -> str:
        return f"{self.least:g} to {self.most:g}, mean {self.mean:g}, median {self.median:g}"


def describe_dataset(dataset: Dataset, task: Task | None, bounds: ActionBounds = UNKNOWN) -> SimpleNamespace:
    """Returns the statistics of a dataset before any preprocessing, and warnings.

    Args:
        task: gives the episode limit and the scores; None if it is not known.
        bounds: of the task's actions.
    Raises:
        UserError: if actions are beyond bounds that are not ±1.
    """
    fields = [np.asarray(field) for field in dataset.batch]
    observations, actions, rewards, masks, _ = fields
    lengths, returns = dataset.trajectory_lengths(), dataset.trajectory_returns()
    size = np.abs(as_learners_see(dataset, bounds).batch.actions)
    ranges = np.stack([observations.min(0), observations.max(0)], axis=1)
    bits = np.concatenate([field.reshape(dataset.size, -1).view(np.uint32) for field in fields], axis=1)
    report = SimpleNamespace(
        source=dataset.source,
        notes=list(dataset.notes),
        transitions=dataset.size,
        observation_dim=dataset.observation_dim,
        action_dim=dataset.action_dim,
        trajectories=len(lengths),  # they end where `Dataset.ends` is true: at terminals, time-outs and jumps
        terminals=int((masks == 0).sum()),
        cut_off=int((dataset.ends & (masks != 0)).sum()),  # trajectories that end without a terminal
        lengths=_summary(lengths),  # steps
        returns=_summary(returns),  # undiscounted, reward units
        scores=_summary(task.normalized_score(returns)) if task and task.scores_returns else None,
        rewards=_summary(rewards),
        zero_rewards=float((rewards == 0).mean()),  # share of the transitions
        actions=_summary(actions),  # over all entries
        actions_at_bound=float((size >= AT_BOUND).mean()),  # share of the entries
        actions_beyond_bound=float((size > 1).mean()),  # share of the entries
        observation_ranges=[(float(least), float(most)) for least, most in ranges],  # by entry
        constant_observations=np.flatnonzero(ranges[:, 0] == ranges[:, 1]).tolist(),  # entries
        constant_actions=np.flatnonzero(actions.min(0) == actions.max(0)).tolist(),
        duplicates=dataset.size - len({hash(row.tobytes()) for row in bits}),  # bit for bit
    )
    report.warnings = _warnings(dataset, report, task)
    return report


def _summary(numbers: np.ndarray) -> DatasetSummary:
    numbers = np.asarray(numbers, np.float64)
    return DatasetSummary(*(float(f(numbers)) for f in (np.min, np.mean, np.median, np.max)))


def _warnings(dataset: Dataset, report: SimpleNamespace, task: Task | None) -> list[str]:
    """Returns those of all warnings that apply."""
    observations, _, rewards, masks, following = (np.asarray(field) for field in dataset.batch)
    lengths, last, terminals = dataset.trajectory_lengths(), np.flatnonzero(dataset.ends), masks == 0
    count, limit = report.transitions, (task.episode_limit if task else None) or np.inf
    reward, returns, is_one = report.rewards, report.returns, report.trajectories == 1
    size, action = (max(abs(summary.least), abs(summary.most)) for summary in (reward, report.actions))
    is_scaled = task is not None and task.suite.scales_rewards
    refused = ": methods that scale rewards by the range of returns, such as xql, will refuse this"
    who = "the one trajectory returns" if is_one else f"all {report.trajectories:,} trajectories return"
    best = report.scores.most if report.scores else 0.0
    in_runs = np.flatnonzero(terminals[1:] & terminals[:-1]) + 1
    ended = terminals[last]
    before = last[ended & (lengths > 1)]
    at_limit, too_long = int((ended & (lengths == limit)).sum()), int((lengths > limit).sum())
    large = np.flatnonzero(np.abs(report.observation_ranges).max(axis=1) > 1000)
    going_on = int((~terminals).sum())
    unchanged = int(((observations == following).all(axis=1) & ~terminals).sum())
    # Rewards at the ends that are like the others, at the same step each time: this is how time limits look.
    at_ends, elsewhere = rewards[last], np.delete(rewards, last)
    look_like_limits = (
        ended.all()
        and lengths.min() == lengths.max() > 1 < len(lengths)
        and elsewhere.min() <= at_ends.min() <= at_ends.max() <= elsewhere.max()
    )
    applies = {
        "every reward is 0: there is nothing to learn but the data's own behaviour": size == 0,
        f"every reward is {reward.least:g}: only the length of trajectories can be learned from": (
            reward.least == reward.most != 0
        ),
        f"the largest reward is {size:g}: beta and the values are in this unit, and the defaults are for "
        "rewards of about 1": reward.least != reward.most and not 1e-3 <= size <= 1e3,
        f"{who} {returns.least:g}{refused * is_scaled}": (
            returns.least == returns.most and (is_scaled or not is_one)
        ),
        f"scores reach {best:,.0f}, and an expert's is 100: the data's rewards are not those of the "
        "evaluation (as in D4RL's kitchen), or trajectories are not separated": best > 200,
        f"{report.duplicates:,} transitions ({report.duplicates / count:.0%}) are there more than once": (
            report.duplicates > 0.01 * count
        ),
        f"{len(in_runs):,} of {report.terminals:,} terminals follow upon a terminal, the first at transition "
        f"{in_runs.min(initial=count):,}: as in AntMaze, the episode went on after its goal, so these "
        "terminals split one trajectory into several, and lengths and returns here are those of the "
        "parts": len(in_runs) and lengths.max() > 1,
        f"at all {len(before):,} terminals the reward is that of the step before: if these are time-outs, "
        "store them as timeouts, for at a terminal the value of what follows is taken to be 0": (
            not len(in_runs) and len(before) > 1 and (rewards[before] == rewards[before - 1]).all()
        ),
        f"all {len(lengths):,} trajectories end in a terminal after {lengths[0]} steps, with rewards as at "
        "other steps: if this is a time limit, store these as timeouts": look_like_limits and not at_limit,
        f"{at_limit:,} terminals are at the task's episode limit, {limit} steps: if they are time-outs, "
        "store them as timeouts": at_limit,
        f"{too_long:,} trajectories are longer than an episode of the task, {limit} steps, up to "
        f"{lengths.max():,}: time-outs may be missing": too_long and report.cut_off < 2,
        "one trajectory without a terminal: do the data say where episodes end?": (
            is_one and not terminals.any()
        ),
        f"{report.actions_beyond_bound:.1%} of the action entries are beyond ±1, up to {action:g}: training "
        "clips them to ±1, so divide them by their bound": report.actions_beyond_bound,
        f"{report.actions_at_bound:.0%} of the action entries are at their bounds, where a tanh policy has "
        "hardly any gradient": report.actions_at_bound > 0.5,
        **dict.fromkeys(suspicions(dataset), True),
        f"action entries that never change: {_listed(report.constant_actions)}": report.constant_actions,
        f"observation entries beyond ±1,000, which the networks see as they are: {_listed(large)}": len(
            large
        ),
        f"{report.cut_off:,} of {count:,} transitions do not lead to the next row's observation: are the "
        "rows shuffled? Then lengths, returns and next actions are not known here": 2 * report.cut_off
        > count,
        f"in {unchanged:,} of {going_on:,} transitions the next observation is the observation itself: were "
        "the observations stored as next_observations?": 2 * unchanged > going_on,
    }
    return [warning for warning, does_apply in applies.items() if does_apply]


def report_lines(report: SimpleNamespace) -> list[str]:
    """Returns the report as text, one line per fact, with the warnings last."""
    lows, highs = zip(*report.observation_ranges, strict=True)
    low, high = min(lows), max(highs)
    lines = [
        report.source,
        f"  transitions   {report.transitions:,}: observations of {report.observation_dim} entries, "
        f"actions of {report.action_dim}",
        f"  trajectories  {report.trajectories:,}: {report.terminals:,} end in a terminal, "
        f"{report.cut_off:,} are cut off (time-out, jump, end of data)",
        f"  length        {report.lengths} steps",
        f"  return        {report.returns}",
    ]
    if report.scores:
        lines.append(f"  score         {report.scores} (D4RL-normalised)")
    lines += [
        f"  reward        {report.rewards}; {report.zero_rewards:.1%} are 0",
        f"  action        {report.actions}; {report.actions_at_bound:.1%} of the entries at their bounds",
        f"  observation   {low:g} (entry {lows.index(low)}) to {high:g} (entry {highs.index(high)})",
        f"  constant      observation entries: {_listed(report.constant_observations)}",
        f"  duplicates    {report.duplicates:,} transitions",
    ]
    lines += [f"  read          {note}" for note in report.notes]
    warnings = [f"  warning: {warning}" for warning in report.warnings]
    return lines + (warnings or ["  nothing to warn of"])


def _listed(entries: Sequence[int] | np.ndarray) -> str:
    """Returns the numbers as text, with consecutive ones as first-last."""
    if not len(entries):
        return "none"
    numbers = np.asarray(entries)
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


@styled()
def draw_dataset(dataset: Dataset, title: str) -> Figure:
    """Returns a figure of lengths, returns, rewards, actions and observations."""
    figure = Figure(figsize=(10, 5.6))
    figure.suptitle(title)
    (lengths, returns, in_order), (of_rewards, of_actions, of_entries) = figure.subplots(2, 3)
    observations, actions, rewards = (np.asarray(field) for field in dataset.batch[:3])
    lengths.hist(dataset.trajectory_lengths(), bins=40)
    lengths.set(xlabel="length of trajectory (steps)", ylabel="trajectories")
    returns.hist(dataset.trajectory_returns(), bins=40)
    returns.set(xlabel="return of trajectory (reward units)", ylabel="trajectories")
    in_order.plot(dataset.trajectory_returns(), ".", markersize=3)
    in_order.set(xlabel="trajectory, in file order", ylabel="return (reward units)")
    of_rewards.hist(rewards.astype(np.float64), bins=60, log=True)  # any two float32 lie bins apart there
    of_rewards.set(xlabel="reward (reward units)", ylabel="transitions", ylim=(0.5, None))
    of_actions.hist(actions.ravel().astype(np.float64), bins=60)
    of_actions.set(xlabel="action (all entries)", ylabel="entries")
    # Differences of extreme float32 values overflow, so entries are converted, one at a time to save memory.
    columns = (column.astype(np.float64) for column in observations.T)
    least, low, middle, high, most = np.transpose([np.percentile(c, (0, 5, 50, 95, 100)) for c in columns])
    entries = np.arange(len(least))
    of_entries.vlines(entries, least, most, color=BLUE, linewidth=1, label="range")
    of_entries.vlines(entries, low, high, color=BLUE, linewidth=4, label="5 % to 95 %")
    of_entries.plot(entries, middle, ".", color="white", markeredgecolor="black", label="median")
    of_entries.set(xlabel="observation entry", ylabel="value (its own unit)")
    legend_below(of_entries, 3)
    for axis in (lengths.yaxis, returns.yaxis, in_order.xaxis, of_actions.yaxis, of_entries.xaxis):
        count_axis(axis)
    return figure
