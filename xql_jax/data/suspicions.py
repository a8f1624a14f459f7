"""Plain rules that tell data which are not what they seem to be, for training and `xql-inspect`."""

import logging
from collections.abc import Iterator

import numpy as np

from xql_jax.data.action_units import small_units
from xql_jax.data.conventions import MARGIN, differences
from xql_jax.data.dataset import Dataset, jumping_rows, listed, out_of_order, spread_rows
from xql_jax.data.readers import D4RL_FILES
from xql_jax.data.steps import are_larger, differ, step_sizes
from xql_jax.suites.tasks import Task

LOG = logging.getLogger(__name__)
FEW_VALUES = 10
SOME_ROWS = 5  # that are alike by no chance
MOST_TURNS = 128  # environments
AUTORESET = "docs/data.md, Vector environments and autoreset"
OF_THEIR_UNIT = "but the defaults, such as beta's, are for about 1"


def suspicions(dataset: Dataset, task: Task | None = None) -> list[str]:
    """Returns a line for each sign that the data are not what they seem to be; most name a remedy.

    Args:
        dataset: before any preprocessing, with actions as learners see them.
        task: gives the episode limit, the scores and whether rewards are scaled; None if it is not known.
    """
    told = [str(note) for note in dataset.notes if note.is_suspicion]
    whole = f"{dataset.source}: " if dataset.parts else ""
    told += [whole + line for line in _equal_rewards(dataset)]  # a source may have failures alone
    sources = list(dataset.sources())
    for source in sources:
        for check in (_rewards, _ends, _limits, _entries, _filling, _seams, _cuts):
            told += [f"{source.source}: {line}" if dataset.parts else line for line in check(source, task)]
    return told + differences(sources)


def warn_of_suspicions(dataset: Dataset, task: Task | None = None, unit_rewards: bool = False) -> list[str]:
    """Warns of all `suspicions`, and returns the lines; with `unit_rewards` the rewards' size is no sign."""
    told = [line for line in suspicions(dataset, task) if not (unit_rewards and OF_THEIR_UNIT in line)]
    for line in (lines := told if dataset.parts else [f"{dataset.source}: {line}" for line in told]):
        LOG.warning(line)
    return lines


def duplicates(dataset: Dataset) -> int:
    """Returns the number of transitions that repeat another, bit for bit, in all that a learner sees."""
    sums = np.add(*(field.sum(axis=1, dtype=np.float64) for field in dataset.batch[:2]))
    _, number, counts = np.unique(sums, return_inverse=True, return_counts=True)
    rows = np.flatnonzero(counts[number] > 1)  # others are there once
    *fields, masks, following = (np.asarray(field)[rows] for field in dataset.batch[:5])
    seen = np.where(masks[:, None] == 0, np.float32(0), following)  # the mask hides what follows
    columns = np.column_stack([*fields, masks, seen])
    return len(rows) - len({row.tobytes() for row in columns})


def _equal_rewards(dataset: Dataset) -> Iterator[str]:
    least, most = float(dataset.batch.rewards.min()), float(dataset.batch.rewards.max())
    if least == most == 0:
        yield "every reward is 0: there is nothing to learn but the data's own behaviour"
    elif least == most:
        yield f"every reward is {least:g}: only the length of trajectories can be learned from"


def _rewards(dataset: Dataset, task: Task | None) -> Iterator[str]:
    rewards, terminals = dataset.batch.rewards, dataset.terminals
    largest = float(np.abs(rewards).max())
    if rewards.min() < rewards.max() and not 1e-3 <= largest <= 1e3:
        yield f"the largest reward is {largest:g}, {OF_THEIR_UNIT}"
    if task and task.scores_returns:
        scores = task.normalized_score(dataset.trajectory_returns())
        if (score := scores.max()) > 200:
            yield (
                f"scores reach {score:,.0f}, and an expert's is 100: the data's rewards are not those of the "
                "evaluation (as in D4RL's kitchen), or trajectories are not separated"
            )
        if scores.min() < -200 or np.median(scores) < -25:
            yield (
                f"scores are {scores.min():,.0f} at least and {np.median(scores):,.0f} in the median, and a "
                "random policy's is 0: the data's rewards are not those of the evaluation: are they -1 and 0 "
                "instead of 0 and 1, or in another unit?"
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
    if len(lengths) == 1 and not terminals.any() and not dataset.stated.any():
        yield "one trajectory without a terminal: do the data say where episodes end?"
    final = np.flatnonzero(terminals[:-1])
    goes_on = ~differ(dataset.batch.next_observations[final], dataset.batch.observations[final + 1])
    if 2 * len(final) > dataset.size and goes_on.mean() > 0.5:
        yield (
            f"{np.count_nonzero(terminals):,} of {dataset.size:,} rows are terminals, and most lead to the "
            "next row's observation: are the flags inverted? Unless episodes have one step, terminals must "
            "be 0 where an episode goes on"
        )


def _limits(dataset: Dataset, task: Task | None) -> Iterator[str]:
    """Episodes that end at a limit as terminals, or go on beyond it."""
    lengths, ended = dataset.trajectory_lengths(), dataset.terminals[dataset.ends]
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
    beyond = lengths > limit
    if not beyond.any() or dataset.source.rpartition("/")[2] in D4RL_FILES:
        return
    # People's demonstrations and play may be longer, if their ends are marked and nothing happens at the
    # limit. Rows without next observations have lost the step at a time-out.
    most_at_limit = 2 * np.count_nonzero((lengths == limit) | (lengths == limit - 1)) > len(lengths)
    unmarked = 2 * np.count_nonzero(~dataset.stated[dataset.ends] & beyond) > np.count_nonzero(beyond)
    if most_at_limit or unmarked or _jumps_at(dataset, limit):
        yield (
            f"{np.count_nonzero(beyond):,} trajectories are longer than an episode, {limit} steps: are "
            "time-outs missing?"
        )


def _jumps_at(dataset: Dataset, limit: int) -> bool:
    """Whether longer trajectories move farther than elsewhere in the step at the limit, as in a reset."""
    stops = np.flatnonzero(dataset.ends) + 1
    lengths = dataset.trajectory_lengths()
    at_limit = (stops - lengths + limit - 1)[lengths > limit]
    others = np.setdiff1d(spread_rows(dataset.size), at_limit)
    batch = dataset.batch
    steps, moved = step_sizes(batch.observations, batch.next_observations, others, at_limit)
    return are_larger(moved, steps)


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
    if task is None:  # whose bounds would scale the actions
        yield from small_units(dataset)


def _filling(dataset: Dataset, task: Task | None) -> Iterator[str]:
    """Rows that were not recorded: the rest of a buffer or of a file of a fixed size, and padding."""
    observations, actions, rewards, masks, following = dataset.batch[:5]
    again = duplicates(dataset)
    is_zero = ~(observations.any(axis=1) | actions.any(axis=1) | following.any(axis=1)) & (rewards == 0)
    # Behind the last row that was recorded; there next observations may be those of no row.
    same = (observations == observations[-1]).all(axis=1) & (actions == actions[-1]).all(axis=1)
    tail = dataset.size - 1 - int(np.append(-1, np.flatnonzero(~same)).max())
    if (count := np.count_nonzero(is_zero)) and count < dataset.size:
        yield (
            f"{count:,} rows are all 0, the first is {is_zero.argmax():,}: are they padding, or the rest "
            "of a buffer that was not filled? Leave them out"
        )
    elif SOME_ROWS <= tail < dataset.size and again <= tail:
        yield (
            f"the last {tail:,} rows are one and the same: are they padding, or the rest of a buffer that "
            "was not filled? Leave them out"
        )
    elif again > 0.01 * dataset.size:
        yield f"{again:,} transitions ({again / dataset.size:.0%}) are there more than once"
    final = np.flatnonzero((masks[1:] == 0) & (masks[:-1] == 0)) + 1  # terminals after terminals
    repeated = (observations[final] == observations[final - 1]).all(axis=1)
    if len(final) and 2 * np.count_nonzero(repeated) > len(final):
        yield (
            f"{np.count_nonzero(repeated):,} terminals repeat the observation of the terminal before: is "
            "masks 0 where rows are padding? Here masks are 1 - terminals: leave the padding out"
        )


def turns(observations: np.ndarray) -> int:
    """Returns the number of environments that filled rows f32[N, O] in turn; 1 if none did.

    A row is then like the row so many rows later, and unlike all rows between them. A motion that repeats
    itself is like the next row, too.
    """
    most = min(MOST_TURNS, len(observations) // 4)
    if most < 2:
        return 1
    rows = np.linspace(0, len(observations) - 2 * most - 1, 512).astype(np.int64)
    scale = observations[spread_rows(len(observations))].std(axis=0)
    columns = (observations / np.where(scale > 0, scale, 1))[:, scale > 0]
    if not columns.shape[1]:
        return 1
    distances = np.array(
        [np.median(np.abs(columns[rows + by] - columns[rows]).mean(axis=1)) for by in range(1, 2 * most + 1)]
    )
    for number in range(2, most + 1):
        between, again = distances[: number - 1], distances[[number - 1, 2 * number - 1]]
        if again[0] < 0.5 * between.min() and again[1] < 0.8 * between.min() > 0.5 * between.max():
            return number
    return 1


def _seams(dataset: Dataset, task: Task | None) -> Iterator[str]:
    """Next observations that are not what the next row, or the end of the episode, says."""
    observations, following = dataset.batch.observations, dataset.batch.next_observations
    rows, is_cut = np.flatnonzero(jumping_rows(dataset)[:-1]), dataset.stated & ~dataset.terminals
    if told := out_of_order(dataset):
        why = "are the rows shuffled, or rounded? Then lengths, returns and next actions are not known here"
        yield f"{told}: {why}"
    elif (number := turns(observations)) > 1:
        yield (
            f"rows are like those {number} rows later, and unlike those between: did {number} environments "
            "fill them in turn? The next row is then another's observation: store one after the other, or "
            f"with next_observations ({AUTORESET})"
        )
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
    rewards, is_marked = dataset.batch.rewards, dataset.stated.any()
    unmarked = np.flatnonzero((rewards == 0) & ~is_marked)
    others = np.setdiff1d(spread_rows(dataset.size), unmarked)
    is_dense = len(np.unique(rewards[others])) > FEW_VALUES and 4 * len(unmarked) < dataset.size
    if len(unmarked) > 1 and is_dense:
        steps, moved = step_sizes(observations, following, others, unmarked)
        if are_larger(moved, steps):
            yield (
                f"{len(unmarked):,} rows have the reward 0 and lead far away, and no end is marked: does a "
                f"vector environment only reset there? Mark ends, or leave these rows out ({AUTORESET})"
            )
    unchanged = np.count_nonzero(going_on & ~differ(observations, following))
    if 2 * unchanged > np.count_nonzero(going_on):
        yield (
            f"in {unchanged:,} of {going_on.sum():,} transitions the next observation is the observation "
            "itself: were the observations stored as next_observations?"
        )


def _cuts(dataset: Dataset, task: Task | None) -> Iterator[str]:
    """Next observations of time-outs that are not the last observation of their episode."""
    observations, following = dataset.batch.observations, dataset.batch.next_observations
    cuts = np.flatnonzero(dataset.ends & ~dataset.terminals)
    at_cuts = following[cuts]
    if len(cuts) < 2:
        return
    if 2 * np.unique(at_cuts, axis=0, return_counts=True)[1].max() > len(cuts):
        yield (
            "the next observation of most time-outs is one and the same: are the flags one row late, so that "
            "a new episode starts there? Or is it filled in? Then store the episode's last"
        )
    # A robot that rests at the end does so in the step before, too.
    still, before = (
        int(np.count_nonzero(~differ(observations[rows], following[rows])))
        for rows in (cuts, cuts[cuts > 0] - 1)
    )
    if still > max(1.0, MARGIN * len(cuts), 2.0 * float(before)):
        yield (
            f"the next observation of {still:,} of {len(cuts):,} time-outs is the observation itself: store "
            "the one that the last action led to"
        )
    inner = cuts[cuts < dataset.size - 1]
    to_next = inner[dataset.stated[inner] & ~differ(following[inner], observations[inner + 1])]
    others = np.setdiff1d(spread_rows(dataset.size), cuts)
    if 2 * len(to_next) > len(cuts) and len(others):
        steps, moved = step_sizes(observations, following, others, to_next)
        if are_larger(moved, steps):
            yield (
                f"the next observation of {len(to_next):,} of {len(cuts):,} time-outs is where the next "
                "episode begins, far from the observation: store the episode's last (final_obs, where an "
                "environment resets in the same step)"
            )
