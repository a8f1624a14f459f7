"""Acting and learning in rounds: which policy acts, what is learned from, what a checkpoint brings back."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from online_fakes import (
    EPISODE,
    SCHEDULE,
    BadActor,
    Counter,
    Counting,
    Flickering,
    Slow,
    acting_updates,
    buffer_of,
    make_population,
    same,
    save,
    transitions,
)

from xql_jax.data import replay
from xql_jax.data.replay import PriorData
from xql_jax.training import host
from xql_jax.training.host import Host
from xql_jax.training.members import Member
from xql_jax.training.population import Population
from xql_jax.training.replay_files import ReplayFiles
from xql_jax.training.rows import NUM_ERRORS, bellman_errors
from xql_jax.training.strategy import Divergence


def test_the_policy_is_that_of_the_round_before_last(tmp_path):
    population = make_population(tmp_path)
    population.advance(20)
    # Two updates a round of two steps; the first two rounds after the warm-up act by what was there before.
    np.testing.assert_array_equal(acting_updates(population), [0, 0, *np.repeat(np.arange(0, 12, 2), 2)])
    assert float(population.states["updates"][0]) == 14
    due = np.arange(len(acting_updates(population)))  # one a step
    assert (due - acting_updates(population)).max() == population.strategy.schedule.policy_lag == 3


def test_results_depend_neither_on_calls_nor_on_time(tmp_path):
    ends = []
    for environment, stops in ((Counting, (40,)), (Counting, (2, 14, 16, 40)), (Slow, (20, 40))):
        population = make_population(tmp_path, environment=environment)
        for stop in stops:
            metrics = population.advance(stop) | population.interval_means()
        ends.append((population.states, transitions(population), metrics))
        population.close()
    same(ends[0], ends[1])
    same(ends[0], ends[2])


def test_the_buffer_holds_the_episodes(tmp_path):
    population = make_population(tmp_path, num_environments=2, round_steps=4)
    population.advance(32)
    rows = transitions(population)
    for number in range(2):
        steps = rows.observations[number::2, 0]
        np.testing.assert_array_equal(steps, np.arange(16) % EPISODE)
        np.testing.assert_array_equal(rows.next_observations[number::2, 0], steps + 1)  # also at a time-out
    np.testing.assert_array_equal(rows.masks, 1.0)
    np.testing.assert_allclose(rows.rewards, rows.actions[:, 0])
    assert np.abs(rows.actions[:6]).max() > 0.1  # random, while warming up
    assert len(np.unique(rows.observations[:, 1])) == 6  # three starts of each


@pytest.mark.parametrize(("ratio", "expected"), [(1.0, 14), (0.5, 7), (3.0, 42)])
def test_updates_per_step(tmp_path, ratio, expected):
    population = make_population(tmp_path, updates_per_step=ratio)
    population.advance(20)
    assert float(population.states["updates"][0]) == expected


def test_members_do_not_know_of_each_other(tmp_path):
    members = [Member(3, {"rate": 1.0}), Member(4, {"rate": 5.0})]
    together = make_population(tmp_path / "both", members)
    together.advance(20)
    for index, member in enumerate(members):
        alone = make_population(tmp_path / "alone", [member])
        alone.advance(20)
        same(together.member(index)[1], alone.member(0)[1])
        same(transitions(together, index), transitions(alone))
    assert together.policy()(np.zeros((2, 5, 2), np.float32)).shape == (2, 5, 1)


def test_a_checkpoint_brings_back_networks_buffer_and_counters(tmp_path):
    """Episodes begin again: two runs from one checkpoint are alike, and go another way than the unbroken."""
    population = make_population(tmp_path)
    saved = []
    for stop in (30, 60, 100):  # the ring of 64 wraps
        population.advance(stop)
        saved.append((*save(population), buffer_of(population)))
    states, progress, buffer = saved[-1]
    ends = []
    for _ in range(2):
        again = make_population(tmp_path)
        again.resume(states, progress)
        assert again.strategy.seconds == progress.held["seconds"] == population.strategy.seconds
        same(again.states, population.states)
        same(again.interval_means(), population.interval_means())
        same(buffer_of(again), buffer)
        again.advance(120)
        ends.append((again.states, buffer_of(again)))
    same(*ends)
    rows = ends[0][1].data
    assert rows.observations[100 % 64, 0] == 0.0  # the episode from its start
    assert rows.observations[100 % 64, 1] == buffer.data.observations[99 % 64, 1]  # the same one


def test_every_kept_checkpoint_can_be_gone_back_to_also_after_a_resumption(tmp_path):
    """A ring of 64 is saved every 20 steps; three checkpoints are kept."""
    population, again, kept = make_population(tmp_path), make_population(tmp_path), {}

    def train_and_save(population, stop):
        population.advance(stop)
        checkpoint = save(population)
        for old in sorted(kept)[:-3]:  # removed after the newest is written: four can be gone back to
            del kept[old]
        kept[stop] = *checkpoint, buffer_of(population)
        for states, progress, buffer in kept.values():
            again.resume(states, progress)
            same(buffer_of(again), buffer)

    for stop in range(20, 160, 20):
        train_and_save(population, stop)
    resumed = make_population(tmp_path)
    resumed.resume(*kept[140][:2])
    for stop in range(160, 260, 20):
        train_and_save(resumed, stop)
    files = [path for path in tmp_path.rglob("*.npz") if int(path.name.split("-")[1]) <= 160 - 64]
    assert files == []  # and what none of them needs is gone


def test_the_last_episodes_are_among_the_metrics(tmp_path):
    population = make_population(tmp_path, num_environments=2, round_steps=2)
    assert population.advance(6) == {}  # nothing is learned yet
    metrics = population.advance(12)
    assert np.isnan(metrics["episode/return"]).all()
    metrics = population.advance(20)  # the first episodes of both ended after 14 steps in all
    rewards = transitions(population).rewards[:14].reshape(7, 2)
    np.testing.assert_allclose(metrics["episode/return"], rewards.sum(0).mean(), rtol=1e-5)
    assert float(metrics["episode/length"][0]) == EPISODE


def test_bellman_errors_are_of_what_was_met(tmp_path):
    """They are of a member's own transitions and state, drawn anew each time; measuring changes nothing."""
    members = [Member(3, {"rate": 1.0}), Member(4, {"rate": 5.0})]
    measured, untouched = (make_population(tmp_path / name, members) for name in ("a", "b"))
    drawn = []
    for stop in (20, 30):
        measured.advance(stop)
        drawn.append(bellman_errors(measured))
        assert drawn[-1].shape == (2, NUM_ERRORS)
        for index in range(2):
            own = transitions(measured, index).rewards + (stop - 6)  # updates
            assert set(drawn[-1][index]) == set(own)  # over a thousand of 30 at most
    untouched.advance(6)
    assert bellman_errors(untouched).shape == (2, 0)  # nothing is learned yet
    untouched.advance(30)
    same(measured.states, untouched.states)


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("fraction", [None, 0.5])
def test_the_programs_copy_no_ring(tmp_path, together, fraction):
    """A copy would be of the whole ring, or of the offline data, megabytes for each step."""
    data = PriorData(replay.empty(100_000, 2, 1).data, fraction)
    schedule = dataclasses.replace(SCHEDULE, buffer_size=100_000)
    strategy = Host(Counting, schedule, ReplayFiles(tmp_path), prior_data=data)
    population = Population(Counter(), [Member(0, {}), Member(1, {})], strategy, together)
    population.compile()
    ring = sum(field.nbytes for field in data.batch)
    for program in population._programs.values():
        memory = program.memory_analysis()
        assert memory.alias_size_in_bytes >= ring  # the rings go in and out in their place
        assert memory.temp_size_in_bytes < ring / 100
    group = population.groups[0]
    rows = jax.tree.map(lambda field: field[:, :2], group.members.buffer.data)
    insert = host._insert.lower(group.members.buffer, rows).compile().memory_analysis()
    assert insert.alias_size_in_bytes >= ring
    assert insert.temp_size_in_bytes < ring / 100
    population.close()


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
    population.advance(26)
    assert population.states["updates"].tolist() == [8.0, 20.0]
    assert buffer_of(population).inserted == 26  # it inserts, and learns no more


@pytest.mark.parametrize("restarts", [False, True])
def test_a_member_that_never_learned_has_no_metrics_and_the_others_have(tmp_path, restarts):
    members = [Member(0, {"breaks_at": 1.0}), Member(1, {"breaks_at": 1e9})]
    population = make_population(tmp_path, members, restarts=restarts)
    metrics = population.advance(20)
    assert np.isfinite(metrics["loss"]).tolist() == [False, True]
    again = make_population(tmp_path, members, restarts=restarts)
    again.resume(*save(population))
    assert again.diverged == population.diverged
    assert again.strategy.restarts == population.strategy.restarts
    assert np.isfinite(again.advance(30)["loss"]).tolist() == [False, True]


def test_a_member_that_diverges_begins_anew_if_asked(tmp_path, caplog):
    caplog.set_level("INFO")
    members = [Member(0, {"breaks_at": 9.0}), Member(1, {"breaks_at": 1e9})]
    population = make_population(tmp_path, members, restarts=True)
    population.advance(40)
    assert population.diverged == {}
    (restarts,) = population.strategy.restarts.items()
    # Every ninth update; the round of two in which it comes is lost.
    assert (restarts[0], [restart.step for restart in restarts[1]]) == (0, [16, 26, 36])
    assert population.states["updates"].tolist() == [4.0, 34.0]
    assert caplog.messages == [
        f"seed 0, breaks_at=9 diverged at step {step} (loss not finite); its networks begin anew"
        for step in (16, 26, 36)
    ]
    again = make_population(tmp_path, members, restarts=True)
    again.resume(*save(population))
    assert again.strategy.restarts == population.strategy.restarts
    again.advance(46)
    assert [restart.step for restart in again.strategy.restarts[0]] == [16, 26, 36, 46]


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
        assert (population.diverged, population.strategy.restarts) == ({}, {0: [divergence]})
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
        what_broke = population.strategy.restarts if restarts else population.diverged
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
    assert (population.diverged, len(population.strategy.restarts[0])) == ({}, 1)
    assert float(population.states["updates"][0]) == 2.0


def test_what_was_not_finite_is_named_though_it_was_finite_at_the_end(tmp_path):
    learner = Flickering(breaks_at=9.0)
    population = make_population(tmp_path, learner=learner, round_steps=8)
    population.advance(16)  # updates 3 to 10 in one program
    assert population.diverged == {0: Divergence(16, "loss")}
    assert float(population.states["updates"][0]) == 8.0  # at the last finite update of the round


MEMBERS = [Member(3, {"rate": 1.0, "breaks_at": 1e9}), Member(4, {"rate": 5.0, "breaks_at": 9.0})]


@pytest.mark.parametrize("restarts", [False, True])
def test_together_equals_in_turn(tmp_path, restarts):
    """One member diverges at its ninth update: it stays, or begins anew, and the other goes on."""
    populations, metrics = [], []
    for together, stops in ((True, (2, 14, 16, 40)), (False, (40,))):
        population = make_population(tmp_path, MEMBERS, together=together, restarts=restarts)
        for stop in stops:
            last = population.advance(stop) | population.interval_means()
        populations.append(population)
        metrics.append(last)
    first, second = populations
    close = functools.partial(np.testing.assert_allclose, rtol=1e-6)
    for index in range(2):
        same(transitions(first, index), transitions(second, index))
    jax.tree.map(close, (first.states, metrics[0]), (second.states, metrics[1]))
    assert (first.diverged, first.strategy.restarts) == (second.diverged, second.strategy.restarts)
    assert (len(populations[0].diverged), len(populations[0].strategy.restarts)) == (not restarts, restarts)
    assert populations[0].states["updates"].tolist() == [34.0, 4.0 if restarts else 8.0]
