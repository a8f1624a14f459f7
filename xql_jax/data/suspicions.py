"""Warnings about data that are valid, but perhaps not what they seem: rows misplaced, actions discrete."""

import logging

import numpy as np

from xql_jax.data.dataset import Dataset, spread_rows

LOG = logging.getLogger(__name__)
FEW_VALUES = 10
HUGE = 1e6  # beyond it float32 keeps no first decimal


def warn_of_suspicions(dataset: Dataset, episode_limit: int | None = None) -> None:
    """Warns of actions beyond ±1, which are clipped, of time limits as terminals, and of all `suspicions`."""
    actions = dataset.batch.actions[spread_rows(dataset.size)]
    beyond = float((np.abs(actions) > 1 + 1e-5).mean())
    if beyond:
        LOG.warning(
            f"{100 * beyond:.2g}% of the actions' entries are beyond ±1, and are clipped: --env_name tells "
            "their bounds; without an environment divide them by these"
        )
    for suspicion in (*terminals_at_limit(dataset, episode_limit), *suspicions(dataset)):
        LOG.warning(f"{dataset.source}: {suspicion}")


def terminals_at_limit(dataset: Dataset, episode_limit: int | None) -> list[str]:
    """Returns a warning if terminals stand at the task's limit, in steps, and time-outs hardly anywhere."""
    terminal = dataset.batch.masks[dataset.ends] == 0
    at_limit = np.count_nonzero(terminal & (dataset.trajectory_lengths() == episode_limit))
    if at_limit <= np.count_nonzero(~terminal):  # time-outs are known
        return []
    return [
        f"{at_limit:,} terminals are at the episode limit, {episode_limit} steps: store time-outs as timeouts"
    ]


def suspicions(dataset: Dataset) -> list[str]:
    """Returns what suggests that the data are not what they seem to be; each with a remedy."""
    observations, actions, rewards, masks, following = dataset.batch[:5]
    ends, terminals = dataset.ends, masks == 0
    starts, cuts = np.append(True, ends[:-1]), np.flatnonzero((ends & ~terminals)[:-1])
    nothing = ~actions.any(axis=1) & (rewards == 0)
    found = []
    for name, values in (("observations", observations), ("rewards", rewards)):
        if (largest := max(values.max(), -values.min())) > HUGE:
            found.append(f"{name} reach {largest:g}, where float32 loses small differences: scale them")
    seen = actions[spread_rows(dataset.size)]
    if max(len(np.unique(column)) for column in seen.T) <= min(FEW_VALUES, len(seen) // 10):
        found.append(
            f"actions look discrete, of at most {FEW_VALUES} values: this library is for continuous ones"
        )
    if nothing[starts].all() and starts.sum() > 1 and not nothing.all():
        found.append(
            "the first action and reward of every trajectory are 0: if an action stands in the row that it "
            "led to, as in dm_env's layout, leave out each episode's first action and reward"
        )
    if terminals.any() and nothing[terminals].all() and not nothing[~terminals].all():
        found.append(
            "every terminal has an action and a reward of 0: is its row only the last observation, as in "
            "RLDS? Then leave it out, and mark the row before it"
        )
    if len(cuts) and (following[cuts] == observations[cuts + 1]).all(axis=1).mean() > 0.5:
        found.append(
            "the next observation of most time-outs is the next row's observation: did the environment reset "
            "itself? Then store the episode's last observation there, and leave out rows that only reset"
        )
    one_late = terminals.any() and starts[terminals].all() and not ends[starts].all()
    if one_late and 2 * np.count_nonzero(starts) < dataset.size:  # else rows are shuffled
        found.append("every terminal is the first row of a trajectory: are the flags one row late?")
    if len(cuts) and not following[cuts].any() and observations.any(axis=1).all():
        found.append(
            "the next observation of every time-out is 0: store the last observation of the episode there"
        )
    if dataset.size > 2 and nothing[-2:].all() and not observations[-2:].any() and observations.any():
        found.append("the last rows are 0: is this a buffer that was not full? Then leave these rows out")
    return found
