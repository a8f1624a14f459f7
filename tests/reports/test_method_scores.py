"""Whose scores make one number, what the number is, and which of the paper's stands beside it."""

import math

import pytest
from members import member
from written_runs import write_run

from xql_jax.errors import UserError
from xql_jax.runs.kinds import FINE_TUNING, ONLINE_TRAINING
from xql_jax.workshop.reports.scores import method_scores, read_runs

MINE = 'dataset=["mine.npz"]'


def mine(digest, rows):
    """What a run has that learned from these rows of a file."""
    files = [["mine.npz", 1, digest]]
    return {"dataset": ["mine.npz"], "data_files": files, "dataset_fingerprint": rows}


def by_place(members):
    return {(score.dataset, score.method): score for score in method_scores(members)}


def test_a_number_is_the_last_score_and_the_best_has_its_own_name():
    by_name = by_place([member(0, 90.0, 10.0), member(1, 5.0, 20.0, diverged=True)])
    entry = by_name["kitchen-complete-v0", "xql"]
    assert (entry.last, entry.best, entry.mean, entry.diverged) == ((10.0, 20.0), (90.0, 20.0), 15.0, 1)
    record = entry.record()
    assert (record["step"], record["run"], entry.note) == (20, "there", "")
    (last,) = method_scores([member(0, 3.0, math.nan)])
    assert (last.best, math.isnan(*last.last)) == ((3.0,), True)
    (unknown,) = method_scores([member(0, math.nan)])
    assert math.isnan(*unknown.best)


def test_runs_that_differ_in_the_seed_are_one_method_wherever_they_lie():
    members = [member(0, 1.0, run={"name": "a"}, beta=2), member(1, 3.0, run={"name": "b"}, beta=2.0)]
    (score,) = method_scores(members)
    assert (score.method, score.mean, [run.name for run in score.runs]) == ("xql", 2.0, ["a", "b"])


def test_a_name_has_what_was_varied_on_its_dataset_and_no_more():
    other = {"dataset": "pen-human-v0"}
    members = [
        member(0, 1.0, beta=1, tau=0.1, log_interval=1, bellman_error_interval=9),
        member(0, 2.0, beta=2, tau=0.1, log_interval=2, bellman_error_interval=0, run={"name": "b"}),
        member(0, 3.0, beta=2, tau=0.2, run={"name": "c", **other}),
        member(0, 4.0, beta=7, run={"name": "d", "method": "bc"}),
        member(0, 5.0, beta=8, run={"name": "e", "method": "bc", **other}),
    ]
    by_name = by_place(members)
    kitchens, pens = ("bc", "xql beta=1", "xql beta=2"), ("bc", "xql")
    places = [("kitchen-complete-v0", name) for name in kitchens] + [("pen-human-v0", name) for name in pens]
    assert sorted(by_name) == places


def test_data_that_are_told_by_their_digest_alone_make_methods(tmp_path):
    """Two values of beta and two data: four methods, none of which hides another."""
    pairs = [(beta, data) for beta in (1, 2) for data in ("aa", "bb")]
    members = [
        member(0, 10.0 * number, beta=beta, dataset_fingerprint=data, run={"name": f"{beta}{data}"})
        for number, (beta, data) in enumerate(pairs)
    ]
    names = [f"xql beta={beta} dataset_fingerprint={data}" for beta, data in pairs]
    assert [score.method for score in method_scores(members)] == names
    # Methods have data in several forms: here beta tells all.
    alone = [members[0], members[3]]
    assert [score.method for score in method_scores(alone)] == ["xql beta=1", "xql beta=2"]


@pytest.mark.parametrize(
    ("of_xql", "of_iql", "names"),
    [
        ({"references": [0, 4]}, {"references": [0, 2]}, ["iql references=[0, 2]", "xql references=[0, 4]"]),
        ({"dataset": ["best.npz"]}, {"dataset": []}, ["iql dataset=[]", 'xql dataset=["best.npz"]']),
        (mine("a" * 64, rows="x"), mine("b" * 64, rows="y"), [f"iql {MINE}", f"xql {MINE} aaaaaaaa"]),
        (mine("a" * 64, rows="x"), mine("b" * 64, rows="x"), ["iql", "xql"]),  # the same rows in another file
        ({"beta": 2}, {"expectile": 0.7}, ["iql", "xql"]),
    ],
)  # fmt: skip
def test_what_makes_scores_of_two_algorithms_incomparable_is_in_their_names(tmp_path, of_xql, of_iql, names):
    write_run(tmp_path, "Hopper-v5", "xql", {0: [50.0]}, content=of_xql)
    write_run(tmp_path, "Hopper-v5", "iql", {0: [25.0]}, content=of_iql)
    scores = method_scores(read_runs([str(tmp_path)]).members)
    assert [score.method for score in scores] == names


def test_a_run_that_learned_online_is_beside_one_from_the_tasks_own_data():
    members = member(0, 10.0, dataset=[]), member(0, 20.0, run={"method": "xsac"})
    assert [score.method for score in method_scores(members)] == ["xql", "xsac"]


def test_what_was_learned_from_data_and_what_was_fine_tuned_are_apart():
    tuned = {"kind": FINE_TUNING, "handover": 10, "name": "tuned"}
    by_name = by_place([member(0, 1.0), member(0, 4.0, 9.0, run=tuned)])
    entry = by_name["kitchen-complete-v0", "xql fine-tuned"]
    assert (entry.before, entry.last) == ((4.0,), (9.0,))
    assert by_name["kitchen-complete-v0", "xql"].before == ()


def test_a_seed_that_two_runs_have_is_refused():
    """Also if one of them was evaluated in more episodes, which makes no other method."""
    members = [
        member(0, 1.0, run={"name": "a"}, eval_episodes=9),
        member(0, 2.0, run={"name": "b"}, eval_episodes=10),
    ]
    with pytest.raises(UserError, match="xql on kitchen-complete-v0 has seed 0 twice: in a and b"):
        method_scores(members)


def test_unfinished_runs_count_only_where_nothing_has_finished():
    going_on = {"name": "on", "status": "unfinished", "max_steps": 3_000}
    unfinished = member(1, 50.0, run=going_on, finished=False)
    (score,) = method_scores([member(0, 5.0), unfinished])
    assert (score.last, score.note) == ((5.0,), "")
    (score,) = method_scores([unfinished])
    assert (score.last, score.note) == ((50.0,), "unfinished after 10 updates of 3,000 updates")
    assert score.cell().startswith("50.0 (unfinished after 10 updates of 3,000 updates)")


def test_scores_of_unfinished_seeds_are_of_the_step_that_the_note_names():
    """One has been evaluated at steps 10 to 30, one at 10 alone: the mean is that of step 10."""
    ahead, behind = (
        member(seed, *values, run={"name": str(seed), "status": "interrupted"}, finished=False)
        for seed, values in enumerate([(1.0, 20.0, 90.0), (3.0,)])
    )
    (score,) = method_scores([ahead, behind])
    assert (score.last, score.best) == ((1.0, 3.0), (1.0, 3.0))
    assert score.note == "interrupted after 10 updates of 30 updates"
    assert score.record()["step"] == 10


@pytest.mark.parametrize(
    ("run", "paper", "before"),
    [
        ({}, 72.5, None),  # as the paper prints them
        ({"method": "td3_bc"}, None, None),  # a dash in the paper
        ({"record": {"dataset": ["mine.npz"]}}, None, None),
        ({"kind": ONLINE_TRAINING}, None, None),
        ({"kind": FINE_TUNING, "dataset": "antmaze-umaze-diverse-v0", "method": "cql"}, 99.4, 31.1),
        ({"kind": FINE_TUNING, "dataset": "antmaze-umaze-v0"}, 99.6, 93.8),  # of Table 2, whose XQL is tuned
    ],
)
def test_the_papers_number_stands_beside_the_same_dataset_and_algorithm(run, paper, before):
    (score,) = method_scores([member(0, 1.0, run=run)])
    assert (score.paper, score.paper_before) == (paper, before)


def test_scores_are_in_the_order_of_seeds_whatever_their_runs_are_called():
    """So are the seeds that statistics use where datasets have different numbers of them."""
    [score] = method_scores([member(2, 7.0, run={"name": "a"}), member(1, 5.0), member(0, 3.0)])
    assert score.last == (3.0, 5.0, 7.0)
