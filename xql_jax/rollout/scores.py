"""The results of evaluated policies as entries of a report; scores and steps in words."""

from collections.abc import Sequence

import numpy as np

from xql_jax.numerics.statistics import mean_and_interval, wilson_interval
from xql_jax.rollout.evaluation import EpisodeResults
from xql_jax.suites.tasks import Task
from xql_jax.types import Json


def success_in_words(rate: float, interval: Sequence[float]) -> str:
    """Returns a rate of success and its interval as text: `80.0% [49.0%, 94.3%]`."""
    low, high = interval
    return f"{rate:.1%} [{low:.1%}, {high:.1%}]"


def shown(score: float) -> str:
    """Returns a score or a return as text: with one decimal, or with three digits if it is below 1."""
    text = f"{score:.1f}" if abs(score) >= 1 else f"{score:.3g}"
    return "0.0" if float(text) == 0 else text


def describe_episodes(results: EpisodeResults, task: Task) -> list[Json]:
    """Returns each member's episodes and a summary; intervals are over episodes, not over training runs.

    `score_interval_95` is the half-width of the mean's interval, None for one episode. `success_interval_95`
    has both ends of Wilson's binomial interval; all of successes is None if the task does not define them.
    """
    scores = task.normalized_score(results.returns, results.successes)
    means, half_widths = mean_and_interval(scores)
    described = []
    for member, returns in enumerate(results.returns):
        entry: Json = {
            "episodes": len(returns),
            "score_mean": float(means[member]),
            "score_median": float(np.median(scores[member])),
            "score_interval_95": None if np.isnan(half_widths[member]) else float(half_widths[member]),
            "success_rate": None,
            "success_interval_95": None,
            "successes": None,
            "return_mean": float(returns.mean()),
            "length_mean": float(results.lengths[member].mean()),
            "returns": returns.tolist(),
            "scores": scores[member].tolist(),
            "lengths": results.lengths[member].tolist(),
        }
        if results.successes is not None:
            successes = results.successes[member]
            entry["success_rate"], entry["successes"] = float(successes.mean()), successes.tolist()
            entry["success_interval_95"] = [*wilson_interval(int(successes.sum()), len(successes))]
        described.append(entry)
    return described


def steps_in_words(step: int, unit: str, handover: int | None = None) -> str:
    """Returns how far a training is, such as '600 steps'; with a hand-over '200 updates + 400 steps'."""
    if not handover:
        return f"{step:,} {unit}s"
    acted = f" + {step - handover:,} {unit}s" if step > handover else ""
    return f"{min(step, handover):,} updates{acted}"
