"""Statistics over datasets and seeds with bootstrap intervals, by rliable (Agarwal et al. 2021)."""

import contextlib
import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

SAMPLES = 2_000  # bootstrap samples, rliable's default for profiles
SEED = 0  # of the bootstrap: the same scores have the same intervals
THRESHOLDS = 51  # of a performance profile
MOST_PROFILED = 12  # methods with a performance profile: more lines could not be told apart
MOST_COMPARED = 8  # methods that are compared in pairs, which makes 28 pairs
EXPERT = 100.0  # an expert's score, from which the optimality gap counts; see `Task.normalized_score`


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A number with its 95% bootstrap interval, which is NaN if each dataset has only one seed."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Aggregate:
    """Aggregate scores of a method over all datasets and seeds, in percent."""

    method: str
    seeds: int  # per dataset
    interquartile_mean: Estimate  # the mean of the middle half of all scores
    mean: Estimate
    median: Estimate  # over datasets, of the mean over seeds
    optimality_gap: Estimate  # 100 minus the mean score, in which scores above 100 count as 100


@dataclasses.dataclass(frozen=True)
class Profile:
    """The share of a method's seeds and datasets with a score above each threshold, with its 95% interval."""

    method: str
    thresholds: Sequence[float]
    shares: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


@dataclasses.dataclass(frozen=True)
class Improvement:
    """The probability that a run of one method scores above one of the other, averaged over datasets."""

    method: str
    other: str
    probability: Estimate


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Statistics of the methods that have scores on all of these datasets."""

    datasets: Sequence[str]
    aggregates: Sequence[Aggregate]  # the best interquartile mean first
    profiles: Sequence[Profile]  # of the first `MOST_PROFILED`
    improvements: Sequence[Improvement]  # each pair of the first `MOST_COMPARED` once, the better one first


def common_block(cells: Sequence[tuple[str, str]]) -> tuple[list[str], list[str]]:
    """Returns the datasets and the methods of the largest table without a gap.

    Candidates are the datasets of each method, and the datasets that two methods share; the methods are all
    that have scores on them. A table with one dataset or one method is chosen only if there is no other.

    Args:
        cells: pairs (dataset, method) with a score.
    """
    of_method: dict[str, set[str]] = {}
    for dataset, method in cells:
        of_method.setdefault(method, set()).add(dataset)
    sets = {frozenset(datasets) for datasets in of_method.values()}
    sets |= {one & other for one, other in itertools.combinations(sets, 2)}

    def methods_on(datasets: frozenset[str]) -> list[str]:
        return sorted(method for method, has in of_method.items() if datasets <= has)

    def size(datasets: frozenset[str]) -> tuple[bool, int, int, list[str]]:
        methods = len(methods_on(datasets))
        return min(len(datasets), methods) > 1, len(datasets) * methods, len(datasets), sorted(datasets)

    best = max((datasets for datasets in sets if datasets), key=size, default=frozenset())
    return sorted(best), methods_on(best) if best else []


def score_matrix(by_dataset: Sequence[Sequence[float]]) -> np.ndarray:
    """Returns the scores f64[seeds, datasets], with as many seeds as the dataset with the fewest has."""
    seeds = min(map(len, by_dataset))
    return np.array([scores[:seeds] for scores in by_dataset], np.float64).T


def statistics_of(
    datasets: Sequence[str], matrices: Mapping[str, np.ndarray], samples: int = SAMPLES
) -> Statistics:
    """Computes the aggregates, performance profiles and probabilities of improvement.

    Args:
        datasets: the names of the matrices' columns.
        matrices: by method f64[seeds, datasets], normalised scores in percent, all finite. Methods may differ
            in seeds.
        samples: number of bootstrap samples.
    """
    aggregates = sorted(
        (_aggregate(method, matrix, samples) for method, matrix in matrices.items()),
        key=lambda aggregate: (-aggregate.interquartile_mean.value, aggregate.method),
    )
    order = [aggregate.method for aggregate in aggregates]
    every = np.concatenate([matrix.ravel() for matrix in matrices.values()])
    thresholds = tuple(np.linspace(min(0.0, every.min()), max(EXPERT, every.max()), THRESHOLDS).tolist())
    pairs = itertools.combinations(order[:MOST_COMPARED], 2)
    return Statistics(
        datasets,
        aggregates,
        [_profile(method, matrices[method], thresholds, samples) for method in order[:MOST_PROFILED]],
        [_improvement(one, other, matrices[one], matrices[other], samples) for one, other in pairs],
    )


def four_aggregates(scores: np.ndarray) -> np.ndarray:
    """Returns the interquartile mean, mean, median and optimality gap of f64[seeds, datasets].

    They equal rliable's metrics, but take a fifth of the time; the bootstrap calls this thousands of times.
    """
    ordered = np.sort(scores, axis=None)
    cut = ordered.size // 4  # as in SciPy's trimmed mean: a whole number of scores, at either end
    of_datasets = scores.mean(0)
    return np.array(
        [
            ordered[cut : ordered.size - cut].mean(),
            of_datasets.mean(),
            np.median(of_datasets),
            EXPERT - np.minimum(ordered, EXPERT).mean(),
        ]
    )


@dataclasses.dataclass(frozen=True)
class SharesAbove:
    """The share of scores above each threshold, f64[T]: rliable's profile, but a hundred times as fast."""

    thresholds: tuple[float, ...]

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        ordered = np.sort(scores, axis=None)
        return 1.0 - np.searchsorted(ordered, np.array(self.thresholds), side="right") / ordered.size


def probability_of_improvement(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns f64[1], P(score > other) + P(score = other) / 2 over pairs of seeds, averaged over datasets.

    It equals rliable's, which is thirty times slower because SciPy's Mann-Whitney test counts the pairs.
    """
    return np.array([0.5 + 0.5 * np.sign(scores[:, None] - others[None]).mean()])


def _aggregate(method: str, matrix: np.ndarray, samples: int) -> Aggregate:
    value, low, high = _interval(four_aggregates, [matrix], samples)
    estimates = (Estimate(*map(float, numbers)) for numbers in zip(value, low, high, strict=True))
    return Aggregate(method, len(matrix), *estimates)


def _profile(method: str, matrix: np.ndarray, thresholds: tuple[float, ...], samples: int) -> Profile:
    value, low, high = _interval(SharesAbove(thresholds), [matrix], samples)
    return Profile(method, thresholds, value.tolist(), low.tolist(), high.tolist())


def _improvement(one: str, other: str, scores: np.ndarray, others: np.ndarray, samples: int) -> Improvement:
    value, low, high = _interval(probability_of_improvement, [scores, others], samples)
    return Improvement(one, other, Estimate(float(value[0]), float(low[0]), float(high[0])))


def _interval(
    function: Callable[..., np.ndarray], matrices: Sequence[np.ndarray], samples: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the function's value, and the two ends of its 95% interval by rliable's bootstrap."""
    return _cached_interval(function, samples, *((matrix.tobytes(), matrix.shape) for matrix in matrices))


@functools.lru_cache(maxsize=1_000)  # a live report is made again and again
def _cached_interval(
    function: Callable[..., np.ndarray], samples: int, *contents: tuple[bytes, tuple[int, ...]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    matrices = [np.frombuffer(content).reshape(shape) for content, shape in contents]
    value = function(*matrices)
    if any(len(matrix) < 2 for matrix in matrices):  # nothing to resample
        return value, np.full_like(value, math.nan), np.full_like(value, math.nan)
    from rliable import library  # takes a second or more to import

    scores = matrices[0] if len(matrices) == 1 else list(matrices)
    with _seeded():
        _, intervals = library.get_interval_estimates({"": scores}, function, reps=samples)
    low, high = intervals[""]
    return value, low, high


@contextlib.contextmanager
def _seeded() -> Iterator[None]:
    """Context manager that seeds NumPy's global generator, which rliable's bootstrap uses, with `SEED`."""
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(SEED)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002
