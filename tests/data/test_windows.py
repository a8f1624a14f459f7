"""Windows of trajectories, of a small dataset worked by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xql_jax.data.dataset import Dataset
from xql_jax.data.preprocessing import Preprocessing
from xql_jax.data.sampling import sample, sample_indices
from xql_jax.data.views import in_windows
from xql_jax.errors import UserError
from xql_jax.types import Batch


def trajectories():
    """Rows 0 to 2 end in a time-out, rows 3 and 4 in a terminal state, row 5 stands alone and is cut off."""
    column = np.arange(1, 7, dtype=np.float32)[:, None]
    rewards = np.array([1, 2, 4, 8, 16, 20], np.float32)
    masks = np.array([1, 1, 1, 1, 0, 1], np.float32)
    ends = np.array([False, False, True, False, True, True])
    return Dataset(Batch(column, 10 * column, rewards, masks, column + 1), ends, "six.hdf5")


def test_returns_to_go_end_with_terminals_and_with_time_outs():
    rows = in_windows(trajectories(), 2).batch
    np.testing.assert_array_equal(rows.returns_to_go, [7, 6, 4, 24, 16, 20])
    np.testing.assert_array_equal(rows.timesteps, [0, 1, 2, 0, 1, 0])
    np.testing.assert_array_equal(rows.left, [3, 2, 1, 2, 1, 1])
    assert rows.highest_return == 24.0


def test_the_highest_return_is_that_of_a_whole_trajectory():
    """Not of the rest of one: with a loss in front, 24 are still to be had after it."""
    dataset = trajectories()
    rewards = np.array([1, 2, 4, -8, 24, 3], np.float32)
    rows = in_windows(dataclasses.replace(dataset, batch=dataset.batch._replace(rewards=rewards)), 2).batch
    assert rows.highest_return == 16.0


def test_windows_are_padded_on_the_left():
    windows = in_windows(trajectories(), 3).take(np.array([0, 1, 4, 5]))
    np.testing.assert_array_equal(windows.known, [[1, 1, 1], [0, 1, 1], [0, 0, 1], [0, 0, 1]])
    np.testing.assert_array_equal(windows.observations[..., 0], [[1, 2, 3], [0, 2, 3], [0, 0, 5], [0, 0, 6]])
    np.testing.assert_array_equal(windows.actions, 10 * windows.observations)
    np.testing.assert_array_equal(windows.returns_to_go, [[7, 6, 4], [0, 6, 4], [0, 0, 16], [0, 0, 20]])
    np.testing.assert_array_equal(windows.timesteps, [[0, 1, 2], [0, 1, 2], [0, 0, 1], [0, 0, 0]])
    np.testing.assert_array_equal(windows.highest_return, [24] * 4)


@pytest.mark.parametrize("length", [1, 2, 5])
def test_a_program_draws_what_the_host_takes(length):
    dataset, key = in_windows(trajectories(), length), jax.random.key(0)
    on_device = jax.tree.map(jnp.asarray, dataset.batch)
    drawn = jax.jit(sample, static_argnames="batch_size")(on_device, key, batch_size=50)
    taken = dataset.take(np.asarray(sample_indices(key, 6, 50)))
    assert len(np.unique(np.asarray(drawn.returns_to_go), axis=0)) == 6  # every window
    for name, of_device, of_host in zip(drawn._fields, drawn, taken, strict=True):
        assert of_device.dtype == of_host.dtype, name
        assert of_device.shape == of_host.shape, name
        np.testing.assert_array_equal(of_device, of_host, name)


def test_returns_are_of_what_is_learned_from():
    """Rewards are scaled and shifted first, and trajectories left out: here that of return 7."""
    fitted = Preprocessing(reward_scale=0.5, reward_shift=-1.0, most_rows=3.0)
    rows = in_windows(fitted.dataset(trajectories()), 2).batch
    np.testing.assert_array_equal(rows.returns_to_go, [3 + 7, 7, 9])
    np.testing.assert_array_equal(rows.timesteps, [0, 1, 0])


def test_the_fingerprint_is_of_the_data():
    dataset = trajectories()
    other = dataset.batch._replace(rewards=dataset.batch.rewards + np.float32(1))
    prints = [
        in_windows(dataset, 2).fingerprint(),
        in_windows(dataset, 5).fingerprint(),
        in_windows(dataclasses.replace(dataset, batch=other), 2).fingerprint(),
        in_windows(dataclasses.replace(dataset, ends=np.isin(np.arange(6), [2, 5])), 2).fingerprint(),
    ]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


def test_data_without_trajectories_are_refused():
    dataset = trajectories()
    with pytest.raises(UserError, match=r"six\.hdf5.*no two rows"):
        in_windows(dataclasses.replace(dataset, ends=np.ones(6, bool)), 2)
    one = dataclasses.replace(dataset, ends=np.arange(6) == 5)
    with pytest.raises(UserError, match=r"six\.hdf5.*does not end \(no terminals, no timeouts\)"):
        in_windows(one, 2)
    ended = dataset.batch._replace(masks=np.array([1, 1, 1, 1, 1, 0], np.float32))
    assert in_windows(dataclasses.replace(one, batch=ended), 2).batch.highest_return == 51.0
