"""What is printed of scores: an interval where there is one, which may be 0."""

import pytest

from xql_jax.commands import evaluating, training

EPISODES = {
    "score_mean": 50.0, "score_median": 49.0, "success_rate": None, "return_mean": 5.0, "length_mean": 9.0,
    "non_finite_actions": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("scores", "interval", "expected"),
    [
        (
            [60.0, 60.0],
            0.0,
            "last score 60.0 ± 0.0 (95% interval of the mean over 2 seeds); by seed: 60.0, 60.0",
        ),
        ([60.0], None, "last score 60.0; by seed: 60.0"),
    ],
)
def test_an_interval_of_0_is_one(capsys, scores, interval, expected):
    seeds = list(range(len(scores)))
    result = {"hyperparameters": {}, "seeds": seeds, "last_score": 60.0, "last_score_interval_95": interval}
    training.print_result({**result, "last_score_by_seed": scores, "diverged_seeds": []})
    assert capsys.readouterr().out == f"  {expected}\n"


@pytest.mark.parametrize(
    ("interval", "expected"),
    [(0.0, "score 50.0 ± 0.0 (95% interval over episodes), median 49.0"), (None, "score 50.0, median 49.0")],
)
def test_one_episode_has_no_interval(capsys, interval, expected):
    evaluating._print_members(["seed 0"], [{**EPISODES, "score_interval_95": interval}])
    assert capsys.readouterr().out == f"  seed 0: {expected}, return 5, length 9.0\n"
