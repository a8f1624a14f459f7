"""A report on a dataset: its statistics, and warnings about what is likely to spoil a training."""

import numpy as np

from xql_jax.data.advice import cloning_to_beat
from xql_jax.data.dataset import Dataset, listed
from xql_jax.data.suspicions import duplicates, suspicions
from xql_jax.suites.tasks import Task
from xql_jax.types import Json

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
        "advice": cloning_to_beat(dataset),
        "warnings": suspicions(seen, task),
    }


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
