"""Statistics over datasets by hand and by rliable called directly; the best policy found, by enumeration."""

import dataclasses
import itertools

import numpy as np
import pytest
from members import member
from rliable import library, metrics

from xql_jax.reports.method_scores import method_scores
from xql_jax.reports.statistics import (
    BOOTSTRAP_SEED,
    best_found,
    common_block,
    statistics_of,
    tuning_curves,
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


@pytest.mark.parametrize(
    ("cells", "datasets", "methods"),
    [
        ([], "", ""),
        (["am"], "a", "m"),
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


def test_the_first_episodes_go_to_one_policy_each():
    """After n of them the best of n drawn from ten is found: its mean by enumeration. Eight are searched."""
    powers = 2.0 ** np.arange(10)  # scores of ten policies, each the same in every episode
    means, _, high = best_found(np.repeat(powers[:, None], 5, axis=1))
    for n in range(1, 9):
        best = np.array([max(drawn) for drawn in itertools.combinations(powers, n)])
        assert means[n - 1] == pytest.approx(best.mean(), abs=4 * best.std() / np.sqrt(1_000))
        assert high[n - 1] - means[n - 1] == pytest.approx(1.96 * best.std() / np.sqrt(1_000), rel=0.1)
    np.testing.assert_array_equal(means[8:], means[7])  # they are known by now
    every, *_ = best_found(np.repeat(powers[:6, None], 5, axis=1))
    np.testing.assert_array_equal(every[5:], 32.0)


def test_two_policies_that_succeed_in_a_share_of_their_episodes():
    """Rates 0.8 and 0.2. After two episodes the better looks better with 0.64, and equal with 0.32: 0.68.

    Without a bonus a search that saw the better fail and the other succeed (0.04) would never return to it.
    """
    means, *_ = best_found(np.array([[1, 1, 1, 1, 0], [1, 0, 0, 0, 0]], float))
    np.testing.assert_allclose(means[:2], [0.5, 0.68], atol=4 * 0.3 / np.sqrt(1_000))
    assert means[-1] > 0.8 - 0.04 * 0.6 / 2


def of_episodes(seed, last, **settings):
    """A member whose evaluations are of three episodes each: of no use first, then with these scores."""
    of_six = member(seed, -99.0, -99.0, -99.0, *last, **settings)
    return dataclasses.replace(of_six, steps=[10] * 3 + [20] * 3)


def test_a_grid_has_a_curve_of_the_last_evaluations_episodes():
    """On one dataset XQL with two values of beta and two seeds each is four policies, BC is one."""
    grid = {(0, 1.0): [0, 0, 0], (1, 1.0): [10, 20, 30], (0, 2.0): [50, 50, 50], (1, 2.0): [4, 4, 4]}
    members = [of_episodes(seed, last, beta=beta) for (seed, beta), last in grid.items()]
    cloning, elsewhere = {"algorithm": "bc"}, {"dataset": "pen-human-v0"}
    members.append(of_episodes(0, [7, 8, 9], run=cloning, beta=1.0))
    members += [of_episodes(seed, [1, 2, 3], run=elsewhere, beta=1.0) for seed in range(3)]  # no grid
    members.append(of_episodes(0, [90, 90, 90], run={"algorithm": "iql"}, finished=False, beta=1.0))
    xql, bc = sorted(tuning_curves(method_scores(members)[0]), key=lambda curve: -curve.policies)
    assert xql.run.dataset == bc.run.dataset == "kitchen-complete-v0"
    assert (xql.run.algorithm, xql.settings, xql.policies) == ("xql", 2, 4)
    assert (bc.run.algorithm, bc.settings, bc.policies) == ("bc", 1, 1)
    assert xql.found[0, -1] == 50.0
    np.testing.assert_array_equal(bc.found, 8.0)
