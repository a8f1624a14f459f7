"""Statistics over datasets, by enumeration; what shares an axis."""

import itertools

import numpy as np
import pytest
from members import member
from scipy import stats

from xql_jax.workshop.reports.scores import method_scores
from xql_jax.workshop.reports.statistics import compared_scores, statistics_of

SAMPLES = 300


def aggregates_of(scores):
    """In the middle half seeds are repeated until every dataset has equally many."""
    most, means = np.lcm.reduce([*map(len, scores)]), [np.mean(of_one) for of_one in scores]
    repeated = [np.repeat(of_one, most // len(of_one)) for of_one in scores]
    return [np.mean(means), stats.trim_mean(repeated, 0.25, axis=None), np.median(means)]


def improvement_of(scores, others):
    """The share of pairs of seeds in which the first is better, ties by half; the mean over datasets."""
    pairs = [np.subtract.outer(*of_one) for of_one in zip(scores, others, strict=True)]
    return np.mean([(of_one > 0).mean() + (of_one == 0).mean() / 2 for of_one in pairs])


def all_resamples(scores):
    """Every draw of seeds with replacement from each dataset's own."""
    return itertools.product(*(itertools.product(of_one, repeat=len(of_one)) for of_one in scores))


def assert_percentiles(interval, every):
    """The ends split all resamples as 2.5% and 97.5% do, but for 4 standard errors of 4,000 samples.

    Args:
        interval: f64[3, K], a value and the ends.
        every: f64[R, K], of all resamples, which are equally likely.
    """
    every = np.array(every).round(9)
    for end, share in zip(interval[1:].round(9), (0.025, 0.975), strict=True):
        error = 4 * np.sqrt(0.025 * 0.975 / 4_000)
        assert ((every < end).mean(0) <= share + error).all()
        assert ((every <= end).mean(0) >= share - error).all()


@pytest.mark.parametrize(
    "by_method",
    [
        {"better": [[70.0, 50.0, 90.0], [20.0, 130.0, 60.0]], "worse": [[45.0, 80.0], [95.0, 20.0]]},
        {"better": [[70.0, 50.0, 90.0, 10.0], [130.0, 60.0]], "worse": [[45.0, 80.0], [95.0, 20.0, 60.0]]},
        {"better": [[0.0, 90.0, 60.0, 90.0], [80.0], [50.0, 20.0]], "worse": [[9.0], [70.0, 30.0], [8.0]]},
    ],
)
def test_values_and_intervals_by_enumerating_all_resamples(by_method):
    """Three seeds on two datasets have 3^3 * 3^3 resamples; also with unequal numbers of seeds, and ties."""
    arrays = {name: [*map(np.array, by_dataset)] for name, by_dataset in by_method.items()}
    names = [f"task {number}" for number in range(len(by_method["better"]))]
    statistics = statistics_of(names, arrays, 4_000)
    assert statistics.seeds == {name: [*map(len, scores)] for name, scores in by_method.items()}
    assert list(statistics.aggregates) == ["better", "worse"]
    for method, scores in by_method.items():
        np.testing.assert_allclose(statistics.aggregates[method][0], aggregates_of(scores))
        every = [aggregates_of(resample) for resample in all_resamples(scores)]
        assert_percentiles(statistics.aggregates[method], every)
    ((pair, probability),) = statistics.improvements.items()
    assert pair == ("better", "worse")
    assert probability[0] == pytest.approx(improvement_of(*by_method.values()))
    both = itertools.product(*map(all_resamples, by_method.values()))
    assert_percentiles(probability[:, None], [[improvement_of(*resamples)] for resamples in both])


def test_a_dataset_with_one_seed_is_named():
    scores = {"xql": [np.array([1.0, 2.0]), np.array([3.0])], "iql": [np.array([1.0]), np.array([3.0])]}
    statistics = statistics_of(["hopper", "walker"], scores, SAMPLES)
    assert [note.split(":")[0] for note in statistics.notes()] == ["xql has one seed on walker"]
    assert np.isnan(statistics.aggregates["iql"][1:]).all()
    # hopper's mean is 1, 1.5 or 2, walker's always 3.
    np.testing.assert_allclose(statistics.aggregates["xql"][:, 0], [2.25, 2.0, 2.5])


def test_intervals_of_rliable():
    """What rliable 1.2.0 gave for these tables, after `np.random.seed(0)` and with as many samples."""
    one = [[60, 60, 80, 60], [40, 70, 100, 90], [40, 20, 40, 60], [-10, 50, 20, 40], [40, 50, 70, 90]]
    two = [[30, 70, 10, 40], [60, 30, 10, 0], [20, 40, 0, 20], [30, 50, 40, 40], [10, 30, 50, 70]]
    two += [[-10, 80, 70, 50], [40, 20, 70, 90]]
    by_method = {"one": np.array(one, float).T, "two": np.array(two, float).T}
    statistics = statistics_of(["a", "b", "c", "d"], by_method, SAMPLES)
    low, high = statistics.aggregates["one"][1:, :2]
    np.testing.assert_allclose(low, [43.5, 44], rtol=1e-12)
    np.testing.assert_allclose(high, [63, 65], rtol=1e-12)
    expected = [0.5338392857142857, 0.8268749999999999]
    np.testing.assert_allclose(statistics.improvements["one", "two"][1:], expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("places", "datasets", "methods"),
    [
        (["am", "bm", "an", "bn", "ao"], "ab", "mn"),
        (["am"], "a", "m"),
        (["am", "bn"], "", ""),  # none has a score on both
    ],
)
def test_methods_that_have_a_score_on_every_dataset_count(places, datasets, methods):
    members = [
        member(0, 50.0, run={"dataset": place[0], "method": place[1], "name": place}) for place in places
    ]
    statistics, left_out = compared_scores(method_scores(members), SAMPLES)
    found = (statistics.datasets, sorted(statistics.aggregates)) if statistics else ([], [])
    assert found == (list(datasets), list(methods))
    assert len(left_out) == sum(place[1] not in methods for place in places)


def test_scores_with_other_references_are_not_compared():
    """Three methods have the same references; a fourth has others."""
    settings = {"xql": [0.0, 50.0], "iql": [0.0, 50.0], "td3_bc": [0.0, 100.0]}
    members = [member(0, 40.0, run={"method": name}, references=of) for name, of in settings.items()]
    members.append(member(0, 20.0, run={"method": "bc"}, references=[0.0, 50.0]))
    statistics, left_out = compared_scores(method_scores(members), SAMPLES)
    assert {name: numbers[0, 0] for name, numbers in statistics.aggregates.items()} == {
        "bc references=[0.0, 50.0]": 20.0,
        "iql references=[0.0, 50.0]": 40.0,
        "xql references=[0.0, 50.0]": 40.0,
    }
    assert [one.run for one in left_out if "reference" in one.reason] == [
        "td3_bc references=[0.0, 100.0] on kitchen-complete-v0"
    ]
