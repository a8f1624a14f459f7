"""The summary of a run: last and best scores by setting, from its evaluations."""

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from xql_jax.logs.csv_rows import Row
from xql_jax.rollout.scores import mean_and_interval, wilson_interval
from xql_jax.types import Json

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
BySeed = tuple[list[int], list[int], np.ndarray]  # steps, seeds, and values f64[seeds, steps]


def grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """Returns the items by key, in the order of their first appearance."""
    groups: dict[K, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def varying_names(settings: Sequence[Mapping[str, object]]) -> list[str]:
    """Returns the names whose values differ among these settings, in the order of first appearance."""
    names = dict.fromkeys(name for values in settings for name in values)
    return [name for name in names if len({values.get(name) for values in settings}) > 1]


def scores_by_setting(rows: Sequence[Row]) -> dict[tuple[tuple[str, float], ...], BySeed]:
    """Returns the scores by the swept values; without a sweep, the only key is empty."""
    return {
        setting: by_seed_and_step((row.seed, row.step, row.results["score"]) for row in of_setting)
        for setting, of_setting in grouped(rows, lambda row: row.setting).items()
    }


def by_seed_and_step(points: Iterable[tuple[int, int, float]]) -> BySeed:
    """Arranges triples of a seed, a step and a value; the value is NaN where a seed has none."""
    value_at = {(seed, step): value for seed, step, value in points}
    seeds, steps = (sorted(set(names)) for names in zip(*value_at, strict=True))
    values = [[value_at.get((seed, step), math.nan) for step in steps] for seed in seeds]
    return steps, seeds, np.array(values, np.float64)


def has_all_seeds(values: np.ndarray) -> np.ndarray:
    """Returns bool[steps], whether every seed has a finite value there that has one there or later.

    A line through the means at all steps would jump where seeds were evaluated at different steps. A seed
    that has ended lacks nothing. The values are f64[seeds, steps].
    """
    known = np.isfinite(values)
    goes_on = np.logical_or.accumulate(known[:, ::-1], axis=1)[:, ::-1]
    return (known == goes_on).all(axis=0)


def success_of(rates: Sequence[float | None], episodes: Sequence[int]) -> tuple[float, float, float] | None:
    """Returns the rate of success over the episodes of several evaluations, and Wilson's 95% interval.

    None if one of the rates is None: the task tells no success. NaN is an evaluation in which nothing was
    told: if another one tells, it has failed, as such an episode has in an evaluation that tells.
    """
    told = [rate for rate in rates if rate is not None]
    if len(told) < len(rates) or np.isnan(told).all() or not all(episodes):
        return None
    successes = sum(round(one) for one in np.nan_to_num(told) * episodes)
    return successes / sum(episodes), *wilson_interval(successes, sum(episodes))


def summarize(rows: Sequence[Row], episodes: int) -> list[Json]:
    """Returns one entry per setting: the last scores, which are the result, and the best scores in training.

    A best score is selected by the evaluation itself, so it is biased upwards and no result. Where the task
    tells success, the last rate is there with Wilson's interval, over the episodes of all seeds. `episodes`
    is their number in an evaluation.
    """
    diverged = [row for row in rows if not math.isnan(row.results["diverged_at"])]
    results = []
    for setting, (steps, seeds, scores) in scores_by_setting(rows).items():
        at_end = [row.seed for row in diverged if (row.setting, row.step) == (setting, steps[-1])]
        result = {
            "hyperparameters": dict(setting),
            "seeds": seeds,
            "last_step": steps[-1],
            **_over_seeds("last_score", scores[:, -1]),
            "best_score_by_seed": scores.max(axis=1).tolist(),
            "best_step_by_seed": [steps[i] for i in scores.argmax(axis=1)],
            "diverged_seeds": sorted(at_end),
        }
        at_last = [row.results for row in rows if (row.setting, row.step) == (setting, steps[-1])]
        rates = [of_row.get("success_rate") for of_row in at_last]
        if found := success_of(rates, [episodes] * len(rates)):
            result["last_success_rate"], *result["last_success_interval_95"] = found
        results.append(result)
    return results


def summarize_finetuning(rows: Sequence[Row], handover: int, is_normalised: bool) -> list[Json]:
    """Returns one entry per setting: the score at the hand-over and the last; of scores the regret, too."""
    results = []
    for setting, (steps, seeds, scores) in scores_by_setting(rows).items():
        if handover not in steps or steps[-1] == handover:
            continue
        result = {
            "hyperparameters": dict(setting),
            "seeds": seeds,
            **_over_seeds("offline_score", scores[:, steps.index(handover)]),
            **_over_seeds("online_score", scores[:, -1]),
        }
        if is_normalised:
            regrets = cumulative_regret(scores[:, np.array(steps) > handover])
            result |= _over_seeds("cumulative_regret", regrets)
        results.append(result)
    return results


def cumulative_regret(scores: np.ndarray) -> np.ndarray:
    """Returns the mean of 1 - score / 100 over f64[..., E] evaluations; Nakamoto et al. 2023, "Cal-QL"."""
    return 1.0 - scores.mean(axis=-1) / 100.0


def _over_seeds(name: str, values: np.ndarray) -> Json:
    mean, half_width = map(float, mean_and_interval(values))
    interval = None if math.isnan(half_width) else half_width
    return {name: mean, f"{name}_interval_95": interval, f"{name}_by_seed": values.tolist()}


def ranked(results: Sequence[Json]) -> list[Json]:
    """Returns the settings by last score, the best first; settings whose score is NaN come last."""
    return sorted(results, key=lambda result: (math.isnan(result["last_score"]), -result["last_score"]))
