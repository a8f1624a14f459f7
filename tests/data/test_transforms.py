"""The transforms on numbers worked by hand."""

import numpy as np
import pytest

from xql_jax.data import transforms
from xql_jax.data.dataset import Dataset
from xql_jax.data.mapped import map_dataset
from xql_jax.data.transforms import add_next_actions, clip_actions
from xql_jax.errors import UserError
from xql_jax.types import Batch


def dataset(rewards=(1.0, 2.0, 4.0, -1.0, 0.5), ends=(0, 1, 0, 0, 1), actions=(0.0, 1.0, -1.0, 3.0, 0.5)):
    column = np.array(actions, np.float32)[:, None]
    batch = Batch(column, column, np.array(rewards, np.float32), np.ones(5, np.float32), column)
    return Dataset(batch, np.array(ends, bool), "file")


def test_returns_by_trajectory():
    np.testing.assert_array_equal(dataset().trajectory_returns(), [3.0, 3.5])
    np.testing.assert_array_equal(dataset(ends=(1, 1, 1, 1, 1)).trajectory_returns(), dataset().batch.rewards)


def test_clipped_actions_leave_all_else():
    before = dataset()
    after = transforms.clip_actions(before)
    np.testing.assert_allclose(after.batch.actions[:, 0], [0, 0.99999, -0.99999, 0.99999, 0.5], rtol=1e-7)
    assert np.abs(after.batch.actions).max() < 1
    np.testing.assert_array_equal(after.batch.observations[:, 0], [0, 1, -1, 3, 0.5])
    np.testing.assert_array_equal(before.batch.actions[:, 0], [0, 1, -1, 3, 0.5])  # untouched


def test_scaled_rewards_make_returns_span_1000():
    # The returns 3 and 3.5 are 0.5 apart: the factor is 2000.
    after = transforms.scale_rewards_by_return_range(dataset())
    np.testing.assert_allclose(after.batch.rewards, [2000, 4000, 8000, -2000, 1000])
    np.testing.assert_allclose(np.ptp(after.trajectory_returns()), 1000)


@pytest.mark.parametrize(
    ("rewards", "ends", "message"),
    [
        ((1, 2, 3, 0, 0), (0, 1, 0, 0, 1), "file: .*all 2 trajectories return 3"),
        ((1, 2, 3, 0, 0), (0, 0, 0, 0, 1), "file: .*all 1 trajectories return 6"),
    ],
)
def test_equal_returns_cannot_be_scaled(rewards, ends, message):
    with pytest.raises(UserError, match=message):
        transforms.scale_rewards_by_return_range(dataset(rewards, ends))


def test_shifted_rewards():
    after = transforms.shift_rewards(dataset(), -1.0)
    np.testing.assert_array_equal(after.batch.rewards, [0, 1, 3, -2, -0.5])
    assert after.batch.rewards.dtype == np.float32


@pytest.mark.parametrize(
    ("suite", "rewards"),
    [
        ("locomotion", [2000, 4000, 8000, -2000, 1000]),
        ("antmaze", [0, 1, 3, -2, -0.5]),
        *((suite, [1, 2, 4, -1, 0.5]) for suite in ("kitchen", "adroit", "maze2d", "pointmaze")),
    ],
)
def test_iql_preprocessing_by_suite(suite, rewards):
    after = dataset()
    for transform in transforms.iql_preprocessing(suite):
        after = transform(after)
    np.testing.assert_allclose(after.batch.rewards, rewards)
    np.testing.assert_allclose(np.abs(after.batch.actions).max(), 0.99999)
    assert after.source == "file"


def trajectories():
    """Rows 0 to 2 end in a time-out, rows 3 and 4 in a terminal state, row 5 stands alone and is cut off."""
    column = np.arange(6, dtype=np.float32)[:, None]
    masks = np.array([1, 1, 1, 1, 0, 1], np.float32)
    ends = np.array([False, False, True, False, True, True])
    return Dataset(Batch(column, 10 * column, column[:, 0], masks, column + 1), ends, "six.hdf5")


def test_next_actions_are_the_following_rows_of_the_trajectory():
    dataset = add_next_actions(trajectories())
    # Rows 2 and 5 have no next action.
    np.testing.assert_array_equal(dataset.batch.observations[:, 0], [0, 1, 3, 4])
    alive = dataset.batch.masks == 1
    np.testing.assert_array_equal(dataset.batch.next_actions[alive, 0], [10, 20, 40])
    np.testing.assert_array_equal(dataset.ends, [False, True, False, True])
    np.testing.assert_array_equal(dataset.take(np.array([2, 0])).next_actions[:, 0], [40, 10])
    assert dataset.fingerprint() != trajectories().fingerprint()


def test_clipping_comes_first():
    dataset = add_next_actions(clip_actions(trajectories(), bound=15.0))
    assert dataset.batch.next_actions.max() == 15.0


def test_no_next_action_anywhere_is_refused():
    rows = trajectories().take(np.array([2, 5]))
    with pytest.raises(UserError, match=r"two\.hdf5.*no next action"):
        add_next_actions(Dataset(rows, np.array([True, True]), "two.hdf5"))


def test_next_actions_of_data_on_disk_are_refused(tmp_path):
    path = tmp_path / "some.npz"
    np.savez(path, **trajectories().batch._asdict())
    with pytest.raises(UserError, match=r"some\.npz.*--data_on=host"):
        add_next_actions(map_dataset(path, None))
