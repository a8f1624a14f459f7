"""Statistics of scores over datasets and seeds (Agarwal et al. 2021)."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from xql_jax.numerics.statistics import grouped
from xql_jax.runs.find import LeftOut
from xql_jax.workshop.reports.scores import MethodScore

BOOTSTRAP_SEED = 0  # of the bootstrap: the same scores have the same intervals
TAIL = (1 - 0.95) / 2  # the share of samples below and above a 95% interval
MOST_COMPARED = 8  # methods that are compared in pairs, which makes 28 pairs
AGGREGATES = ("mean", "interquartile_mean", "median")


class Statistics(NamedTuple):
    """Statistics of the methods that have scores on all of these datasets.

    Along an array's first axis are a value and the two ends of its 95% bootstrap interval, which are NaN if
    no dataset has two seeds. A dataset with a single seed has no spread to resample: see `notes`.
    """

    datasets: Sequence[str]
    seeds: Mapping[str, Sequence[int]]  # by method, on each dataset
    aggregates: Mapping[str, np.ndarray]  # f64[3, 3], `AGGREGATES`; the best interquartile mean first
    # The probability that a run of one method is above a run of the other, averaged over datasets: f64[3],
    # of each pair of the first `MOST_COMPARED` methods once, the better first.
    improvements: Mapping[tuple[str, str], np.ndarray]

    def notes(self) -> list[str]:
        """Returns which intervals are too narrow, and why: they hold a dataset's only score fixed."""
        alone = {
            method: [name for name, of_one in zip(self.datasets, seeds, strict=True) if of_one == 1]
            for method, seeds in self.seeds.items()
            if max(seeds) > 1
        }
        return [
            f"{method} has one seed on {', '.join(names)}: its intervals hold that score fixed, and are too "
            "narrow"
            for method, names in alone.items()
            if names
        ]


def compared_scores(scores: Sequence[MethodScore], samples: int) -> tuple[Statistics | None, list[LeftOut]]:
    """Returns the statistics of methods with scores on every dataset, and why other scores are left out."""
    fit: dict[tuple[str, str], MethodScore] = {}
    reasons: dict[tuple[str, str], str] = {}
    for score in scores:
        place = (score.dataset, score.method)
        if score.note:
            reasons[place] = score.note
        elif not score.is_normalised:
            reasons[place] = f"a {score.quantity}, which is in its task's own unit"
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
    by_method = {method: [np.array(fit[name, method].last) for name in datasets] for method in methods}
    return statistics_of(datasets, by_method, samples), left_out


class Scores(NamedTuple):
    """The scores of a method: column d has those on dataset d, NaN below its last seed. See `both_means`."""

    values: np.ndarray  # f64[seeds, datasets], as many seeds as the dataset with the most has
    counts: np.ndarray  # i64[datasets], of seeds

    @classmethod
    def of(cls, by_dataset: Sequence[np.ndarray]) -> "Scores":
        counts = np.array([len(of_one) for of_one in by_dataset])
        values = np.full((counts.max(), len(counts)), math.nan)
        for column, of_one in enumerate(by_dataset):
            values[: len(of_one), column] = of_one
        return cls(values, counts)

    def resampled(self, generator: np.random.RandomState) -> "Scores":
        """Returns as many scores of each dataset, drawn from its own with replacement."""
        drawn = generator.randint(self.counts, size=self.values.shape)
        values = np.take_along_axis(self.values, drawn, axis=0)
        return Scores(np.where(np.isnan(self.values), math.nan, values), self.counts)


def statistics_of(
    datasets: Sequence[str], by_method: Mapping[str, Sequence[np.ndarray]], samples: int
) -> Statistics:
    """Computes the aggregates and probabilities of improvement, with so many samples of the bootstrap.

    Every seed counts, and every dataset counts alike, however many seeds it has.

    Args:
        by_method: of each dataset f64[seeds], normalised scores in percent, all finite. Datasets and methods
            may differ in seeds.
    """
    scores = {method: Scores.of(by_dataset) for method, by_dataset in by_method.items()}

    def interval(function: Callable[..., np.ndarray], *methods: str) -> np.ndarray:
        """Returns the function's value, and the two ends of its 95% interval by the stratified bootstrap.

        Each sample draws as many seeds as there are, with replacement, anew for each method and dataset. With
        the same seed and as many seeds on each dataset, rliable 1.2 has the same intervals.
        """
        compared = [scores[method] for method in methods]
        value = function(*compared)
        if any(of_method.counts.max() < 2 for of_method in compared):  # nothing to resample
            return np.stack([value, *np.full((2, *value.shape), math.nan)])
        generator = np.random.RandomState(BOOTSTRAP_SEED)  # NumPy never changes its stream
        estimates = [
            function(*(of_method.resampled(generator) for of_method in compared)) for _ in range(samples)
        ]
        return np.stack([value, *np.quantile(estimates, [TAIL, 1 - TAIL], axis=0)])

    aggregates = {method: interval(aggregates_of, method) for method in scores}
    middle = AGGREGATES.index("interquartile_mean")
    order = sorted(scores, key=lambda method: (-aggregates[method][0, middle], method))
    return Statistics(
        datasets,
        {method: scores[method].counts.tolist() for method in order},
        {method: aggregates[method] for method in order},
        {
            pair: interval(probability_of_improvement, *pair)[:, 0]
            for pair in itertools.combinations(order[:MOST_COMPARED], 2)
        },
    )


def aggregates_of(scores: Scores) -> np.ndarray:
    """Returns the `AGGREGATES`: mean and median are of the datasets' means.

    The interquartile mean is the mean of the middle half of all scores. There each score has the weight of
    its dataset's 1/n, as if the seeds were repeated until all datasets have equally many. So with equal
    numbers it is SciPy's trimmed mean, which rliable takes: it cuts a whole number of scores at either end.
    """
    means = np.nanmean(scores.values, axis=0)
    known = ~np.isnan(scores.values)
    repeated = math.lcm(*scores.counts.tolist())  # seeds on each dataset, if they are repeated
    copies = np.where(known, repeated / scores.counts, 0.0)[known]
    values = scores.values[known]
    order = np.argsort(values, kind="stable")
    ends = np.cumsum(copies[order])
    cut = repeated * len(means) // 4
    kept = np.diff(np.clip(ends, cut, repeated * len(means) - cut), prepend=cut)
    return np.array([means.mean(), kept @ values[order] / kept.sum(), np.median(means)])


def probability_of_improvement(scores: Scores, others: Scores) -> np.ndarray:
    """Returns f64[1], P(score > other) + P(score = other) / 2 over pairs of seeds, averaged over datasets."""
    signs = np.sign(scores.values[:, None] - others.values[None])  # NaN where either has no such seed
    return np.array([0.5 + 0.5 * np.nanmean(signs, axis=(0, 1)).mean()])
