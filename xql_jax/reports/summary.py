"""What a run came to: last and best scores by setting, from its evaluations."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xql_jax.evaluation.scores import mean_and_interval

FIXED_COLUMNS = ("step", "seed", "return", "score", "length", "diverged_at", "seconds", "error")


def read_rows(path: Path) -> list[dict[str, str]]:
    """Returns the rows of a run's CSV file, none if there is no file or no row yet."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def by_setting(
    rows: Sequence[Mapping[str, str]],
) -> dict[tuple[tuple[str, float], ...], list[Mapping[str, str]]]:
    """Groups rows by the hyperparameters that the run swept; one group with an empty key without a sweep."""
    groups: dict[tuple[tuple[str, float], ...], list[Mapping[str, str]]] = {}
    for row in rows:
        setting = tuple((name, float(row[name])) for name in row if name not in FIXED_COLUMNS)
        groups.setdefault(setting, []).append(row)
    return groups


def scores_by_seed(rows: Sequence[Mapping[str, str]]) -> tuple[list[int], list[int], np.ndarray]:
    """Returns the steps, the seeds and the scores f64[seeds, steps] of one setting's rows."""
    steps = sorted({int(row["step"]) for row in rows})
    seeds = sorted({int(row["seed"]) for row in rows})
    scores = np.full((len(seeds), len(steps)), np.nan)
    for row in rows:
        scores[seeds.index(int(row["seed"])), steps.index(int(row["step"]))] = float(row["score"])
    return steps, seeds, scores


def summarize(rows: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """One entry a setting: the last scores (the result), and the best of training under their own name.

    A best score is chosen with the knowledge of the evaluation, so it flatters: it is no result.
    """
    results = []
    for setting, group in by_setting(rows).items():
        steps, seeds, scores = scores_by_seed(group)
        mean, half_width = mean_and_interval(scores[:, -1])
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
                "diverged_seeds": sorted(
                    int(row["seed"]) for row in group if row["diverged_at"] and int(row["step"]) == steps[-1]
                ),
            }
        )
    return results
