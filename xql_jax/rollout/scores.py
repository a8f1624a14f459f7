"""Statistics of a few scores, and scores and steps in words."""

from collections.abc import Sequence

import numpy as np

from xql_jax.rollout.evaluation import EpisodeResults
from xql_jax.suites.tasks import Task
from xql_jax.types import Json


def mean_and_interval(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean of f64[..., N], and the half-width of Student's 95% interval: NaN if N is 1."""
    scores = np.asarray(scores, dtype=np.float64)
    n = scores.shape[-1]
    mean = scores.mean(-1)
    if n == 1:
        return mean, np.full_like(mean, np.nan)
    from scipy import special  # scipy.stats, which has the same quantile, takes half a second

    quantile = special.stdtrit(n - 1, 0.975)
    return mean, quantile * scores.std(-1, ddof=1) / np.sqrt(n)


def wilson_interval(successes: int, episodes: int) -> tuple[float, float]:
    """Returns both ends of Wilson's 95% interval of a success rate, over episodes, within [0, 1]."""
    from scipy import stats  # takes half a second

    low, high = stats.binomtest(successes, episodes).proportion_ci(method="wilson")
    return float(low), float(high)


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
