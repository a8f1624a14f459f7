"""Members whose numbers stop being finite: they stay, or begin anew, whatever the calls; the others go on."""

import numpy as np
import pytest
from online_fakes import BadActor, Flickering, make_population, same, save, transitions

from xql_jax.training.members import Member
from xql_jax.training.trainable import Divergence


def test_a_member_that_diverges_stays_where_it_was(tmp_path):
    members = [Member(0, {"breaks_at": 9.0}), Member(1, {"breaks_at": 1e9})]
    population = make_population(tmp_path, members)
    population.advance(20)
    (broken,) = population.diverged.items()
    assert broken[0] == 0
    assert (broken[1].step, broken[1].quantity) == (
        16,
        "loss",
    )  # updates 9 and 10 are those of steps 14 and 15
    assert population.states["updates"].tolist() == [8.0, 14.0]
    asked = []
    run = population._runs[0]
    learn = run._learn
    run._learn = lambda *arguments: asked.append(arguments[-1] - arguments[-2]) or learn(*arguments)
    population.advance(26)
    assert asked == [0, 0, 0]  # it inserts, and learns no more
    assert int(run.buffer.inserted) == 26


@pytest.mark.parametrize("restarts", [False, True])
def test_a_member_that_never_learned_has_no_metrics_and_the_others_have(tmp_path, restarts):
    members = [Member(0, {"breaks_at": 1.0}), Member(1, {"breaks_at": 1e9})]
    population = make_population(tmp_path, members, restarts=restarts)
    metrics = population.advance(20)
    assert np.isfinite(metrics["loss"]).tolist() == [False, True]
    again = make_population(tmp_path, members, restarts=restarts)
    again.resume(*save(population))
    assert again.diverged == population.diverged
    assert again.restarts == population.restarts
    assert np.isfinite(again.advance(30)["loss"]).tolist() == [False, True]


def test_a_member_that_diverges_begins_anew_if_asked(tmp_path, caplog):
    caplog.set_level("INFO")
    members = [Member(0, {"breaks_at": 9.0}), Member(1, {"breaks_at": 1e9})]
    population = make_population(tmp_path, members, restarts=True)
    population.advance(40)
    assert population.diverged == {}
    (restarts,) = population.restarts.items()
    # Every ninth update; the round of two in which it comes is lost.
    assert (restarts[0], [restart.step for restart in restarts[1]]) == (0, [16, 26, 36])
    assert population.states["updates"].tolist() == [4.0, 34.0]
    assert caplog.messages == [
        f"seed 0, breaks_at=9 diverged at step {step} (loss not finite); its networks begin anew"
        for step in (16, 26, 36)
    ]
    again = make_population(tmp_path, members, restarts=True)
    again.resume(*save(population))
    assert again.restarts == population.restarts
    again.advance(46)
    assert [restart.step for restart in again.restarts[0]] == [16, 26, 36, 46]


@pytest.mark.parametrize("restarts", [False, True])
def test_actions_that_are_not_finite_are_told_and_replaced(tmp_path, restarts):
    """From 12 updates on the policy gives NaN, though parameters and metrics are finite."""
    learner = BadActor()
    population = make_population(tmp_path, learner=learner, restarts=restarts)
    population.advance(26)
    actions = transitions(population).actions[:, 0]
    assert np.isfinite(actions).all()
    # 6 steps of warm-up and 12 updates end at step 18; the round from 20 on acts by what is there then.
    assert (actions[10:20] != 0.0).all()
    np.testing.assert_array_equal(actions[20:22], 0.0)
    divergence = Divergence(20, "actions")
    if restarts:
        assert (population.diverged, population.restarts) == ({}, {0: [divergence]})
        assert float(population.states["updates"][0]) == 6.0  # 20 to 26
    else:
        assert population.diverged == {0: divergence}
        assert float(population.states["updates"][0]) == 14.0


@pytest.mark.parametrize("restarts", [False, True])
def test_what_follows_bad_actions_does_not_depend_on_calls(tmp_path, restarts):
    learner, ends = BadActor(), []
    for stops in ((40,), range(2, 42, 2), (20, 26, 40)):
        population = make_population(tmp_path, learner=learner, restarts=restarts)
        for stop in stops:
            population.advance(stop)
        what_broke = population.restarts if restarts else population.diverged
        assert list(what_broke) == [0]
        ends.append((population.states, transitions(population), str(what_broke)))
        population.close()
    for states, rows, what_broke in ends[1:]:
        same(ends[0][:2], (states, rows))
        assert what_broke == ends[0][2]


def test_an_evaluation_finds_actions_that_are_not_finite(tmp_path):
    learner = BadActor()
    population = make_population(tmp_path, learner=learner, restarts=True)
    population.advance(18)
    assert population.diverged == {}
    np.testing.assert_array_equal(population.policy()(np.zeros((1, 3, 2), np.float32)), 0.0)
    assert population.diverged == {0: Divergence(18, "actions")}
    population.advance(20)
    assert (population.diverged, len(population.restarts[0])) == ({}, 1)
    assert float(population.states["updates"][0]) == 2.0


def test_what_was_not_finite_is_named_though_it_was_finite_at_the_end(tmp_path):
    learner = Flickering(breaks_at=9.0)
    population = make_population(tmp_path, learner=learner, round_steps=8)
    population.advance(16)  # updates 3 to 10 in one program
    assert population.diverged == {0: Divergence(16, "loss")}
