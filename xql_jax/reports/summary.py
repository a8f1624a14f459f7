"""What a run came to: last and best scores by setting, from its evaluations."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from xql_jax.evaluation.scores import mean_and_interval
from xql_jax.logs.csv_reader import Row


def by_setting(rows: Sequence[Row]) -> dict[tuple[tuple[str, float], ...], list[Row]]:
    """Groups rows by the hyperparameters that the run swept; one group with an empty key without a sweep."""
    groups: dict[tuple[tuple[str, float], ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(row.setting, []).append(row)
    return groups


def scores_by_seed(rows: Sequence[Row]) -> tuple[list[int], list[int], np.ndarray]:
    """Returns the steps, the seeds and the scores f64[seeds, steps] of one setting's rows."""
    steps = sorted({row.step for row in rows})
    seeds = sorted({row.seed for row in rows})
    scores = np.full((len(seeds), len(steps)), np.nan)
    for row in rows:
        scores[seeds.index(row.seed), steps.index(row.step)] = row.results["score"]
    return steps, seeds, scores


def summarize(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One entry a setting: the last scores (the result), and the best of training under their own name.

    A best score is chosen with the knowledge of the evaluation, so it flatters: it is no result.
    """
    results = []
    for setting, group in by_setting(rows).items():
        steps, seeds, scores = scores_by_seed(group)
        mean, half_width = mean_and_interval(scores[:, -1])
        diverged = (row for row in group if not math.isnan(row.results["diverged_at"]))
        results.append(
            {
                "hyperparameters": dict(setting),
                "seeds": seeds,
                "last_step": steps[-1],
                "last_score": float(mean),
                "last_score_interval_95": None if math.isnan(half_width) else float(half_width),
                "last_score_by_seed": scores[:, -1].tolist(),
                "best_score_by_seed": scores.max(axis=1).tolist(),
                "best_step_by_seed": [steps[i] for i in scores.argmax(axis=1)],
                "diverged_seeds": sorted(row.seed for row in diverged if row.step == steps[-1]),
            }
        )
    return results
