"""Acting and learning in rounds: which policy acts, what is learned from, what a checkpoint brings back."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from online_fakes import (
    EPISODE,
    Counter,
    Counting,
    Slow,
    acting_updates,
    make_population,
    no_sums,
    same,
    save,
    transitions,
)

from xql_jax.data import replay
from xql_jax.data.prior import PriorData
from xql_jax.training.members import Member, learners_of
from xql_jax.training.rounds import NUM_ERRORS, _learn


def test_the_policy_is_that_of_the_round_before_last(tmp_path):
    population = make_population(tmp_path)
    population.advance(20)
    # Two updates a round of two steps; the first two rounds after the warm-up act by what was there before.
    np.testing.assert_array_equal(acting_updates(population), [0, 0, *np.repeat(np.arange(0, 12, 2), 2)])
    assert float(population.states["updates"][0]) == 14
    due = np.arange(len(acting_updates(population)))  # one a step
    assert (due - acting_updates(population)).max() == population.schedule.policy_lag == 3


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


def test_means_over_an_interval_are_those_of_its_rounds(tmp_path):
    """With a round a step and an update a step, the last metrics of each round are all there are."""
    population = make_population(tmp_path, round_steps=1)
    lasts = []
    for stop in range(1, 31):
        metrics = population.advance(stop)
        if stop == 20:
            population.begin_interval()
            assert np.isnan(population.interval_means()["loss_mean"]).all()
        if stop > 20:
            lasts.append(np.asarray(metrics["loss"], np.float64))
    assert len(np.unique(lasts)) > 5
    np.testing.assert_allclose(population.interval_means()["loss_mean"], np.mean(lasts, 0), rtol=1e-6)


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
        same(together._runs[index].state, alone._runs[0].state)
        same(transitions(together, index), transitions(alone))
    assert together.policy()(np.zeros((2, 5, 2), np.float32)).shape == (2, 5, 1)


def test_a_checkpoint_brings_back_networks_buffer_and_counters(tmp_path):
    """Episodes begin again: two runs from one checkpoint are alike, and go another way than the unbroken."""
    population = make_population(tmp_path)
    saved = []
    for stop in (30, 60, 100):  # the ring of 64 wraps
        population.advance(stop)
        saved.append((*save(population), jax.tree.map(np.asarray, population._runs[0].buffer)))
    states, progress, buffer = saved[-1]
    ends = []
    for _ in range(2):
        again = make_population(tmp_path)
        again.resume(states, progress)
        assert again.seconds == progress.held["seconds"] == population.seconds
        same(again.states, population.states)
        same(again.interval_means(), population.interval_means())
        same(jax.tree.map(np.asarray, again._runs[0].buffer), buffer)
        again.advance(120)
        ends.append((again.states, jax.tree.map(np.asarray, again._runs[0].buffer)))
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
        kept[stop] = *checkpoint, jax.tree.map(np.asarray, population._runs[0].buffer)
        for states, progress, buffer in kept.values():
            again.resume(states, progress)
            same(jax.tree.map(np.asarray, again._runs[0].buffer), buffer)

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
        drawn.append(measured.bellman_errors())
        assert drawn[-1].shape == (2, NUM_ERRORS)
        for index in range(2):
            own = transitions(measured, index).rewards + (stop - 6)  # updates
            assert set(drawn[-1][index]) == set(own)  # over a thousand of 30 at most
    run = measured._runs[0]
    assert (run.bellman_errors(30) != run.bellman_errors(20)).any()  # other transitions of one buffer
    untouched.advance(6)
    assert untouched.bellman_errors().shape == (2, 0)  # nothing is learned yet
    untouched.advance(30)
    same(measured.states, untouched.states)


@pytest.mark.parametrize("fraction", [None, 0.5])
@pytest.mark.parametrize("with_data", [False, True])
def test_the_program_copies_no_ring(with_data, fraction):
    """A copy would be of the whole ring, or of the offline data, megabytes for each step."""
    (learner,) = learners_of(Counter(), [Member(0, {})])
    capacity = 200_000
    buffer = replay.empty(capacity, 17, 6)
    rows = jax.tree.map(lambda field: jnp.zeros((1, *field.shape[1:])), buffer.data)
    program = jax.jit(functools.partial(_learn, batch_size=32), donate_argnames="buffer")
    compiled = program.lower(
        learner,
        learner.init(None, None, None),
        no_sums(),
        buffer,
        PriorData(jax.tree.map(jnp.copy, buffer.data), fraction) if with_data else None,
        rows,
        jax.random.key(0),
        np.int32(0),
        np.int32(1),
    ).compile()
    ring = sum(field.nbytes for field in buffer.data)
    memory = compiled.memory_analysis()
    assert memory.alias_size_in_bytes >= ring  # the ring goes in and out in its place
    assert memory.temp_size_in_bytes < ring / 100
