"""Rows in D4RL's layout: cut off, joined, made of a replay buffer, and what comes back from their files."""

import numpy as np
import pytest
from data_formats import Episode, joined

from xql_jax.data.loading import load_dataset
from xql_jax.data.rows import (
    cut_off,
    joined_rows,
    read_rows,
    returns_of,
    rows_of_replay,
    whole_returns_of,
    write_hdf5,
)
from xql_jax.errors import UserError
from xql_jax.suites.tasks import References
from xql_jax.types import Batch

KINDS = ("terminal", "timeout", "timeout", "terminal", "timeout")
LENGTHS = (3, 5, 1, 4, 2)  # of the episodes


def known_episodes(seed=0):
    """Transitions of episodes that end so after so many steps, and bool[N]: is a time-out."""
    episodes = (Episode(seed + i, *each) for i, each in enumerate(zip(LENGTHS, KINDS, strict=True)))
    arrays = joined([episode.arrays() for episode in episodes])
    return Batch(*(arrays[name].astype(np.float32) for name in Batch._fields)), arrays["timeouts"]


@pytest.fixture
def rows():
    return rows_of_replay(0, known_episodes()[0], 1)


def test_ends_of_known_episodes_are_recovered(rows):
    batch, timeouts = known_episodes()
    np.testing.assert_array_equal(rows["terminals"], batch.masks == 0)
    np.testing.assert_array_equal(rows["timeouts"], timeouts)
    for key in ("observations", "actions", "rewards", "next_observations"):
        np.testing.assert_array_equal(rows[key], getattr(batch, key))
    # The last bit of a next observation counts.
    following = batch.next_observations.copy()
    following[0, 1] = np.nextafter(following[0, 1], np.float32(np.inf))
    changed = rows_of_replay(0, batch._replace(next_observations=following), 1)
    np.testing.assert_array_equal(changed["timeouts"], [True, *timeouts[1:]])


def test_environments_that_took_turns_are_told_apart():
    """Whatever the number of the first transition: here the buffer's first is of environment 2 of three."""
    parts = [known_episodes(seed) for seed in range(3)]
    count = len(parts[0][1])
    stacked = (np.stack(fields, 1) for fields in zip(*(batch for batch, _ in parts), strict=True))
    turns = Batch(*(field.reshape(3 * count, *field.shape[2:]) for field in stacked))
    rows = rows_of_replay(2, Batch(*(field[2:] for field in turns)), 3)
    # The last is whole, where the others lack their first.
    for number, (batch, timeouts) in enumerate(parts):
        first, start = int(number < 2), number * (count - 1)
        part = slice(start, start + count - first)
        np.testing.assert_array_equal(rows["observations"][part], batch.observations[first:])
        np.testing.assert_array_equal(rows["terminals"][part], (batch.masks == 0)[first:])
        np.testing.assert_array_equal(rows["timeouts"][part], timeouts[first:])


def test_what_is_cut_off_ends_by_a_time_out_unless_it_was_terminal(rows):
    cut, at_terminal = cut_off(rows, 5), cut_off(rows, 3)
    np.testing.assert_array_equal(cut["timeouts"], [False, False, False, False, True])
    np.testing.assert_array_equal(cut["terminals"], [False, False, True, False, False])
    np.testing.assert_array_equal(at_terminal["timeouts"], [False, False, False])
    assert not rows["timeouts"][4]  # the rows themselves are as they were


def test_returns_are_the_episodes_sums(rows):
    stops = np.cumsum(LENGTHS)
    expected = [rows["rewards"][stop - n : stop].sum() for n, stop in zip(LENGTHS, stops, strict=True)]
    np.testing.assert_allclose(returns_of(rows), expected, rtol=1e-6)
    twice = joined_rows([rows, {**rows, "infos/policy": np.zeros(len(rows["rewards"]))}])
    np.testing.assert_allclose(returns_of(twice), [*expected, *expected], rtol=1e-5)
    assert "infos/policy" not in twice  # half of the rows have none


def test_returns_of_whole_episodes_leave_out_what_was_cut_off():
    rows = {
        "rewards": np.array([1.0, 2, 3, 4, 5, 6, 7]),
        "terminals": np.array([0, 1, 0, 0, 0, 0, 0], bool),
        "timeouts": np.array([0, 0, 0, 0, 1, 0, 1], bool),
    }
    np.testing.assert_array_equal(whole_returns_of(rows, 3, [4, 6]), [3.0, 12.0])
    fragment = {key: column[5:] for key, column in rows.items()}
    np.testing.assert_array_equal(whole_returns_of(fragment, 3, [1]), [13.0])  # there is no whole one
    np.testing.assert_array_equal(whole_returns_of(rows, 9, [1, 4, 6]), [3.0])  # row 1 is a terminal
    # Other time-outs before the limit are the environment's own.
    np.testing.assert_array_equal(whole_returns_of(rows, 9), [3.0, 12.0])
    np.testing.assert_array_equal(whole_returns_of(rows, 2), [3.0, 12.0, 13.0])
    # A ring's oldest row may be in the middle of an episode.
    np.testing.assert_array_equal(whole_returns_of(rows, 3, headless=[0]), [12.0])
    np.testing.assert_array_equal(whole_returns_of(rows, 3, headless=[0, 2]), [3.0, 12.0, 13.0])


# Their files.

METADATA = {
    "command": "collect.py --policy=random",
    "policies": ["random", "ünïcode"],
    "noise": [0.0, 0.5],
    "seed": 3,
    "random_return": -20.5,
    "expert_return": 3234.25,
}
REFERENCES = References(-20.5, 3234.25)


def write(path, rows, **changes):
    metadata = {key: value for key, value in {**METADATA, **changes}.items() if value is not None}
    write_hdf5(path, rows, metadata)
    return str(path)


def test_hdf5_gives_back_rows_metadata_and_transitions(tmp_path, rows):
    path = tmp_path / "set.hdf5"
    batch, timeouts = known_episodes()
    dataset = load_dataset(None, [write(path, rows)])
    for name, array in batch._asdict().items():  # time-outs, too, as their next observations are there
        np.testing.assert_array_equal(getattr(dataset.batch, name), array)
    np.testing.assert_array_equal(dataset.ends, timeouts | (batch.masks == 0))
    assert dataset.references == REFERENCES
    again, metadata = read_rows(path)
    assert metadata == METADATA
    assert again.keys() == rows.keys()
    for key, array in rows.items():
        np.testing.assert_array_equal(again[key], array)
    write(tmp_path / "other.hdf5", rows)
    content = path.read_bytes()
    assert (tmp_path / "other.hdf5").read_bytes() == content
    place = content.index(rows["rewards"].tobytes())  # one number of it is another now
    path.write_bytes(content[:place] + b"\x00" + content[place + 1 :])
    with pytest.raises(UserError, match=r"set\.hdf5: not a readable HDF5 file"):
        load_dataset(None, [str(path)])


def test_npz_brings_the_returns_of_scores_by_the_same_names(tmp_path, rows):
    path = tmp_path / "set.npz"
    np.savez(path, **rows, **{"metadata/random_return": -20.5, "metadata/expert_return": np.float64(3234.25)})
    assert load_dataset(None, [str(path)]).references == REFERENCES
    np.savez(path, **rows, **{"metadata/random_return": 1.0})
    with pytest.raises(UserError, match="two finite numbers"):
        load_dataset(None, [str(path)])


def test_of_several_sources_those_count_that_agree(tmp_path, rows, caplog):
    ours = write(tmp_path / "a.hdf5", rows)
    none = write(tmp_path / "b.hdf5", rows, random_return=None, expert_return=None)
    other = write(tmp_path / "c.hdf5", rows, random_return=0.0)
    assert load_dataset(None, [none]).references is None
    assert load_dataset(None, [ours, none, ours]).references == REFERENCES
    for low in (4000.0, float("nan"), None):
        unfit = write(tmp_path / "d.hdf5", rows, random_return=low)
        with pytest.raises(UserError, match=f"{unfit}: .*two finite numbers, .* must be above"):
            load_dataset(None, [unfit])
    with caplog.at_level("WARNING", "xql_jax"):
        assert load_dataset(None, [ours, other]).references is None
    assert "different reference returns" in caplog.text
