"""The results of evaluated policies as entries of a report; scores and steps in words."""

from collections.abc import Mapping, Sequence

import numpy as np

from xql_jax.numerics.statistics import mean_and_interval, wilson_interval
from xql_jax.rollout.quantities import QUANTITIES, EpisodeResults, shown
from xql_jax.suites.tasks import Task
from xql_jax.types import Json


def evaluation_in_words(means: Mapping[str, Sequence[float]], task: Task) -> str:
    """Returns what an evaluation says of all members: their mean score, its range, and further quantities."""
    scores = np.array(means["score"])
    spread = f" ({shown(scores.min())} to {shown(scores.max())})" if len(scores) > 1 else ""
    words = [f"{task.quantity} {shown(scores.mean())}{spread}"]
    for name, of_members in means.items():
        quantity, mean = QUANTITIES[name], float(np.mean(of_members))
        if quantity.over_seeds and not np.isnan(mean):  # NaN until a user's environment tells
            words.append(quantity.in_words(mean))
    return ", ".join(words)


def describe_episodes(results: EpisodeResults, task: Task) -> list[Json]:
    """Returns each member's episodes and a summary; intervals are over episodes, not over training runs.

    `score_interval_95` is the half-width of the mean's interval, None for one episode. `success_interval_95`
    has both ends of Wilson's binomial interval. All is None of a quantity that no episode told.
    """
    numbers, means = results.numbers(task), results.means(task)
    score_means, half_widths = mean_and_interval(numbers["score"])
    described = []
    for member, returns in enumerate(results.returns):
        entry: Json = {"episodes": len(returns)}
        for name, quantity in QUANTITIES.items():
            told = name in numbers and not np.isnan(numbers[name][member]).all()
            entry[f"{name}_mean"] = means[name][member] if told else None
            entry[quantity.listed] = numbers[name][member].tolist() if told else None
        entry["score_mean"] = float(score_means[member])
        entry["score_median"] = float(np.median(numbers["score"][member]))
        entry["score_interval_95"] = None if np.isnan(half_widths[member]) else float(half_widths[member])
        entry["success_rate"], successes = entry.pop("success_rate_mean"), entry["successes"]
        entry["success_interval_95"] = successes and [*wilson_interval(sum(successes), len(successes))]
        described.append(entry)
    return described
