"""The summary of a run: last and best scores by setting, from its evaluations."""

import math
from collections.abc import Sequence

import numpy as np

from xql_jax.logs.csv_rows import Row, scores_by_setting
from xql_jax.rollout.quantities import QUANTITIES, mean_over_seeds
from xql_jax.types import Json


def summarize(rows: Sequence[Row], episodes: int) -> list[Json]:
    """Returns one entry per setting: the last scores, which are the result, and the best scores in training.

    A best score is selected by the evaluation itself, so it is biased upwards and no result. Of the further
    `QUANTITIES` that the task tells, such as the rate of success, the last means are there. `episodes` is
    their number in an evaluation.
    """
    diverged = [row for row in rows if not math.isnan(row.results["diverged_at"])]
    results = []
    for setting, (steps, seeds, scores) in scores_by_setting(rows).items():
        at_end = [row.seed for row in diverged if (row.setting, row.step) == (setting, steps[-1])]
        result = {
            "hyperparameters": dict(setting),
            "seeds": seeds,
            "last_step": steps[-1],
            **mean_over_seeds("last_score", scores[:, -1]),
            "best_score_by_seed": scores.max(axis=1).tolist(),
            "best_step_by_seed": [steps[i] for i in scores.argmax(axis=1)],
            "diverged_seeds": sorted(at_end),
        }
        of_setting = sorted((row for row in rows if row.setting == setting), key=lambda row: row.seed)
        at_last = [row.results for row in of_setting if row.step == steps[-1]]
        for name, quantity in QUANTITIES.items():
            means = [of_row.get(name, math.nan) for of_row in at_last]
            if quantity.over_seeds and not np.isnan(means).all():
                result |= quantity.over_seeds(f"last_{quantity.column}", means, episodes)
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
            **mean_over_seeds("offline_score", scores[:, steps.index(handover)]),
            **mean_over_seeds("online_score", scores[:, -1]),
        }
        if is_normalised:
            regrets = cumulative_regret(scores[:, np.array(steps) > handover])
            result |= mean_over_seeds("cumulative_regret", regrets)
        results.append(result)
    return results


def cumulative_regret(scores: np.ndarray) -> np.ndarray:
    """Returns the mean of 1 - score / 100 over f64[..., E] evaluations; Nakamoto et al. 2023, "Cal-QL"."""
    return 1.0 - scores.mean(axis=-1) / 100.0


def ranked(results: Sequence[Json]) -> list[Json]:
    """Returns the settings by last score, the best first; settings whose score is NaN come last."""
    return sorted(results, key=lambda result: (math.isnan(result["last_score"]), -result["last_score"]))
