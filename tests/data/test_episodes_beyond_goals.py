"""Episodes that go on after a terminal, as OGBench's do after success: their beginnings and returns.

Two episodes of six rows; the goal is reached in rows 2, 3 and 10, and every step before it costs 1.
"""

import numpy as np
import pytest
from learners_views import in_windows, over_horizon

from xql_jax.data.arrays import from_arrays
from xql_jax.data.dataset import best_trajectories, joined
from xql_jax.data.loading import load_dataset
from xql_jax.types import Horizon

ROWS, GOALS = 12, (2, 3, 10)


def rows(**more):
    """Rows without next observations; each is at its own place."""
    at_goal = np.isin(np.arange(ROWS), GOALS)
    place = np.arange(ROWS, dtype=np.float32)[:, None]
    arrays = {"observations": place, "actions": place / ROWS, "rewards": at_goal - 1.0, "masks": 1 - at_goal}
    return arrays | {name: np.asarray(array, np.float32) for name, array in more.items()}


def transitions(**more):
    return rows(next_observations=np.arange(1, ROWS + 1)[:, None], **more)


def ogbench(folder):
    np.savez(folder / "goals.npz", **rows(terminals=np.arange(ROWS) % 6 == 5))
    return load_dataset(None, [f"ogbench:{folder / 'goals.npz'}"])


def starts(dataset):
    return dataset.batch.observations[dataset.begins, 0].tolist()


def test_ogbenchs_episodes_begin_where_the_file_says(tmp_path):
    """The last row of each has no next observation, and is left out: in the second behind a goal."""
    dataset = ogbench(tmp_path)
    assert starts(dataset) == [0, 6]
    # Returns and values stop at goals, as before.
    np.testing.assert_array_equal(np.flatnonzero(dataset.ends), [2, 3, 4, 9])


@pytest.mark.parametrize("make", [rows, transitions])
def test_own_arrays_that_say_where_every_episode_ends(make):
    assert starts(from_arrays(make(ends=np.arange(ROWS) % 6 == 5), "mine")) == [0, 6]


def test_time_outs_alone_do_not_say_that_an_episode_goes_on():
    """A terminal ends it then."""
    cut = from_arrays(transitions(timeouts=np.arange(ROWS) % 6 == 5), "mine")
    assert starts(cut) == [0, 3, 4, 6, 11]


def test_the_best_episodes_are_whole_and_a_row_at_the_goal_is_none(tmp_path):
    """The first returns -3, as two of its five rows are at the goal; the second, of five, -4."""
    dataset = ogbench(tmp_path)
    best = best_trajectories(dataset, 0.5)
    np.testing.assert_array_equal(best.batch.observations[:, 0], [0, 1, 2, 3, 4])
    worse_first = joined([dataset.part(np.arange(5, 10)), dataset.part(np.arange(5))])
    best = best_trajectories(worse_first, 0.5)
    np.testing.assert_array_equal(best.batch.observations[:, 0], [0, 1, 2, 3, 4])


def test_the_highest_return_is_one_that_an_episode_begins_with(tmp_path):
    """From row 0 two steps cost 1 each, from row 6 four do; only rows behind a goal have 0."""
    assert in_windows(ogbench(tmp_path), 3).batch.highest_return == -2


def test_chunks_and_parts_keep_where_episodes_begin(tmp_path):
    dataset = ogbench(tmp_path)
    chunks = over_horizon(dataset, Horizon(2, is_chunk=True), 0.9)
    assert starts(chunks) == [0, 6]
    assert starts(dataset.part(np.array([3, 5, 6]))) == [6]
