"""Entries of the choice: their order, means by setting, correlations in the direction of each statistic."""

import pytest

from xql_jax.reports.choice_table import STATISTICS, agreement_of, as_csv, best_first, by_setting


def entry(seed, beta, score, **known):
    return {"seed": seed, "beta": beta, **dict.fromkeys(STATISTICS), **known, "score": score}


MEMBERS = [
    entry(0, 1.0, 10.0, fqe_value=3.0, td_error=0.1),
    entry(1, 1.0, 20.0, fqe_value=5.0, td_error=0.3),
    entry(0, 2.0, 50.0, fqe_value=4.5, td_error=0.4),
    entry(1, 2.0, 30.0, fqe_value=None, td_error=0.2),
    entry(0, 3.0, 0.0, fqe_value=1.0, td_error=0.9),
    entry(1, 3.0, None, fqe_value=1.5, td_error=0.7),
]


def test_the_highest_value_is_first_and_the_unknown_last():
    assert [member["fqe_value"] for member in best_first(MEMBERS)] == [5.0, 4.5, 3.0, 1.5, 1.0, None]


def test_settings_are_means_over_what_is_known_of_their_seeds():
    first, second, third = by_setting(MEMBERS, ["beta"])
    assert (first["setting"], first["beta"], first["seeds"]) == ("beta=2", 2.0, 2)
    assert (first["fqe_value"], first["td_error"], first["score"]) == (4.5, pytest.approx(0.3), 40.0)
    assert (second["setting"], second["fqe_value"], second["score"]) == ("beta=1", 4.0, 15.0)
    assert (third["setting"], third["fqe_value"], third["score"]) == ("beta=3", 1.25, 0.0)
    assert first["initial_v"] is None


def test_the_least_error_counts_as_the_best():
    found = agreement_of(MEMBERS)
    assert found["statistics"].keys() == {"fqe_value", "td_error"}
    value, error = found["statistics"]["fqe_value"], found["statistics"]["td_error"]
    # Among those with both, values 3, 5, 4.5, 1 beside 10, 20, 50, 0: ranks 2 4 3 1 and 2 3 4 1.
    assert (value["policies"], value["rho"]) == (4, pytest.approx(1 - 6 * 2 / (4 * 15)))
    assert value["regret"] == 30.0  # 50, which nobody chose, less 20
    # Errors 0.1, 0.3, 0.4, 0.2, 0.9, least first, beside 10, 20, 50, 30, 0: ranks 5 3 2 4 1 and 2 3 5 4 1.
    assert (error["policies"], error["rho"]) == (5, pytest.approx(1 - 6 * 18 / (5 * 24)))
    assert error["regret"] == 40.0
    assert found["regret_by_chance"] == pytest.approx(50 - 110 / 5)


def test_one_score_is_nothing_to_compare():
    assert agreement_of([entry(0, 1.0, 5.0, fqe_value=1.0), entry(1, 1.0, None, fqe_value=2.0)]) == {}
    assert agreement_of([]) == {}


def test_the_table_leaves_cells_of_unknown_numbers_empty():
    lines = as_csv(MEMBERS[3:5]).splitlines()
    assert lines[0] == "seed,beta,fqe_value,initial_v,initial_q,advantage,td_error,fqe_error,score"
    assert lines[1:] == ["1,2.0,,,,,0.2,,30.0", "0,3.0,1.0,,,,0.9,,0.0"]
