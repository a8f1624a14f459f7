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
    return [stats.trim_mean(scores, 0.25, axis=None), scores.mean()]


def improvement_of(scores, others):
    """The share of pairs of seeds in which the first is better, ties by half."""
    pairs = scores[:, None], others[None]
    return np.greater(*pairs).mean() + np.equal(*pairs).mean() / 2


def all_resamples(scores):
    """Every table that draws seeds with replacement from each column on its own."""
    drawn = list(itertools.product(range(len(scores)), repeat=len(scores)))
    for columns in itertools.product(drawn, repeat=scores.shape[1]):
        yield np.take_along_axis(scores, np.transpose(columns), axis=0)


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


def test_values_and_intervals_by_enumerating_all_resamples():
    """Three seeds on two datasets have 3^3 * 3^3 resamples, two seeds 2^2 * 2^2."""
    matrices = {
        "three": np.array([[70.0, 20.0], [50.0, 130.0], [90.0, 60.0]]),
        "two": np.array([[45.0, 95.0], [80.0, 20.0]]),  # 20 is a tie
    }
    statistics = statistics_of(["a", "b"], matrices, 4_000)
    assert statistics.seeds == {"three": 3, "two": 2}
    assert list(statistics.aggregates) == ["three", "two"]
    for method, matrix in matrices.items():
        np.testing.assert_allclose(statistics.aggregates[method][0], aggregates_of(matrix))
        every = [aggregates_of(resample) for resample in all_resamples(matrix)]
        assert_percentiles(statistics.aggregates[method], every)
    ((pair, probability),) = statistics.improvements.items()
    assert pair == ("three", "two")
    assert probability[0] == pytest.approx(improvement_of(matrices["three"], matrices["two"]))
    both = itertools.product(all_resamples(matrices["three"]), all_resamples(matrices["two"]))
    assert_percentiles(probability[:, None], [[improvement_of(*resamples)] for resamples in both])


def test_intervals_of_rliable():
    """What rliable 1.2.0 gave for these tables, after `np.random.seed(0)` and with as many samples."""
    one = [[60, 60, 80, 60], [40, 70, 100, 90], [40, 20, 40, 60], [-10, 50, 20, 40], [40, 50, 70, 90]]
    two = [[30, 70, 10, 40], [60, 30, 10, 0], [20, 40, 0, 20], [30, 50, 40, 40], [10, 30, 50, 70]]
    two += [[-10, 80, 70, 50], [40, 20, 70, 90]]
    matrices = {"one": np.array(one, float), "two": np.array(two, float)}
    statistics = statistics_of(["a", "b", "c", "d"], matrices, SAMPLES)
    low, high = statistics.aggregates["one"][1:]
    np.testing.assert_allclose(low, [44, 43.5], rtol=1e-12)
    np.testing.assert_allclose(high, [65, 63], rtol=1e-12)
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
    assert {name: numbers[0, 1] for name, numbers in statistics.aggregates.items()} == {
        "bc references=[0.0, 50.0]": 20.0,
        "iql references=[0.0, 50.0]": 40.0,
        "xql references=[0.0, 50.0]": 40.0,
    }
    assert [one.run for one in left_out if "reference" in one.reason] == [
        "td3_bc references=[0.0, 100.0] on kitchen-complete-v0"
    ]
