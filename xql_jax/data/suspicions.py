"""What suggests that data are not what they seem to be, by plain rules, for training and `xql-inspect`."""

import logging
from collections.abc import Iterator

import numpy as np

from xql_jax.data.dataset import Dataset, differ, jumping_rows, listed, out_of_order, spread_rows
from xql_jax.data.readers import D4RL_FILES
from xql_jax.suites.tasks import Task

LOG = logging.getLogger(__name__)
FEW_VALUES = 10
OF_THEIR_UNIT = "but the defaults, such as beta's, are for about 1"


def suspicions(dataset: Dataset, task: Task | None = None) -> list[str]:
    """Returns what suggests that the data are not what they seem to be; most lines with a remedy.

    Args:
        dataset: before any preprocessing, with actions as learners see them.
        task: gives the episode limit, the scores and whether rewards are scaled; None if it is not known.
    """
    told = [str(note) for note in dataset.notes if note.is_suspicion]
    for source in dataset.sources():
        for check in (_rewards, _ends, _entries, _seams):
            told += [f"{source.source}: {line}" if dataset.parts else line for line in check(source, task)]
    return told


def warn_of_suspicions(dataset: Dataset, task: Task | None = None, unit_rewards: bool = False) -> list[str]:
    """Warns of all `suspicions`; returns the lines. `unit_rewards`: their size does not matter."""
    told = [line for line in suspicions(dataset, task) if not (unit_rewards and OF_THEIR_UNIT in line)]
    for line in (lines := told if dataset.parts else [f"{dataset.source}: {one}" for one in told]):
        LOG.warning(line)
    return lines


def duplicates(dataset: Dataset) -> int:
    """Returns how many transitions are there already, bit for bit, in all that a learner sees of them."""
    sums = np.add(*(field.sum(axis=1, dtype=np.float64) for field in dataset.batch[:2]))
    _, number, counts = np.unique(sums, return_inverse=True, return_counts=True)
    rows = np.flatnonzero(counts[number] > 1)  # others are there once
    *fields, masks, following = (np.asarray(field)[rows] for field in dataset.batch[:5])
    seen = np.where(masks[:, None] == 0, np.float32(0), following)  # the mask hides what follows
    columns = np.column_stack([*fields, masks, seen])
    return len(rows) - len({row.tobytes() for row in columns})


def _rewards(dataset: Dataset, task: Task | None) -> Iterator[str]:
    rewards, terminals = dataset.batch.rewards, dataset.terminals
    least, most = float(rewards.min()), float(rewards.max())
    largest = max(-least, most)
    if largest == 0:
        yield "every reward is 0: there is nothing to learn but the data's own behaviour"
    elif least == most:
        yield f"every reward is {least:g}: only the length of trajectories can be learned from"
    elif not 1e-3 <= largest <= 1e3:
        yield f"the largest reward is {largest:g}, {OF_THEIR_UNIT}"
    returns = dataset.trajectory_returns()
    if task and task.scores_returns and (score := task.normalized_score(returns).max()) > 200:
        yield (
            f"scores reach {score:,.0f}, and an expert's is 100: the data's rewards are not those of the "
            "evaluation (as in D4RL's kitchen), or trajectories are not separated"
        )
    last = np.flatnonzero(dataset.ends)
    last = last[terminals[last] & (dataset.trajectory_lengths() > 1)]
    if len(last) > 1 and (rewards[last] == rewards[last - 1]).all():
        yield (
            f"at all {len(last):,} terminals the reward is that of the step before: if these are "
            "time-outs, store them as timeouts, for at a terminal the value of what follows is taken to be 0"
        )


def _ends(dataset: Dataset, task: Task | None) -> Iterator[str]:
    terminals, lengths = dataset.terminals, dataset.trajectory_lengths()
    if len(lengths) == 1 and not terminals.any():
        yield "one trajectory without a terminal: do the data say where episodes end?"
    final = np.flatnonzero(terminals[:-1])
    goes_on = ~differ(dataset.batch.next_observations[final], dataset.batch.observations[final + 1])
    if 2 * len(final) > dataset.size and goes_on.mean() > 0.5:
        yield (
            f"{np.count_nonzero(terminals):,} of {dataset.size:,} rows are terminals, and most lead to the "
            "next row's observation: are the flags inverted? Unless episodes have one step, terminals must "
            "be 0 where an episode goes on"
        )
    ended = terminals[dataset.ends]
    if not task or task.episode_limit is None:
        alike = np.count_nonzero(lengths == lengths.max())
        marks_timeouts = np.count_nonzero(~ended) > 1  # one may be the end of the data
        if lengths.max() > 1 and 2 * alike > len(lengths) > 2 and not marks_timeouts:
            yield (
                f"no time-out is marked, and {alike:,} of {len(lengths):,} trajectories end after "
                f"{lengths.max():,} steps, the most of all: are these time-outs? Then store them as timeouts"
            )
        return
    limit = task.episode_limit
    if (at_limit := np.count_nonzero(ended & (lengths == limit))) > np.count_nonzero(~ended):
        yield (
            f"{at_limit:,} terminals are at the episode limit, {limit} steps: are these time-outs? Then "
            "store them as timeouts"
        )
    is_d4rls = dataset.source.rpartition("/")[2] in D4RL_FILES  # people's demonstrations take longer
    if not is_d4rls and (too_long := np.count_nonzero(lengths > limit)):
        yield f"{too_long:,} trajectories are longer than an episode, {limit} steps: are time-outs missing?"


def _entries(dataset: Dataset, task: Task | None) -> Iterator[str]:
    observations, actions = dataset.batch[:2]
    size = np.abs(actions)
    if beyond := float((size > 1 + 1e-5).mean()):
        yield (
            f"{100 * beyond:.2g}% of the actions' entries are beyond ±1, up to {size.max():g}, and are "
            "clipped: --env_name tells their bounds; without an environment divide them by these"
        )
    seen = actions[spread_rows(dataset.size)]
    if max(len(np.unique(column)) for column in seen.T) <= min(FEW_VALUES, len(seen) // 10):
        yield f"actions look discrete, of at most {FEW_VALUES} values: this library is for continuous ones"
    large = np.maximum(observations.max(axis=0), -observations.min(axis=0)) > 1000
    if large.any():
        where = listed(np.flatnonzero(large))
        yield f"observation entries beyond ±1,000, for which --normalize_observations is: {where}"
    if (count := duplicates(dataset)) > 0.01 * dataset.size:
        yield f"{count:,} transitions ({count / dataset.size:.0%}) are there more than once"


def _seams(dataset: Dataset, task: Task | None) -> Iterator[str]:
    """Next observations that are not what the next row, or the end of the episode, says."""
    observations, following = dataset.batch.observations, dataset.batch.next_observations
    rows, is_cut = np.flatnonzero(jumping_rows(dataset)[:-1]), dataset.stated & ~dataset.terminals
    if told := out_of_order(dataset):
        why = "are the rows shuffled, or rounded? Then lengths, returns and next actions are not known here"
        yield f"{told}: {why}"
    elif len(rows):
        missed, moved = (np.abs(following[rows] - observations[rows + by]).max(axis=1) for by in (1, 0))
        # If terminals alone are marked, time-outs are such splits. But a reset is no smaller than a step.
        if is_cut.any() or np.median(missed) < np.median(moved):
            yield (
                f"{len(rows):,} trajectories are split where no end is marked, the first at transition "
                f"{rows[0]:,}: the next row's observation differs by {np.median(missed):.3g} in the median, "
                f"by up to {missed.max():.3g}: are the flags one row late or early? If episodes end there, "
                "add timeouts; else store that observation as the next one"
            )
    going_on = ~dataset.terminals
    unchanged = np.count_nonzero(going_on & ~differ(observations, following))
    if 2 * unchanged > np.count_nonzero(going_on):
        yield (
            f"in {unchanged:,} of {going_on.sum():,} transitions the next observation is the observation "
            "itself: were the observations stored as next_observations?"
        )
        return
    at_cuts = following[dataset.ends & going_on]
    if len(at_cuts) > 1 and 2 * np.unique(at_cuts, axis=0, return_counts=True)[1].max() > len(at_cuts):
        yield (
            "the next observation of most time-outs is one and the same: are the flags one row late, so that "
            "a new episode starts there? Or is it filled in? Then store the episode's last"
        )
