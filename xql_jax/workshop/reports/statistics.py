"""Statistics of scores over datasets and seeds (Agarwal et al. 2021)."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from xql_jax.rollout.run_summary import grouped
from xql_jax.runs.find import LeftOut
from xql_jax.workshop.reports.scores import MethodScore

BOOTSTRAP_SEED = 0  # of the bootstrap: the same scores have the same intervals
TAIL = (1 - 0.95) / 2  # the share of samples below and above a 95% interval
MOST_COMPARED = 8  # methods that are compared in pairs, which makes 28 pairs
AGGREGATES = ("interquartile_mean", "mean")


class Statistics(NamedTuple):
    """Statistics of the methods that have scores on all of these datasets.

    Along an array's first axis are a value and the two ends of its 95% bootstrap interval, which are NaN if
    each dataset has only one seed.
    """

    datasets: Sequence[str]
    seeds: Mapping[str, int]  # per dataset, by method
    aggregates: Mapping[str, np.ndarray]  # f64[3, 2], `AGGREGATES`; the best interquartile mean first
    # The probability that a run of one method scores above one of the other, averaged over datasets: f64[3],
    # of each pair of the first `MOST_COMPARED` methods once, the better one first.
    improvements: Mapping[tuple[str, str], np.ndarray]


def compared_scores(scores: Sequence[MethodScore], samples: int) -> tuple[Statistics | None, list[LeftOut]]:
    """Returns the statistics of methods with scores on every dataset, and why other scores are left out."""
    fit: dict[tuple[str, str], MethodScore] = {}
    reasons: dict[tuple[str, str], str] = {}
    for score in scores:
        place = (score.dataset, score.method)
        if score.note:
            reasons[place] = score.note
        elif not score.is_normalised:
            reasons[place] = "a return, which is in its task's own unit"
        elif any(map(math.isnan, score.last)):
            reasons[place] = "a last score is not finite"
        else:
            fit[place] = score
    for dataset, of_dataset in grouped(fit.values(), lambda score: score.dataset).items():
        (usual, _), *_ = Counter(score.run.references for score in of_dataset).most_common()
        for score in of_dataset:
            if score.run.references != usual:
                del fit[dataset, score.method]
                why = "its reference returns are not those of the methods that count on this dataset"
                reasons[dataset, score.method] = why
    datasets, methods = (sorted(set(names)) for names in zip(*fit, strict=True)) if fit else ([], [])
    lacking = {method: [name for name in datasets if (name, method) not in fit] for method in methods}
    for dataset, method in fit:
        if lacking[method]:
            reasons[dataset, method] = f"the method has no score on {', '.join(lacking[method])}"
    methods = [method for method in methods if not lacking[method]]
    left_out = [LeftOut(f"{method} on {dataset}", reason) for (dataset, method), reason in reasons.items()]
    if not methods:
        return None, left_out
    matrices = {}
    for method in methods:
        scores_of = [fit[dataset, method].last for dataset in datasets]
        seeds = min(map(len, scores_of))  # as many as the dataset with the fewest has
        matrices[method] = np.array([of_one[:seeds] for of_one in scores_of], np.float64).T
    return statistics_of(datasets, matrices, samples), left_out


def statistics_of(datasets: Sequence[str], matrices: Mapping[str, np.ndarray], samples: int) -> Statistics:
    """Computes the aggregates and probabilities of improvement, with so many samples of the bootstrap.

    Args:
        matrices: by method f64[seeds, datasets], normalised scores in percent, all finite. Methods may differ
            in seeds.
    """

    def interval(function: Callable[..., np.ndarray], *methods: str) -> np.ndarray:
        """Returns the function's value, and the two ends of its 95% interval by the stratified bootstrap.

        Each sample draws as many seeds as there are, with replacement, anew for each method and dataset. With
        the same seed, rliable 1.2 has the same intervals.
        """
        scores = [matrices[method] for method in methods]
        value = function(*scores)
        if any(len(of_method) < 2 for of_method in scores):  # nothing to resample
            return np.stack([value, *np.full((2, *value.shape), math.nan)])
        generator = np.random.RandomState(BOOTSTRAP_SEED)  # NumPy never changes its stream

        def resampled(of_method: np.ndarray) -> np.ndarray:
            drawn = generator.randint(len(of_method), size=of_method.shape)
            return of_method[drawn, np.arange(of_method.shape[1])]

        estimates = [function(*map(resampled, scores)) for _ in range(samples)]
        return np.stack([value, *np.quantile(estimates, [TAIL, 1 - TAIL], axis=0)])

    aggregates = {method: interval(both_means, method) for method in matrices}
    order = sorted(matrices, key=lambda method: (-aggregates[method][0, 0], method))
    return Statistics(
        datasets,
        {method: len(matrix) for method, matrix in matrices.items()},
        {method: aggregates[method] for method in order},
        {
            pair: interval(probability_of_improvement, *pair)[:, 0]
            for pair in itertools.combinations(order[:MOST_COMPARED], 2)
        },
    )


def both_means(scores: np.ndarray) -> np.ndarray:
    """Returns the `AGGREGATES` of scores f64[seeds, datasets]: the mean of their middle half, and of all."""
    ordered = np.sort(scores, axis=None)
    cut = ordered.size // 4  # as in SciPy's trimmed mean: a whole number of scores, at either end
    return np.array([ordered[cut : ordered.size - cut].mean(), scores.mean(0).mean()])


def probability_of_improvement(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns f64[1], P(score > other) + P(score = other) / 2 over pairs of seeds, averaged over datasets."""
    return np.array([0.5 + 0.5 * np.sign(scores[:, None] - others[None]).mean()])
