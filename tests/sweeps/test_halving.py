"""What halving cuts, that it always cuts the same, and that those who stay are none the worse."""

import math

import pytest
from tiny_sweeps import TINY, rows, sweep_settings, train_all

from xql_jax.sweeps import halving
from xql_jax.sweeps.driver import planned_round
from xql_jax.sweeps.halving import next_round
from xql_jax.sweeps.plan import make_plan


class Setting:
    """A cell whose evaluations are given: by step the scores of its seeds."""

    def __init__(self, scores, method="xql", dataset="maze"):
        self.scores, self.method, self.dataset = scores, method, dataset
        self.state = "begun"


@pytest.fixture
def _given(monkeypatch):
    """Scores are those that a `Setting` was given."""

    def mean(cell, step):
        return sum(cell.scores[step]) / len(cell.scores[step]) if step in cell.scores else None

    monkeypatch.setattr(halving, "_score_at", mean)


@pytest.mark.usefixtures("_given")
def test_the_better_half_goes_on_and_what_is_not_finite_is_the_worst():
    nan = math.nan
    cells = [Setting({10: [score]}) for score in (3.0, nan, 1.0, 5.0, 2.0)]
    coming = next_round(cells, (10, 20), keep=0.5)
    assert [cells.index(cell) for cell in coming.cells] == [0, 3, 4]  # half of five, rounded up
    assert coming.until == 20
    assert [standing.kept for standing in coming.standings] == [True, False, False, True, True]


def test_the_share_that_stays_is_not_one_more_by_rounding():
    """0.55 * 20 is 11.000000000000002 in floating point."""
    assert halving._best([(score, score) for score in range(20)], 0.55) == list(range(9, 20))[::-1]


@pytest.mark.usefixtures("_given")
def test_nothing_is_cut_before_all_are_there():
    cells = [Setting({10: [1.0]}), Setting({}), Setting({10: [2.0]})]
    coming = next_round(cells, (10,), keep=0.5)
    assert (list(coming.cells), coming.until, coming.standings) == ([cells[1]], 10, [])


@pytest.mark.usefixtures("_given")
def test_means_over_seeds_are_compared_within_a_method_and_dataset():
    lucky = Setting({10: [90.0, 0.0]})  # the best seed, the worse mean
    steady = Setting({10: [50.0, 50.0]})
    other = Setting({10: [1.0, 1.0]}, method="iql:loss=huber")
    elsewhere = Setting({10: [2.0, 2.0]}, dataset="kitchen")
    coming = next_round([lucky, steady, other, elsewhere], (10,), keep=0.5)
    assert list(coming.cells) == [steady, other, elsewhere]
    assert coming.until is None


@pytest.mark.slow
def test_who_stays_has_the_numbers_of_a_run_that_was_never_compared(tmp_path):
    swept = {"methods": (f"iql{TINY}",), "sweep": "expectile=0.6,0.7,0.8,0.9 actor_lr=0.001"}
    whole = sweep_settings(tmp_path / "whole", **swept)
    halved = sweep_settings(tmp_path / "halved", **swept, halve_at=(5, 10), keep=0.5)
    train_all(whole)
    outcomes = train_all(halved)
    # Four to 5, two of them to 10, one to the end.
    assert [outcome.summary["step"] for _, outcome in outcomes] == [5] * 4 + [10] * 2 + [20]
    [reference] = rows(whole).values()
    standings = planned_round(make_plan(halved), halved).standings
    assert [(standing.step, standing.kept) for standing in standings].count((5, False)) == 2
    assert [(standing.step, standing.kept) for standing in standings].count((10, False)) == 1
    for found in rows(halved).values():
        setting, last = found[0][2], found[-1][0]
        expected = [row for row in reference if row[2] == setting and row[0] <= last]
        assert sorted(found) == sorted(expected)
    # Typed again it cuts the same, and trains nothing.
    assert train_all(halved) == []
    assert planned_round(make_plan(halved), halved).standings == standings
    table = halving.as_csv(standings).splitlines()
    assert table[0] == "step,dataset,method,setting,score,kept,run"
    assert sum(",no," in line for line in table) == 3
