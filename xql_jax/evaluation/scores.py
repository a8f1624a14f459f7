"""Statistics of a few scores; `Task.normalized_score` turns returns into scores."""

from typing import Any

import numpy as np
from scipy import stats

from xql_jax.evaluation.rollout import EpisodeResults
from xql_jax.tasks import Task


def mean_and_interval(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean and the half-width of Student's 95% interval over the last axis.

    Args:
        scores: f64[..., N], one per independent run, in any unit.
    Returns:
        f64[...] each, in the scores' unit; the half-width is NaN for N = 1, because one score says nothing
        about the spread.
    """
    scores = np.asarray(scores, dtype=np.float64)
    n = scores.shape[-1]
    mean = scores.mean(-1)
    if n == 1:
        return mean, np.full_like(mean, np.nan)
    quantile = stats.t.ppf(0.975, df=n - 1)
    return mean, quantile * scores.std(-1, ddof=1) / np.sqrt(n)


def describe_episodes(results: EpisodeResults, task: Task) -> list[dict[str, Any]]:
    """Returns a summary of each member's episodes; intervals are over episodes, not over training runs.

    Entries: the number of `episodes`; of their normalised scores `score_mean`, `score_median` and
    `score_interval_95`, the half-width of the mean's interval (None for one episode); `return_mean` in the
    task's reward units; `length_mean` in steps; `success_rate` in [0, 1], None if the task does not define
    success.
    """
    scores = task.normalized_score(results.returns)
    means, half_widths = mean_and_interval(scores)
    return [
        {
            "episodes": scores.shape[1],
            "score_mean": float(means[member]),
            "score_median": float(np.median(scores[member])),
            "score_interval_95": None if np.isnan(half_widths[member]) else float(half_widths[member]),
            "success_rate": None if results.successes is None else float(results.successes[member].mean()),
            "return_mean": float(results.returns[member].mean()),
            "length_mean": float(results.lengths[member].mean()),
        }
        for member in range(len(scores))
    ]
