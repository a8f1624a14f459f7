"""Last and best scores from rows made by hand."""

import math

import pytest
from scipy import stats

from xql_jax.logs.csv_rows import parse_rows, scores_by_setting
from xql_jax.runs.summary import summarize, summarize_finetuning

CSV = """step,seed,return,score,length,diverged_at,seconds
10,3,0,40,300,,1.5
10,4,0,10,300,,1.5
20,3,0,20,300,,2.5
20,4,0,30,300,15,2.5
"""


def read(tmp_path, text, *swept):
    return parse_rows(text.encode(), ["seed", *swept], tmp_path / "evaluations.csv")


def test_last_is_the_result_and_best_is_beside_it(tmp_path):
    (result,) = summarize(read(tmp_path, CSV), 10)
    # 20 and 30: mean 25, standard deviation 50^0.5, standard error 5; Student's t with 1 degree of freedom.
    assert result.pop("last_score_interval_95") == pytest.approx(12.7062 * 5.0, rel=1e-5)
    assert result == {
        "hyperparameters": {},
        "seeds": [3, 4],
        "last_step": 20,
        "last_score": 25.0,
        "last_score_by_seed": [20.0, 30.0],
        "best_score_by_seed": [40.0, 30.0],
        "best_step_by_seed": [10, 20],
        "diverged_seeds": [4],
    }


def test_groups_by_the_settings_of_a_sweep_whatever_the_order(tmp_path):
    text = "step,seed,beta,score,diverged_at\n5,1,0.5,3,\n5,0,0.5,1,\n5,0,2,10,\n5,1,2,30,\n"
    rows = read(tmp_path, text, "beta")
    results = summarize(rows, 10)
    assert [result["hyperparameters"] for result in results] == [{"beta": 0.5}, {"beta": 2.0}]
    assert [result["last_score"] for result in results] == [2.0, 20.0]
    steps, seeds, scores = scores_by_setting(rows)[("beta", 0.5),]
    assert (steps, seeds, scores.tolist()) == ([5], [0, 1], [[1.0], [3.0]])


@pytest.mark.parametrize(
    ("rates", "successes"),
    [((0.1, 0.7), 8), ((0.1, math.nan), 1), ((math.nan, math.nan), None), (("", 0.1), 1), ((0.0, 0.0), 0)],
)
def test_successes_are_those_of_all_seeds_at_the_last_evaluation(tmp_path, rates, successes):
    """Over 20 episodes. Once an episode has told, those without a word have failed; else nothing is known."""
    text = "step,seed,score,success_rate,diverged_at\n5,0,3,1,\n5,1,3,1,\n"
    text += "".join(f"10,{seed},1,{rate},\n" for seed, rate in enumerate(rates))
    (result,) = summarize(read(tmp_path, text), 10)
    if successes is None:
        assert not any("success" in name for name in result)
    else:
        assert result["last_success_rate"] == successes / 20
        ends = stats.binomtest(successes, 20).proportion_ci(method="wilson")
        assert result["last_success_interval_95"] == [*ends]


def test_plain_returns_have_no_regret(tmp_path):
    rows = read(tmp_path, CSV)
    (with_references,) = summarize_finetuning(rows, 10, is_normalised=True)
    (plain,) = summarize_finetuning(rows, 10, is_normalised=False)
    assert with_references["cumulative_regret_by_seed"] == [0.8, 0.7]  # of 20 and 30
    assert not any("regret" in name for name in plain)
    assert (plain["offline_score"], plain["online_score"]) == (25.0, 25.0)
    assert summarize_finetuning(rows, 20, is_normalised=True) == []  # nothing was evaluated after it
