"""A report on a dataset: its statistics, and warnings about what is likely to spoil a training."""

import dataclasses

import numpy as np

from xql_jax.data.dataset import Dataset, listed, out_of_order
from xql_jax.data.suspicions import duplicates, suspicions
from xql_jax.suites.tasks import Task
from xql_jax.types import Json

FEW_EPISODES = 20  # returns of fewer have no shape
TWO_HEAPS = 0.9  # share of the returns' variance that two heaps explain
ALIKE = 0.1  # standard deviation of returns that are alike, as a share of their mean
FEW_ROWS = 10_000  # of which a network learns the noise by heart, too
AT_BOUND = 0.99  # a tanh policy's action of this size is saturated


def describe_dataset(dataset: Dataset, task: Task | None, seen: Dataset | None = None) -> Json:
    """Returns the statistics of a dataset before any preprocessing, and warnings.

    Args:
        task: gives the episode limit and the scores; None if it is not known.
        seen: the dataset with actions as learners see them, if its own are in other units.
    """
    observations, actions, rewards, masks, _ = (np.asarray(field) for field in dataset.batch)
    lengths, returns = dataset.trajectory_lengths(), dataset.trajectory_returns()
    seen = seen or dataset
    size = np.abs(seen.batch.actions)
    ranges, action_ranges = (
        np.stack([each.min(0), each.max(0)], axis=1).astype(float) for each in (observations, actions)
    )
    return {
        "source": dataset.source,
        "notes": [str(note) for note in dataset.notes if not note.is_suspicion],
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
        "observation_ranges": ranges.tolist(),  # by entry
        "constant_observations": np.flatnonzero(ranges[:, 0] == ranges[:, 1]).tolist(),  # entries
        "duplicates": duplicates(dataset),
        "advice": _advice(dataset),
        "warnings": suspicions(seen, task),
    }


def _advice(dataset: Dataset) -> list[str]:
    """Names the cloning that a method has to beat, by the returns of whole episodes.

    If returns are alike, rewards prefer no episode: all are cloned. If they have two heaps, the upper heap is
    cloned, else the best tenth, as by 10%BC (Chen et al. 2021). The best split into two heaps explains 64% of
    the variance of normal numbers, and 75% of uniform numbers'.
    """
    episodes = dataclasses.replace(dataset, ends=np.append(dataset.begins[1:], True))
    returns, lengths = episodes.trajectory_returns(), episodes.trajectory_lengths()
    mean, spread = returns.mean(), returns.std()
    if len(returns) < FEW_EPISODES // 4 or not (spread or mean) or any(map(out_of_order, dataset.sources())):
        return []
    if spread <= ALIKE * abs(mean):
        flags = "--method=bc --dropout_rate=0.1" if dataset.size < FEW_ROWS else "--method=bc"
        return [
            f"the {len(returns):,} episodes have returns alike, {mean:.4g} ± {spread:.2g}, so rewards prefer "
            f"none of them: {flags} clones all, a score to beat"
        ]
    order = np.argsort(-returns, kind="stable")
    ranked = returns[order] - mean
    upper = np.arange(1, len(ranked))
    # The sum of squares between the heaps, for each number of episodes in the upper heap.
    between = np.cumsum(ranked)[:-1] ** 2 * (1 / upper + 1 / upper[::-1])
    number = int(upper[between.argmax()])
    if (
        len(ranked) >= FEW_EPISODES
        and number >= FEW_EPISODES // 4
        and between.max() >= TWO_HEAPS * np.square(ranked).sum()
    ):
        share = np.ceil(1_000 * lengths[order[:number]].sum() / dataset.size) / 1_000
        means = returns[order[:number]].mean(), returns[order[number:]].mean()
        return [
            f"{number:,} of {len(ranked):,} episodes have returns of about {means[0]:.4g}, the others of "
            f"about {means[1]:.4g}: --method=bc --top_returns={share:g} clones the {number:,} alone, a score "
            "to beat"
        ]
    number = max(1, int((np.cumsum(lengths[order]) <= 0.1 * dataset.size).sum()))
    best = returns[order[:number]].mean()
    return [
        f"the best {number:,} of {len(ranked):,} episodes have returns of about {best:.4g}, all of about "
        f"{mean:.4g}: --method=bc10 clones these {number:,} alone, a score to beat"
    ]


def _summary(numbers: np.ndarray) -> dict[str, float]:
    x = np.asarray(numbers, np.float64)
    found = {"least": x.min(), "mean": x.mean(), "median": np.median(x), "most": x.max()}
    return {name: float(number) for name, number in found.items()}


def report_lines(report: Json) -> list[str]:
    """Returns the report of `describe_dataset` as text, one line per fact, with the warnings last."""

    def text(value: object) -> str:
        if isinstance(value, dict):
            return ", ".join(f"{name} {number:g}" for name, number in value.items())
        if isinstance(value, list):
            return listed(np.array(value))
        return f"{value:.3g}" if isinstance(value, float) else f"{value:,}"

    ranges = "observation_ranges", "action_ranges"  # in the JSON alone
    apart = ("source", *ranges, "notes", "advice", "warnings")
    facts = {name: value for name, value in report.items() if name not in apart and value is not None}
    lines = [report["source"], *(f"  {name:<22}{text(value)}" for name, value in facts.items())]
    lines += [f"  read                  {note}" for note in report["notes"]]
    lines += [f"  try                   {line}" for line in report["advice"]]
    warnings = [f"  warning: {warning}" for warning in report["warnings"]]
    return lines + (warnings or ["  nothing to warn of"])
