"""Minibatches are uniform and whole; the batches that learners ask for, of small datasets worked by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from learners_views import in_windows, with_next_actions, with_returns_to_go

from xql_jax.data.arrays import from_arrays
from xql_jax.data.dataset import Dataset, best_trajectories, check_order
from xql_jax.data.preprocessing import Preprocessing
from xql_jax.data.sampling import Packed, sample, sample_indices
from xql_jax.data.views import view_for
from xql_jax.errors import UserError
from xql_jax.learners.registry import make_learner
from xql_jax.types import Batch, CalibratedBatch, SarsaBatch, Windows

SIZE = 37  # no power of two
INDEX = jnp.arange(SIZE, dtype=jnp.float32)
DATA = Batch(
    observations=jnp.stack([INDEX, -INDEX], 1),
    actions=INDEX[:, None] / SIZE,
    rewards=INDEX,
    masks=INDEX % 2,
    next_observations=jnp.stack([INDEX + 1, -INDEX - 1], 1),
)
draw = jax.jit(sample, static_argnames="batch_size")


def test_every_transition_is_equally_likely_and_whole():
    batch = draw(DATA, jax.random.key(1), batch_size=200_000)
    index = np.asarray(batch.rewards, int)
    counts = np.bincount(index)
    assert len(counts) == SIZE
    assert scipy.stats.chisquare(counts).pvalue > 1e-3
    # Draws of a batch are independent: neighbours, as pairs, have 37 * 37 equal cells.
    pairs = np.bincount(index[::2] * SIZE + index[1::2], minlength=SIZE**2)
    assert scipy.stats.chisquare(pairs).pvalue > 1e-3
    for field, of_data in zip(batch, DATA, strict=True):
        np.testing.assert_array_equal(field, np.asarray(of_data)[index])
    of_numpy = sample(jax.tree.map(np.asarray, DATA), jax.random.key(1), 200_000)
    np.testing.assert_array_equal(batch.rewards, of_numpy.rewards)
    few = sample(DATA, jax.random.key(0), 500, jnp.int32(5))  # none but the first rows
    assert set(np.asarray(few.rewards)) == set(range(5))


@pytest.mark.parametrize("kind", [Batch, SarsaBatch, CalibratedBatch])
def test_packed_rows_are_the_same_draws(kind):
    more = {SarsaBatch: {"next_actions": DATA.actions + 1}, CalibratedBatch: {"returns_to_go": INDEX - 5}}
    data = kind(**DATA._asdict(), **more.get(kind, {}))
    for given in (data, jax.tree.map(np.asarray, data)):
        drawn = draw(Packed.of(given), jax.random.key(3), batch_size=100)
        assert type(drawn) is kind
        jax.tree.map(np.testing.assert_array_equal, drawn, draw(data, jax.random.key(3), batch_size=100))


KNOWN = [2**24 + 1, 70_851_063, 3 * 2**29, 2**31 - 1]


@pytest.mark.parametrize(
    ("size", "is_known"),
    [*((size, True) for size in KNOWN), *((size, False) for size in (0, 1, 37, 65_537, 10**7, *KNOWN))],
)
def test_large_sizes_and_those_of_the_device_are_scaled_by_64_bits_exactly(size, is_known):
    key = jax.random.key(7)
    high, low = np.asarray(jax.random.bits(key, (2, 10_000), jnp.uint32)).astype(object)
    expected = [size * (int(h) * 2**32 + int(l)) >> 64 for h, l in zip(high, low, strict=True)]
    draw_indices = sample_indices if is_known else jax.jit(sample_indices, static_argnums=2)
    indices = draw_indices(key, size, 10_000)
    assert indices.dtype == jnp.int32
    np.testing.assert_array_equal(indices, expected)


def trajectories(rewards=(1, 2, 4, 8, 16, 20)):
    """Rows 0 to 2 end in a time-out, rows 3 and 4 in a terminal state, row 5 stands alone and is cut off."""
    column = np.arange(1, 7, dtype=np.float32)[:, None]
    masks = np.array([1, 1, 1, 1, 0, 1], np.float32)
    ends = np.array([False, False, True, False, True, True])
    batch = Batch(column, 10 * column, np.array(rewards, np.float32), masks, column + 1)
    return Dataset(batch, ends, "six.hdf5")


# The next actions.


def test_next_actions_are_the_following_rows_of_the_trajectory():
    dataset = with_next_actions(trajectories())
    # Rows 2 and 5 have no next action.
    np.testing.assert_array_equal(dataset.batch.observations[:, 0], [1, 2, 4, 5])
    alive = dataset.batch.masks == 1
    np.testing.assert_array_equal(dataset.batch.next_actions[alive, 0], [20, 30, 50])
    np.testing.assert_array_equal(dataset.ends, [False, True, False, True])
    np.testing.assert_array_equal(dataset.take(np.array([2, 0])).next_actions[:, 0], [50, 20])
    assert dataset.fingerprint() != trajectories().fingerprint()


def test_learners_are_given_the_batches_that_they_ask_for():
    dataset = trajectories()
    assert view_for(make_learner("bc"), dataset) is dataset
    assert isinstance(view_for(make_learner("q_iteration"), dataset).batch, SarsaBatch)
    windows = view_for(make_learner("dt", {"context_length": 5}), dataset).take(np.array([0, 3]))
    assert isinstance(windows, Windows)
    assert windows.known.shape == (2, 5)


def test_preprocessing_comes_first():
    """Next actions are clipped as the actions are. Trajectories that are left out lend no action: rows 3 and
    4, whose return is the lowest, part rows 2 and 5, and without them none of these has a next action."""
    dataset = with_next_actions(Preprocessing(action_bound=25.0).dataset(trajectories()))
    np.testing.assert_array_equal(dataset.batch.next_actions[:2, 0], [20, 25])
    kept = best_trajectories(trajectories((1, 2, 4, -8, -16, 20)), 4 / 6)
    np.testing.assert_array_equal(with_next_actions(kept).batch.observations[:, 0], [1, 2])
    np.testing.assert_array_equal(with_next_actions(kept).batch.next_actions[:, 0], [20, 30])


def test_shuffled_rows_whose_next_actions_are_mostly_unknown_are_refused():
    """Rows 0, 1 and the first 2 are followed by their own next ones, and no other is."""
    rows = np.array([0, 1, 2, 3, 2, 5, 2])
    shuffled = Dataset(trajectories().take(rows), np.append(np.diff(rows) != 1, True), "mine.npz")
    with pytest.raises(UserError, match=r"mine\.npz: 4 of 7 transitions do not lead to the next.*shuffled"):
        check_order(shuffled, "sequences")


# Discounted returns.


def test_discounted_returns_end_at_terminals_and_if_asked_go_on_after_time_outs():
    """By hand, with discount 1/2: an endless reward r is worth 2 r from its own step on."""
    batch = with_returns_to_go(trajectories(), 0.5, endless=True).batch
    np.testing.assert_array_equal(batch.returns_to_go, [1 + 3, 2 + 4, 2 * 4, 8 + 8, 16, 2 * 20])
    np.testing.assert_array_equal(batch.rewards, trajectories().batch.rewards)
    # Failures alone, as in the authors' code: r / (1 - discount) in each row.
    failed = with_returns_to_go(trajectories([-1] * 6), 0.75, endless=True).batch.returns_to_go
    np.testing.assert_array_equal(failed, [-4, -4, -4, -1.75, -1, -4])
    for endless, returns in ((True, batch.returns_to_go), (False, [1 + 2, 2 + 2, 4, 8 + 8, 16, 20])):
        view = view_for(make_learner("cal_ql", {"discount": 0.5, "endless": endless}), trajectories()).batch
        assert isinstance(view, CalibratedBatch)
        np.testing.assert_array_equal(view.returns_to_go, returns)


# Windows of trajectories.


def test_returns_to_go_end_with_terminals_and_with_time_outs():
    rows = in_windows(trajectories(), 2).batch
    np.testing.assert_array_equal(rows.returns_to_go, [7, 6, 4, 24, 16, 20])
    np.testing.assert_array_equal(rows.timesteps, [0, 1, 2, 0, 1, 0])
    np.testing.assert_array_equal(rows.left, [3, 2, 1, 2, 1, 1])
    assert rows.highest_return == 24.0
    # The highest return is that of a whole trajectory: after the loss in front, 24 are still to be had.
    assert in_windows(trajectories((1, 2, 4, -8, 24, 3)), 2).batch.highest_return == 16.0


def test_windows_are_padded_on_the_left():
    windows = in_windows(trajectories(), 3).take(np.array([0, 1, 4, 5]))
    np.testing.assert_array_equal(windows.known, [[1, 1, 1], [0, 1, 1], [0, 0, 1], [0, 0, 1]])
    np.testing.assert_array_equal(windows.observations[..., 0], [[1, 2, 3], [0, 2, 3], [0, 0, 5], [0, 0, 6]])
    np.testing.assert_array_equal(windows.actions, 10 * windows.observations)
    np.testing.assert_array_equal(windows.returns_to_go, [[7, 6, 4], [0, 6, 4], [0, 0, 16], [0, 0, 20]])
    np.testing.assert_array_equal(windows.timesteps, [[0, 1, 2], [0, 1, 2], [0, 0, 1], [0, 0, 0]])
    np.testing.assert_array_equal(windows.highest_return, [24] * 4)
    prints = [in_windows(trajectories(), length).fingerprint() for length in (2, 5)]
    assert prints[0] == prints[1] != in_windows(trajectories((2, 3, 5, 9, 17, 21)), 2).fingerprint()


@pytest.mark.parametrize("length", [1, 2, 5])
def test_a_program_draws_what_the_host_takes(length):
    dataset, key = in_windows(trajectories(), length), jax.random.key(0)
    on_device = jax.tree.map(jnp.asarray, dataset.batch)
    drawn = jax.jit(sample, static_argnames="batch_size")(on_device, key, batch_size=50)
    taken = dataset.take(np.asarray(sample_indices(key, 6, 50)))
    assert len(np.unique(np.asarray(drawn.returns_to_go), axis=0)) == 6  # every window
    for name, of_device, of_host in zip(drawn._fields, drawn, taken, strict=True):
        assert of_device.dtype == of_host.dtype, name
        np.testing.assert_array_equal(of_device, of_host, name, strict=True)


def test_data_without_trajectories_are_refused():
    dataset = trajectories()
    mostly = dataclasses.replace(dataset, ends=np.array([1, 0, 1, 1, 1, 1], bool))
    with pytest.raises(UserError, match=r"six\.hdf5: 4 of 6 transitions do not lead .*, but sequences are"):
        check_order(mostly, "sequences are learned from")
    one = dataclasses.replace(dataset, ends=np.arange(6) == 5)
    with pytest.raises(UserError, match=r"six\.hdf5.*does not end \(no terminals, no timeouts\)"):
        in_windows(one, 2)
    timed_out = dataclasses.replace(one, stated=np.arange(6) == 5)
    np.testing.assert_array_equal(in_windows(timed_out, 2).batch.left, [6, 5, 4, 3, 2, 1])
    ones = np.ones((6, 1))
    rows = {"observations": ones, "actions": ones, "rewards": ones[:, 0], "terminals": 0 * ones[:, 0]}
    marked = from_arrays({**rows, "timeouts": np.arange(6) == 5}, "six.npz")
    assert in_windows(marked, 2).batch.left.tolist() == [5, 4, 3, 2, 1]
    with pytest.raises(UserError, match=r"six\.npz.*does not end"):
        in_windows(from_arrays({**rows, "timeouts": np.zeros(6)}, "six.npz"), 2)
    best = best_trajectories(trajectories((9, 9, 9, 1, 1, 1)), 0.5)  # of several
    np.testing.assert_array_equal(best.ends, [False, False, True])
    assert len(with_returns_to_go(best, 0.5, False).batch.returns_to_go) == best.size
    ended = dataset.batch._replace(masks=np.array([1, 1, 1, 1, 1, 0], np.float32))
    assert in_windows(dataclasses.replace(one, batch=ended), 2).batch.highest_return == 51.0
