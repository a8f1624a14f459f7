"""A report on a dataset: its statistics, and warnings about what is likely to spoil a training."""

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.figure import Figure

from xql_jax.data.dataset import Dataset, as_learners_see, jumps
from xql_jax.data.preprocessing import alike
from xql_jax.data.suspicions import suspicions, terminals_at_limit
from xql_jax.reports.style import BLUE, count_axis, legend_below, styled
from xql_jax.tasks import Task
from xql_jax.types import UNKNOWN, ActionBounds, Json

MOST_ENTRIES = 8  # of actions whose ranges are printed one by one; the .json has all
AT_BOUND = 0.99  # a tanh policy's action of this size is saturated


def describe_dataset(dataset: Dataset, task: Task | None, bounds: ActionBounds = UNKNOWN) -> Json:
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
    ranges, action_ranges = (
        np.stack([each.min(0), each.max(0)], axis=1).astype(float) for each in (observations, actions)
    )
    bits = np.concatenate([field.reshape(dataset.size, -1).view(np.uint32) for field in fields], axis=1)
    report: Json = {
        "source": dataset.source,
        "notes": [str(note) for note in dataset.notes],
        "transitions": dataset.size,
        "observation_dim": dataset.observation_dim,
        "action_dim": dataset.action_dim,
        "trajectories": len(lengths),  # they end where `ends` is true: at terminals, time-outs and jumps
        "terminals": int((masks == 0).sum()),
        "cut_off": int((dataset.ends & (masks != 0)).sum()),  # trajectories that end without a terminal
        "lengths": _summary(lengths),  # steps
        "returns": _summary(returns),  # undiscounted, reward units
        "scores": _summary(task.normalized_score(returns)) if task and task.scores_returns else None,
        "rewards": _summary(rewards),
        "zero_rewards": float((rewards == 0).mean()),  # share of the transitions
        "actions": _summary(actions),  # over all entries
        "action_ranges": action_ranges.tolist(),  # by entry
        "actions_at_bound": float((size >= AT_BOUND).mean()),  # share of the entries
        "actions_beyond_bound": float((size > 1).mean()),  # share of the entries
        "observation_ranges": ranges.tolist(),  # by entry
        "constant_observations": np.flatnonzero(ranges[:, 0] == ranges[:, 1]).tolist(),  # entries
        "constant_actions": np.flatnonzero(action_ranges[:, 0] == action_ranges[:, 1]).tolist(),  # entries
        "duplicates": dataset.size - len({hash(row.tobytes()) for row in bits}),  # bit for bit
    }
    report["warnings"] = [
        *_reward_warnings(report, task),
        *_end_warnings(dataset, report, task),
        *_entry_warnings(dataset, report),
        *_order_warnings(dataset, report),
    ]
    return report


def _summary(numbers: np.ndarray) -> dict[str, float]:
    """Returns the range, mean and median of a set of numbers, in their own unit."""
    numbers = np.asarray(numbers, np.float64)
    least, most = float(np.min(numbers)), float(np.max(numbers))
    return {
        "least": least,
        "mean": float(np.mean(numbers)),
        "median": float(np.median(numbers)),
        "most": most,
    }


def _reward_warnings(report: Json, task: Task | None) -> Iterator[str]:
    rewards, returns, is_one = report["rewards"], report["returns"], report["trajectories"] == 1
    largest = max(abs(rewards["least"]), abs(rewards["most"]))
    if largest == 0:
        yield "every reward is 0: there is nothing to learn but the data's own behaviour"
    elif rewards["least"] == rewards["most"]:
        yield f"every reward is {rewards['least']:g}: only the length of trajectories can be learned from"
    elif not 1e-3 <= largest <= 1e3:
        yield f"the largest reward is {largest:g}, but the defaults, such as beta's, are for about 1"
    who = "the one trajectory returns" if is_one else f"all {report['trajectories']:,} trajectories return"
    if alike(returns["least"], returns["most"]):
        if task and task.suite.scales_rewards:
            why = "methods that scale rewards by the range of returns will refuse this"
            yield f"{who} {returns['least']:g}: {why}"
        elif not is_one:
            yield f"{who} {returns['least']:g}"
    if report["scores"] and report["scores"]["most"] > 200:
        yield (
            f"scores reach {report['scores']['most']:,.0f}, and an expert's is 100: the data's rewards are "
            "not those of the evaluation (as in D4RL's kitchen), or trajectories are not separated"
        )
    if report["duplicates"] > 0.01 * report["transitions"]:
        share = report["duplicates"] / report["transitions"]
        yield f"{report['duplicates']:,} transitions ({share:.0%}) are there more than once"


def _end_warnings(dataset: Dataset, report: Json, task: Task | None) -> Iterator[str]:
    rewards, terminals = np.asarray(dataset.batch.rewards), np.asarray(dataset.batch.masks) == 0
    lengths, last = dataset.trajectory_lengths(), np.flatnonzero(dataset.ends)
    limit = (task.episode_limit if task else None) or np.inf
    ended = terminals[last]
    goes_on = ~jumps(*map(np.asarray, (dataset.batch.next_observations, dataset.batch.observations)))
    after_terminal = np.flatnonzero(terminals[1:] & terminals[:-1] & goes_on) + 1
    longer = last[ended & (lengths > 1)]  # terminals of trajectories with more than one step
    too_long = int((lengths > limit).sum())
    if len(after_terminal):
        if lengths.max() > 1:
            yield (
                f"{len(after_terminal):,} of {terminals.sum():,} terminals follow a terminal, the first at "
                f"transition {after_terminal[0]:,}: they are episodes of one step, or an episode went on "
                "after its goal, as in AntMaze; then lengths and returns here are those of its parts"
            )
    elif len(longer) > 1 and (rewards[longer] == rewards[longer - 1]).all():
        yield (
            f"at all {len(longer):,} terminals the reward is that of the step before: if these are "
            "time-outs, store them as timeouts, for at a terminal the value of what follows is taken to be 0"
        )
    if at_limit := terminals_at_limit(dataset, task.episode_limit if task else None):
        yield from at_limit
    elif ended.all() and len(lengths) > 1 and lengths.min() == lengths.max() > 1:
        # Time limits look like this: the same step each time, and rewards that are like the others.
        at_ends, elsewhere = rewards[last], np.delete(rewards, last)
        if elsewhere.min() <= at_ends.min() and at_ends.max() <= elsewhere.max():
            where = f"after {lengths[0]} steps, with rewards as at other steps"
            yield f"all {len(lengths):,} trajectories end in a terminal {where}: store time-outs as timeouts"
    if too_long and report["cut_off"] < 2:
        yield f"{too_long:,} trajectories are longer than an episode, {limit} steps: time-outs may be missing"
    if len(lengths) == 1 and not terminals.any():
        yield "one trajectory without a terminal: do the data say where episodes end?"


def _entry_warnings(dataset: Dataset, report: Json) -> Iterator[str]:
    if report["actions_beyond_bound"]:
        share = f"{report['actions_beyond_bound']:.1%} of the action entries"
        largest = np.abs(dataset.batch.actions).max()
        yield f"{share} are beyond ±1, up to {largest:g}, and are clipped: divide by the bound"
    yield from suspicions(dataset)
    if report["constant_actions"]:
        yield f"action entries that never change: {_listed(report['constant_actions'])}"
    large = np.flatnonzero(np.abs(report["observation_ranges"]).max(axis=1) > 1000)
    if len(large):
        yield f"observation entries beyond ±1,000, which the networks see as they are: {_listed(large)}"


def _order_warnings(dataset: Dataset, report: Json) -> Iterator[str]:
    if 2 * report["cut_off"] > report["transitions"]:
        yield (
            f"{report['cut_off']:,} of {report['transitions']:,} transitions do not lead to the next row's "
            "observation: are the rows shuffled? Then lengths, returns and next actions are not known here"
        )
    observations, _, _, masks, following = (np.asarray(field) for field in dataset.batch)
    going_on = masks != 0
    unchanged = int(((observations == following).all(axis=1) & going_on).sum())
    if 2 * unchanged > going_on.sum():
        yield (
            f"in {unchanged:,} of {going_on.sum():,} transitions the next observation is the observation "
            "itself: were the observations stored as next_observations?"
        )


def report_lines(report: Json) -> list[str]:
    """Returns the report of `describe_dataset` as text, one line per fact, with the warnings last."""
    spread = {
        name: "{least:g} to {most:g}, mean {mean:g}, median {median:g}".format(**report[name])
        for name in ("lengths", "returns", "scores", "rewards", "actions")
        if report[name]
    }
    lows, highs = zip(*report["observation_ranges"], strict=True)
    at_bound = f"{report['actions_at_bound']:.1%} of the entries at 99% of their bounds"
    low, high = min(lows), max(highs)
    by_entry = [f"{least:g} to {most:g}" for least, most in report["action_ranges"]]
    lines = [
        report["source"],
        f"  transitions   {report['transitions']:,}: observations of {report['observation_dim']} entries, "
        f"actions of {report['action_dim']}",
        f"  trajectories  {report['trajectories']:,}: {report['terminals']:,} end in a terminal, "
        f"{report['cut_off']:,} are cut off (time-out, jump, end of data)",
        f"  length        {spread['lengths']} steps",
        f"  return        {spread['returns']}",
    ]
    if report["scores"]:
        lines.append(f"  score         {spread['scores']} (D4RL-normalised)")
    lines += [
        f"  reward        {spread['rewards']}; {report['zero_rewards']:.1%} are 0",
        f"  action        {spread['actions']}; {at_bound}",
        *([f"  by entry      {', '.join(by_entry)}"] if 1 < len(by_entry) <= MOST_ENTRIES else []),
        f"  observation   {low:g} (entry {lows.index(low)}) to {high:g} (entry {highs.index(high)})",
        f"  constant      observation entries: {_listed(report['constant_observations'])}",
        f"  duplicates    {report['duplicates']:,} transitions",
    ]
    lines += [f"  read          {note}" for note in report["notes"]]
    warnings = [f"  warning: {warning}" for warning in report["warnings"]]
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
    of_rewards.hist(rewards.astype(np.float64), bins=60, log=True)  # float64 separates bins of close rewards
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
