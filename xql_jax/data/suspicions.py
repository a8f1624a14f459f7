"""What suggests that data are not what they seem to be: one table, for training and `xql-inspect` alike."""

import itertools
import logging
from collections.abc import Callable, Iterator

import numpy as np

from xql_jax.data.dataset import HALF, Dataset, differ, jumping_rows, listed, out_of_order, spread_rows
from xql_jax.data.readers import D4RL_FILES
from xql_jax.suites.tasks import Task

LOG = logging.getLogger(__name__)
FEW_VALUES = 10
HARDLY_ANY = 0.05  # share of the rows
LONG_STEPS = 0.99  # steps longer than this share of the steps within episodes are long
ALIKE_STARTS = 0.3  # spread of where resets lead, in that of where they come from, by entry
ENOUGH = 10  # rows for a spread, or episodes to be looked at by themselves
OF_THEIR_UNIT = "but the defaults, such as beta's, are for about 1"
TIME_OUTS = "are these time-outs? Then store them as timeouts"
Check = Callable[[Dataset, Task | None], Iterator[str]]


def suspicions(dataset: Dataset, task: Task | None = None) -> list[str]:
    """Returns what suggests that the data are not what they seem to be; most lines with a remedy.

    Args:
        dataset: before any preprocessing, with actions as learners see them.
        task: gives the episode limit, the scores and whether rewards are scaled; None if it is not known.
    """
    told, start = [str(note) for note in dataset.notes if note.is_suspicion], 0
    again = duplicates(dataset) if dataset.parts else 0
    for name, size in dataset.parts or [("", dataset.size)]:
        source, start = dataset.part(slice(start, start + size)), start + size
        lines = [line for check in TABLE for line in _lines(check, source, task)]
        told += [f"{name}: {line}" if name else line for line in lines]
        again -= duplicates(source) if dataset.parts else 0
    return told + [f"{again:,} transitions are in more than one source"] * (again > 0.01 * dataset.size)


def _lines(check: Check, source: Dataset, task: Task | None) -> Iterator[str]:
    """Yields what a check tells of a source; if nothing, of the first of up to 16 parts that it tells of."""
    yield from (lines := list(check(source, task)))
    begins = np.flatnonzero(source.begins)
    near = np.linspace(0, source.size, 1 + min(16, len(begins) // ENOUGH))[1:-1]
    bounds = np.unique([0, *begins[np.searchsorted(begins[:-1], near)], source.size])
    for start, stop in itertools.pairwise(() if lines or check not in BY_PART else bounds):
        for line in check(source.part(slice(start, stop)), task) if len(bounds) > 2 else ():
            yield f"transitions {start:,} to {stop - 1:,}: {line}"
            return


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


def _sizes_of_rewards(dataset: Dataset, task: Task | None) -> Iterator[str]:
    rewards, returns = dataset.batch.rewards, dataset.trajectory_returns()
    least, most = float(rewards.min()), float(rewards.max())
    largest = max(-least, most)
    if largest == 0:
        yield "every reward is 0: there is nothing to learn but the data's own behaviour"
    elif least == most:
        yield f"every reward is {least:g}: only the length of trajectories can be learned from"
    elif not 1e-3 <= largest <= 1e3:
        yield f"the largest reward is {largest:g}, {OF_THEIR_UNIT}"
    if task and task.scores_returns and (score := task.normalized_score(returns).max()) > 200:
        yield (
            f"scores reach {score:,.0f}, and an expert's is 100: the data's rewards are not those of the "
            "evaluation (as in D4RL's kitchen), or trajectories are not separated"
        )


def _terminals(dataset: Dataset, task: Task | None) -> Iterator[str]:
    rewards, terminals, lengths = dataset.batch.rewards, dataset.terminals, dataset.trajectory_lengths()
    last = np.flatnonzero(dataset.ends)
    longer = last[terminals[last] & (lengths > 1)]  # terminals of trajectories with more than one step
    if len(longer) > 1 and (rewards[longer] == rewards[longer - 1]).all():
        yield (
            f"at all {len(longer):,} terminals the reward is that of the step before: if these are "
            "time-outs, store them as timeouts, for at a terminal the value of what follows is taken to be 0"
        )
    most, *others = np.sort(lengths)[::-1].tolist()
    if not others and not terminals.any():
        yield "one trajectory without a terminal: do the data say where episodes end?"
    elif len(others) >= ENOUGH and most > max(5 * others[0], 0.2 * dataset.size):
        of = f"{most:,} of all {dataset.size:,} steps, the others up to {others[0]:,}"
        yield f"one trajectory has {of}: do its rows say where episodes end?"


def _time_limits(dataset: Dataset, task: Task | None) -> Iterator[str]:
    """A time limit is the longest length, by far more frequent than others of about that length."""
    limit = task.episode_limit if task else None
    last, lengths = np.flatnonzero(dataset.ends), dataset.trajectory_lengths()
    ended = dataset.terminals[last]
    cut_off = np.count_nonzero(~ended)
    at_limit = np.count_nonzero(ended & (lengths == limit))
    *shorter, longest = np.bincount(lengths[ended], minlength=lengths.max() + 1)
    if at_limit > cut_off:
        yield f"{at_limit:,} terminals are at the episode limit, {limit} steps: {TIME_OUTS}"
    elif lengths.max() > 1 and longest > max(2, cut_off, 3 * max(shorter[len(shorter) // 2 :])):
        at = last[ended & (lengths == lengths.max())]
        rewards = dataset.batch.rewards
        changes = np.diff(rewards, prepend=rewards[0])
        others = np.flatnonzero(~dataset.begins & ~np.isin(np.arange(dataset.size), at))
        # Unlike a goal's, neither the rewards nor their changes are beyond those at other steps.
        is_usual = _within(rewards[at], np.delete(rewards, at)) or _within(changes[at], changes[others])
        if is_usual and not _shows(dataset, at):
            yield (
                f"{longest:,} of {len(lengths):,} trajectories end in a terminal after {lengths.max():,} "
                f"steps, the most of all, with rewards as at other steps: {TIME_OUTS}"
            )
    own = lengths[~ended].max(initial=0)  # the data's own limit, if it recurs and is no sum of episodes
    recurs = np.count_nonzero(lengths[~ended] == own) > 1 and limit and own % limit not in (0, limit - 1)
    is_d4rls = dataset.source.rpartition("/")[2] in D4RL_FILES  # people's demonstrations take longer
    if limit and not (recurs or is_d4rls) and (too_long := np.count_nonzero(lengths > limit)):
        yield f"{too_long:,} trajectories are longer than an episode, {limit} steps: time-outs may be missing"


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


def _layouts(dataset: Dataset, task: Task | None) -> Iterator[str]:
    """Rows as in dm_env and RLDS, a buffer's empty rows, and rewards that belong to no step."""
    observations, actions, rewards = dataset.batch[:3]
    terminals, idle = dataset.terminals, ~actions.any(axis=1)
    nothing, begins, ends = idle & (rewards == 0), dataset.begins, dataset.ends
    starts, cuts = begins & ~ends, ends & ~begins & ~terminals
    zeros, others = np.count_nonzero(rewards[starts] == 0), rewards[~begins] == 0
    acts_later = others.size and idle[~begins].mean() <= HARDLY_ANY
    if begins.sum() > 1 and not nothing.all() and (idle if acts_later else nothing)[begins].all():
        yield (
            "the first action of every trajectory is 0: if an action stands in the row that it led to, as in "
            "dm_env's layout, leave out each episode's first action, and its first reward if that is 0, too"
        )
    elif zeros > max(1, starts.sum() // 2) and others.size and others.mean() <= HARDLY_ANY:
        yield (
            f"the first reward of {zeros:,} of {starts.sum():,} trajectories is 0, and hardly any other is: "
            "are rewards one row late? Then move them up. Or did the environment reset itself in these "
            "rows? Then leave them out"
        )
    elif (
        np.count_nonzero(cuts) > 1
        and not rewards[cuts].any()
        and np.count_nonzero(rewards[~ends] == 0) <= HARDLY_ANY * np.count_nonzero(~ends)
        and len(np.unique(rewards)) > FEW_VALUES  # else a step may cost 1, until a goal
    ):
        yield (
            "the last reward of every trajectory that was cut off is 0, and hardly any other is: are rewards "
            "one row early? Then move them down"
        )
    if terminals.any() and nothing[terminals].all() and not nothing[~terminals].all():
        yield (
            "every terminal has an action and a reward of 0: is its row only the last observation, as in "
            "RLDS? Then leave it out, and mark the row before it"
        )
    if dataset.size > 2 and nothing[-2:].all() and not observations[-2:].any() and observations.any():
        yield "the last rows are 0: is this a buffer that was not full? Then leave these rows out"


def _splits(dataset: Dataset, task: Task | None) -> Iterator[str]:
    """Jumps beside marked ends; if terminals alone are marked, those that are too small for resets.

    Such are those of the size by which next observations differ from the next rows' where a trajectory goes
    on, as where they were rounded.
    """
    observations, following = dataset.batch.observations, dataset.batch.next_observations
    marked, rows = dataset.stated | dataset.terminals, np.flatnonzero(jumping_rows(dataset)[:-1])
    if not len(rows) or out_of_order(dataset):
        return
    missed, moved = (np.abs(following[rows] - observations[rows + by]).max(axis=1) for by in (1, 0))
    goes_on = ~marked[:-1] & ~differ(following[:-1], observations[1:], HALF)
    rounding = np.abs(following[:-1] - observations[1:])[goes_on].max(initial=0.0)
    is_small = 4 * np.median(missed) < np.median(moved) or np.median(missed) <= 2 * rounding
    before, after = marked[rows - 1].mean(), marked[rows + 1].mean()
    shifted = "late" if after > 0.5 > before else "early" if before > 0.5 > after else ""
    if shifted or (marked & ~dataset.terminals).any() or is_small:
        remedy = "if episodes end there, add timeouts; else store that observation as the next one"
        yield (
            f"{len(rows):,} trajectories are split where no end is marked, the first at transition "
            f"{rows[0]:,}: the next row's observation differs by {np.median(missed):.3g} in the median, by "
            f"up to {missed.max():.3g}: {f'are the flags one row {shifted}?' if shifted else remedy}"
        )


def _order(dataset: Dataset, task: Task | None) -> Iterator[str]:
    observations, following = dataset.batch.observations, dataset.batch.next_observations
    going_on, final = ~dataset.terminals, np.flatnonzero(dataset.terminals[:-1])
    unlike = differ(following[final], observations[final + 1])
    if 2 * len(final) >= dataset.size >= ENOUGH and unlike.mean() < 0.5:
        yield (
            f"{np.count_nonzero(~going_on):,} of {dataset.size:,} rows are terminals, and most lead to the "
            "next row's observation: are the flags inverted? Unless episodes have one step, terminals must "
            "be 0 where an episode goes on"
        )
    if told := out_of_order(dataset):
        why = "are the rows shuffled, or rounded? Then lengths, returns and next actions are not known here"
        yield f"{told}: {why}"
    unchanged = ~differ(observations, following)
    if 2 * np.count_nonzero(unchanged & going_on) > np.count_nonzero(going_on):
        yield (
            f"in {np.count_nonzero(unchanged & going_on):,} of {going_on.sum():,} transitions the next "
            "observation is the observation itself: were the observations stored as next_observations?"
        )
        return
    cuts = np.flatnonzero(dataset.ends & going_on)
    if not len(cuts):
        return
    within = unchanged[going_on & ~dataset.ends]
    if (
        len(cuts) > 1
        and unchanged[cuts].mean() > 0.5
        and np.count_nonzero(within) <= HARDLY_ANY * len(within)
    ):
        what = "the observation itself:"
    elif _share_of_one(following[cuts]) > 0.5 >= _share_of_one(observations[cuts]):
        if _is_reached(dataset, cuts):
            return
        what = "one and the same: are the flags one row late, so that a new episode starts there? Or"
    else:
        return
    yield f"the next observation of most time-outs is {what} is it filled in? Then store the episode's last"


def _resets(dataset: Dataset, task: Task | None) -> Iterator[str]:
    """Resets that are seen elsewhere than between an episode's last row and the next one's first.

    Several steps are resets if most are long, or if they lead to states that are alike, as initial ones are.
    With z → a the last transition of an episode and b → c the first of the next, a reset is z → a where the
    next row stands for what was not stored, else a → b.
    """
    observations, following = dataset.batch.observations, dataset.batch.next_observations
    ends, terminals = dataset.ends, dataset.terminals
    if out_of_order(dataset):
        return
    sample = observations[spread_rows(dataset.size)].astype(np.float64)
    scale = sample.std(axis=0)
    varies = scale > 1e-6 * np.abs(sample).max(axis=0)

    def distances(before: np.ndarray, after: np.ndarray) -> np.ndarray:
        steps = (after.astype(np.float64) - before)[:, varies] / scale[varies]
        return np.sqrt(np.square(steps).mean(axis=1))

    within = np.flatnonzero(~(ends | np.append(ends[1:], True) | np.append(True, ends[:-1])))
    within = within[spread_rows(len(within))]
    long, apart = np.inf, 0.0
    if varies.any() and len(within) >= ENOUGH:
        long = np.quantile(distances(observations[within], following[within]), LONG_STEPS)
        apart = np.median(distances(sample, sample[::-1]))

    def are_resets(before: np.ndarray, after: np.ndarray) -> bool:
        if len(before) < 2 or not varies.any():
            return False
        spread = before.astype(np.float64).std(axis=0)
        moving = spread > 1e-3 * scale
        shares = after.astype(np.float64).std(axis=0)[moving & varies] / spread[moving & varies]
        lead_to_starts = len(before) >= ENOUGH and shares.size > 0 and np.median(shares) < ALIKE_STARTS
        return bool(np.median(distances(before, after)) > long or lead_to_starts)

    for what, chosen in (("terminals", terminals), ("time-outs", ~terminals)):
        last = np.flatnonzero((ends & chosen)[:-1])
        if not len(last):
            continue
        last = last[spread_rows(len(last))]
        z, a, b = observations[last], following[last], observations[last + 1]
        first = last[~ends[last + 1]] + 1
        earlier = last[(last > 0) & ~ends[last - 1]] - 1
        at_last, between = are_resets(z, a), are_resets(a, b)
        after = are_resets(observations[first], following[first])
        before = are_resets(observations[earlier], following[earlier])
        next_is_row = what == "time-outs" and differ(a, b).mean() < 0.5
        varied = _share_of_one(a) <= 0.5  # else they are fillers
        surely_goes_on = not (at_last or after) and long < apart / 2
        if next_is_row and not surely_goes_on:
            yield (
                "the next observation of most time-outs is the next row's observation: did the environment "
                "reset itself? Then store the episode's last observation there, and leave out rows that only "
                "reset"
            )
        elif after and not (at_last or between):
            yield (
                f"a reset is seen one row after most {what}: did the environment reset itself in these rows? "
                "Then leave them out; else the flags are one row early"
            )
        elif not between and (before and not at_last if what == "terminals" else at_last and varied):
            yield (
                f"a reset is seen one row before most {what}: are the flags one row late, or the next "
                "observations a new episode's?"
            )

    again = np.flatnonzero(terminals[1:] & terminals[:-1] & dataset.begins[1:]) + 1
    again = again[~differ(following[again - 1], observations[again])]
    can_tell = long < 1.2 * apart  # else steps are as long as resets
    goes_on = can_tell and not are_resets(observations[again - 1], observations[again])
    if goes_on and len(again) > max(ENOUGH, np.count_nonzero(terminals) / 10):
        yield (
            f"{len(again):,} of {terminals.sum():,} terminals follow a terminal, the first at transition "
            f"{again[0]:,}: episodes went on after their goal, as in AntMaze; lengths and returns here are "
            "those of their parts"
        )


# In the order in which they are told.
TABLE = (_sizes_of_rewards, _terminals, _time_limits, _entries, _layouts, _splits, _order, _resets)
BY_PART = (_layouts, _order, _resets)  # what a part that was recorded otherwise shows


def _within(numbers: np.ndarray, others: np.ndarray) -> bool:
    return bool(others.size and others.min() <= numbers.min() and numbers.max() <= others.max())


def _shows(dataset: Dataset, rows: np.ndarray) -> bool:
    """Whether the state tells these ends: an entry has one value there, as of a clock, and nowhere else."""

    def tell(states: np.ndarray) -> bool:
        is_value = states == states[rows[0]]
        return bool((is_value[rows].all(axis=0) & (is_value.sum(axis=0) == len(rows))).any())

    observations, following = dataset.batch.observations, dataset.batch.next_observations
    return tell(observations) or (tell(following) and _is_reached(dataset, rows))


def _is_reached(dataset: Dataset, rows: np.ndarray) -> bool:
    """Whether most of these steps end at one point, by steps as within episodes, which begin farther away."""
    observations, following = dataset.batch.observations, dataset.batch.next_observations
    points, counts = np.unique(following[rows], axis=0, return_counts=True)
    point, within = points[counts.argmax()], np.flatnonzero(~dataset.ends)
    if not len(within):
        return False
    within = within[spread_rows(len(within))]
    longest = np.quantile(np.abs(following[within] - observations[within]), LONG_STEPS, axis=0)
    is_near = (np.abs(observations - point) <= longest).all(axis=1)
    return bool(is_near[rows].mean() > 0.5 and is_near[dataset.begins].mean() <= HARDLY_ANY)


def _share_of_one(vectors: np.ndarray) -> float:
    """Returns the share of the most frequent of the vectors f32[K, O]; of a single one, whether it is 0."""
    if len(vectors) == 1:
        return float(not vectors.any())
    return float(np.unique(vectors, axis=0, return_counts=True)[1].max() / len(vectors))
