"""Acting and learning in rounds: which policy acts, what is learned from, what a checkpoint brings back."""

import numpy as np
import pytest
from online_fakes import (
    EPISODE,
    BadActor,
    acting_updates,
    buffer_of,
    make_population,
    same,
    save,
    transitions,
)


def test_the_policy_is_that_of_the_round_before_last(tmp_path):
    population = make_population(tmp_path)
    population.advance(20)
    # Two updates a round of two steps; the first two rounds after the warm-up act by what was there before.
    np.testing.assert_array_equal(acting_updates(population), [0, 0, *np.repeat(np.arange(0, 12, 2), 2)])
    assert float(population.states["updates"][0]) == 14
    due = np.arange(len(acting_updates(population)))  # one a step
    assert (due - acting_updates(population)).max() == population.kind.schedule.policy_lag == 3


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
        assert again.seconds == progress.held["seconds"] == population.seconds
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


@pytest.mark.parametrize("learner", [BadActor(), BadActor(breaks_at=13.0)])
def test_what_follows_bad_actions_does_not_depend_on_calls(tmp_path, learner):
    """Nor does it where the loss is not finite at the same time."""
    ends = []
    for stops in ((40,), range(2, 42, 2), (20, 26, 40)):
        population = make_population(tmp_path, learner=learner)
        for stop in stops:
            population.advance(stop)
        assert list(population.diverged) == [0]
        ends.append((population.states, transitions(population), population.diverged))
        population.kind.close()
    for states, rows, diverged in ends[1:]:
        same(ends[0][:2], (states, rows))
        assert diverged == ends[0][2]
