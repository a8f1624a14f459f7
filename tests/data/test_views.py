"""The batches that learners ask for, made of small datasets by hand."""

import dataclasses

import numpy as np
import pytest

from xql_jax.data.dataset import Dataset
from xql_jax.data.preprocessing import Preprocessing
from xql_jax.data.views import VIEWS, view_for, with_next_actions
from xql_jax.errors import UserError
from xql_jax.learners.registry import make_learner
from xql_jax.types import Batch, SarsaBatch, Windows


def trajectories():
    """Rows 0 to 2 end in a time-out, rows 3 and 4 in a terminal state, row 5 stands alone and is cut off."""
    column = np.arange(6, dtype=np.float32)[:, None]
    masks = np.array([1, 1, 1, 1, 0, 1], np.float32)
    ends = np.array([False, False, True, False, True, True])
    return Dataset(Batch(column, 10 * column, column[:, 0], masks, column + 1), ends, "six.hdf5")


def test_next_actions_are_the_following_rows_of_the_trajectory():
    dataset = with_next_actions(trajectories())
    # Rows 2 and 5 have no next action.
    np.testing.assert_array_equal(dataset.batch.observations[:, 0], [0, 1, 3, 4])
    alive = dataset.batch.masks == 1
    np.testing.assert_array_equal(dataset.batch.next_actions[alive, 0], [10, 20, 40])
    np.testing.assert_array_equal(dataset.ends, [False, True, False, True])
    np.testing.assert_array_equal(dataset.take(np.array([2, 0])).next_actions[:, 0], [40, 10])
    assert dataset.fingerprint() != trajectories().fingerprint()


def test_learners_are_given_the_batches_that_they_ask_for():
    dataset = trajectories()
    assert VIEWS[Batch](dataset) is dataset
    assert isinstance(VIEWS[SarsaBatch](dataset).batch, SarsaBatch)
    assert view_for(make_learner("bc"), dataset) is dataset
    windows = view_for(make_learner("dt", {"context_length": 5}), dataset).take(np.array([0, 3]))
    assert isinstance(windows, Windows)
    assert windows.known.shape == (2, 5)


def test_preprocessing_comes_first():
    """Next actions are clipped as the actions are, as they are taken from these."""
    dataset = with_next_actions(Preprocessing(action_bound=15.0).dataset(trajectories()))
    assert dataset.batch.next_actions.max() == 15.0


def test_trajectories_that_are_left_out_lend_no_action():
    """Rows 3 and 4, whose return is 7, part rows 2 and 5: without them none of these has a next action."""
    dataset = trajectories()
    rewards = dataset.batch.rewards * np.where(np.isin(np.arange(6), [3, 4]), -1, 1).astype(np.float32)
    dataset = dataclasses.replace(dataset, batch=dataset.batch._replace(rewards=rewards))
    kept = with_next_actions(Preprocessing(most_rows=4.0).dataset(dataset))
    np.testing.assert_array_equal(kept.batch.observations[:, 0], [0, 1])
    np.testing.assert_array_equal(kept.batch.next_actions[:, 0], [10, 20])


@pytest.mark.parametrize(("rows", "left_out"), [([2, 5], 2), ([0, 1, 2, 3, 2, 5, 2], 4)])
def test_shuffled_rows_whose_next_actions_are_mostly_unknown_are_refused(rows, left_out):
    """In the second, rows 0, 1 and the first 2 are followed by their own next ones, and no other is."""
    dataset = trajectories()
    ends = np.append(np.diff(rows) != 1, True)
    shuffled = Dataset(dataset.take(np.array(rows)), ends, "mine.npz")
    words = rf"mine\.npz: {left_out} of {len(rows)} transitions do not lead to the next row.*shuffled"
    with pytest.raises(UserError, match=words):
        with_next_actions(shuffled)
