"""Statistics of a few numbers: intervals of means and of rates, and numbers by seed and step."""

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
BySeed = tuple[list[int], list[int], np.ndarray]  # steps, seeds, and values f64[seeds, steps]


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


def success_of(rates: Sequence[float | None], episodes: Sequence[int]) -> tuple[float, float, float] | None:
    """Returns the rate of success over the episodes of several evaluations, and Wilson's 95% interval.

    None if any rate is None: the task tells no success. NaN is an evaluation in which nothing was
    told: if another evaluation tells, it has failed, as such an episode has in an evaluation that tells.
    """
    told = [rate for rate in rates if rate is not None]
    if len(told) < len(rates) or np.isnan(told).all() or not all(episodes):
        return None
    successes = sum(round(count) for count in np.nan_to_num(told) * episodes)
    return successes / sum(episodes), *wilson_interval(successes, sum(episodes))


def grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """Returns the items by key, in the order of their first appearance."""
    groups: dict[K, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def by_seed_and_step(points: Iterable[tuple[int, int, float]]) -> BySeed:
    """Arranges triples of a seed, a step and a value; the value is NaN where a seed has none."""
    value_at = {(seed, step): value for seed, step, value in points}
    seeds, steps = (sorted(set(names)) for names in zip(*value_at, strict=True))
    values = [[value_at.get((seed, step), math.nan) for step in steps] for seed in seeds]
    return steps, seeds, np.array(values, np.float64)


def has_all_seeds(values: np.ndarray) -> np.ndarray:
    """Returns bool[steps], whether every seed with a finite value there or later has it there.

    A line through the means at all steps would jump where seeds were evaluated at different steps. A seed
    that has ended lacks nothing. The values are f64[seeds, steps].
    """
    known = np.isfinite(values)
    goes_on = np.logical_or.accumulate(known[:, ::-1], axis=1)[:, ::-1]
    return (known == goes_on).all(axis=0)
