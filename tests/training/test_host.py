"""Acting and learning in rounds: which policy acts, what is learned from, what a checkpoint brings back."""

import numpy as np
import pytest
from online_fakes import (
    EPISODE,
    BadActor,
    acting_updates,
    make_trainer,
    same,
    transitions,
)


def test_the_policy_is_that_of_the_round_before_last(tmp_path):
    trainer = make_trainer(tmp_path)
    trainer.advance(20)
    # Two updates a round of two steps; the first two rounds after the warm-up act by what was there before.
    np.testing.assert_array_equal(acting_updates(trainer), [0, 0, *np.repeat(np.arange(0, 12, 2), 2)])
    assert float(trainer.population.states["updates"][0]) == 14
    due = np.arange(len(acting_updates(trainer)))  # one a step
    assert (due - acting_updates(trainer)).max() == trainer.schedule.policy_lag == 3


def test_the_buffer_holds_the_episodes(tmp_path):
    trainer = make_trainer(tmp_path, num_environments=2, round_steps=4)
    trainer.advance(32)
    rows = transitions(trainer)
    for number in range(2):
        steps = rows.observations[number::2, 0]
        np.testing.assert_array_equal(steps, np.arange(16) % EPISODE)
        np.testing.assert_array_equal(rows.next_observations[number::2, 0], steps + 1)  # also at a time-out
    np.testing.assert_array_equal(rows.masks, 1.0)
    np.testing.assert_allclose(rows.rewards, rows.actions[:, 0])
    assert np.abs(rows.actions[:6]).max() > 0.1  # random, while warming up
    assert len(np.unique(rows.observations[:, 1])) == 6  # three starts of each


@pytest.mark.parametrize("learner", [BadActor(), BadActor(breaks_at=13.0)])
def test_what_follows_bad_actions_does_not_depend_on_calls(tmp_path, learner):
    """Nor does it where the loss is not finite at the same time."""
    ends = []
    for stops in ((40,), range(2, 42, 2), (20, 26, 40)):
        trainer = make_trainer(tmp_path, learner=learner)
        for stop in stops:
            trainer.advance(stop)
        assert list(trainer.population.diverged) == [0]
        ends.append((trainer.population.states, transitions(trainer), trainer.population.diverged))
        trainer.close()
    for states, rows, diverged in ends[1:]:
        same(ends[0][:2], (states, rows))
        assert diverged == ends[0][2]
