"""Members whose numbers stop being finite: they stay, or begin anew, whatever the calls; the others go on."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from online_fakes import (
    BadActor,
    Flickering,
    make_population,
    same,
    transitions,
)

from xql_jax.training.checkpoint import Progress
from xql_jax.training.population import Divergence, Member


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
    run._learn = lambda *arguments, **named: (
        asked.append(named["stop"] - named["start"]) or learn(*arguments, **named)
    )
    population.advance(26)
    assert asked == [0, 0, 0]  # it inserts, and learns no more
    assert int(run._buffer.inserted) == 26


@pytest.mark.parametrize("restarts", [False, True])
def test_a_member_that_never_learned_has_no_metrics_and_the_others_have(tmp_path, restarts):
    members = [Member(0, {"breaks_at": 1.0}), Member(1, {"breaks_at": 1e9})]
    population = make_population(tmp_path, members, restarts=restarts)
    metrics = population.advance(20)
    assert np.isfinite(metrics["loss"]).tolist() == [False, True]
    held, write = population.saving()
    write()
    diverged = {str(i): dataclasses.asdict(divergence) for i, divergence in population.diverged.items()}
    again = make_population(tmp_path, members, restarts=restarts)
    again.resume(population.states, Progress(step=20, held=held, diverged=diverged))
    assert np.isfinite(again.advance(30)["loss"]).tolist() == [False, True]


def test_a_member_that_diverges_begins_anew_if_asked(tmp_path, capsys):
    members = [Member(0, {"breaks_at": 9.0}), Member(1, {"breaks_at": 1e9})]
    population = make_population(tmp_path, members, restarts=True)
    population.advance(40)
    assert population.diverged == {}
    (restarts,) = population.restarts.items()
    # Every ninth update; the round of two in which it comes is lost.
    assert (restarts[0], [restart.step for restart in restarts[1]]) == (0, [16, 26, 36])
    assert population.states["updates"].tolist() == [4.0, 34.0]
    assert capsys.readouterr().out.count("seed 0, breaks_at=9 diverged at step") == 3
    held, write = population.saving()
    write()
    again = make_population(tmp_path, members, restarts=True)
    again.resume(population.states, Progress(step=40, held=held))
    assert again.restarts == population.restarts
    again.advance(46)
    assert [restart.step for restart in again.restarts[0]] == [16, 26, 36, 46]


@pytest.mark.parametrize("restarts", [False, True])
def test_actions_that_are_not_finite_are_told_and_replaced(tmp_path, restarts):
    """From 12 updates on the policy gives NaN, though parameters and metrics are finite."""
    learner = BadActor(jnp.float32(1.0), jnp.float32(1e9))
    population = make_population(tmp_path, learner=learner, restarts=restarts)
    population.advance(26)
    actions = transitions(population).actions[:, 0]
    assert np.isfinite(actions).all()
    np.testing.assert_array_equal(actions[18:20], 0.0)  # 6 of warm-up, 12 updates: the first bad ones
    divergence = Divergence(18, "actions")
    if restarts:
        assert (population.diverged, population.restarts) == ({}, {0: [divergence]})
        assert float(population.states["updates"][0]) == 8.0  # 18 to 26
    else:
        assert population.diverged == {0: divergence}
        assert float(population.states["updates"][0]) == 12.0


@pytest.mark.parametrize("overlapped", [False, True])
@pytest.mark.parametrize("restarts", [False, True])
def test_what_follows_bad_actions_does_not_depend_on_calls(tmp_path, overlapped, restarts):
    learner, ends = BadActor(jnp.float32(1.0), jnp.float32(1e9)), []
    for stops in ((40,), range(2, 42, 2), (20, 26, 40)):
        population = make_population(tmp_path, learner=learner, restarts=restarts, overlapped=overlapped)
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
    learner = BadActor(jnp.float32(1.0), jnp.float32(1e9))
    population = make_population(tmp_path, learner=learner, restarts=True)
    population.advance(18)
    assert population.diverged == {}
    np.testing.assert_array_equal(population.policy()(np.zeros((1, 3, 2), np.float32)), 0.0)
    assert population.diverged == {0: Divergence(18, "actions")}
    population.advance(20)
    assert (population.diverged, len(population.restarts[0])) == ({}, 1)
    assert float(population.states["updates"][0]) == 2.0


def test_what_was_not_finite_is_named_though_it_was_finite_at_the_end(tmp_path):
    learner = Flickering(jnp.float32(1.0), jnp.float32(9.0))
    population = make_population(tmp_path, learner=learner, round_steps=8)
    population.advance(16)  # updates 3 to 10 in one program
    assert population.diverged == {0: Divergence(16, "loss")}
