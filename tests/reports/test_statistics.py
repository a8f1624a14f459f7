"""Statistics over datasets: by hand, and number for number those of rliable called directly."""

import numpy as np
import pytest
from rliable import library, metrics

from xql_jax.reports.statistics import (
    BOOTSTRAP_SEED,
    common_block,
    four_aggregates,
    probability_of_improvement,
    score_matrix,
    statistics_of,
)

SAMPLES = 300


@pytest.fixture(scope="module")
def matrices():
    generator = np.random.default_rng(0)
    # Rounded, so that there are ties; methods differ in their seeds.
    return {
        "one": generator.normal(60, 30, (5, 4)).round(-1),
        "two": generator.normal(30, 30, (7, 4)).round(-1),
        "three": generator.normal(90, 20, (3, 4)),
    }


def from_rliable(scores, function):
    """What a user of rliable would have, with the seed that the report says."""
    np.random.seed(BOOTSTRAP_SEED)  # noqa: NPY002
    values, intervals = library.get_interval_estimates({"": scores}, function, reps=SAMPLES)
    return np.stack([values[""], *intervals[""]])


def test_the_interquartile_mean_and_the_gap_by_hand():
    # The middle half of 1, ..., 8 is 3, 4, 5, 6. To 100 are missing 100 - 36/8; 120 counts as 100.
    scores = np.array([[8.0, 1.0], [2.0, 7.0], [6.0, 3.0], [4.0, 5.0]])
    quartiles, mean, median, gap = four_aggregates(scores)
    assert (quartiles, mean, median, gap) == (4.5, 4.5, 4.5, 95.5)
    assert four_aggregates(np.array([[120.0], [40.0]]))[3] == 30.0


def test_the_probability_of_improvement_by_hand():
    # 2 is above 1 alone of 1, 2, 3, and equal to 2: 1.5 of 3. 4 is above all. Together 4.5 of 6.
    scores, others = np.array([[2.0], [4.0]]), np.array([[1.0], [2.0], [3.0]])
    assert probability_of_improvement(scores, others) == [0.75]
    assert probability_of_improvement(others, others) == [0.5]


def test_aggregates_profiles_and_probabilities_are_rliables(matrices):
    statistics = statistics_of(["a", "b", "c", "d"], matrices, SAMPLES)

    def aggregates(scores):
        functions = (metrics.aggregate_iqm, metrics.aggregate_mean, metrics.aggregate_median)
        gap = metrics.aggregate_optimality_gap(scores, gamma=100)
        return np.array([*(function(scores) for function in functions), gap])

    def improvement(scores, others):
        return np.array([metrics.probability_of_improvement(scores, others)])

    assert list(statistics.aggregates) == list(statistics.profiles) == ["three", "one", "two"]
    assert statistics.seeds == {"one": 5, "two": 7, "three": 3}
    for method, matrix in matrices.items():
        expected = from_rliable(matrix, aggregates)
        np.testing.assert_allclose(statistics.aggregates[method], expected, rtol=1e-12)
        shares = from_rliable(
            matrix, lambda scores: library.score_distributions(scores, statistics.thresholds)
        )
        np.testing.assert_allclose(statistics.profiles[method], shares, atol=1e-12)
        assert shares[0, 0] > 0.5 > shares[0, -1] == 0.0
    assert list(statistics.improvements) == [("three", "one"), ("three", "two"), ("one", "two")]
    for (method, other), probability in statistics.improvements.items():
        expected = from_rliable([matrices[method], matrices[other]], improvement)
        np.testing.assert_allclose(probability, expected[:, 0], rtol=1e-12)


def test_with_one_seed_there_is_no_interval():
    matrices = {"one": np.array([[50.0]]), "two": np.array([[40.0], [60.0]])}
    statistics = statistics_of(["a"], matrices, SAMPLES)
    assert np.isnan(statistics.aggregates["one"][1:]).all()
    assert not np.isnan(statistics.aggregates["two"]).any()
    assert np.isnan(statistics.improvements["one", "two"][1:]).all()


@pytest.mark.parametrize(
    ("cells", "datasets", "methods"),
    [
        ([], "", ""),
        (["am"], "a", "m"),
        (["am", "bm", "an", "bn"], "ab", "mn"),
        # Five methods on one dataset are more numbers, but no statistics over datasets.
        (["am", "bm", "an", "bn", "ao", "ap", "aq"], "ab", "mn"),
        # m and n share b and c, and o has those alone: six numbers of b and c, none more of another table.
        (["am", "bm", "cm", "bn", "cn", "dn", "bo", "co"], "bc", "mno"),
        (["am", "bn"], "b", "n"),  # nothing shared: one of them
    ],
)
def test_the_largest_table_without_a_gap(cells, datasets, methods):
    found = common_block([(cell[0], cell[1]) for cell in cells])
    assert found == (list(datasets), list(methods))


def test_datasets_with_more_seeds_give_as_many_as_the_others():
    np.testing.assert_array_equal(score_matrix([[1, 2, 3], [4, 5]]), [[1, 4], [2, 5]])
