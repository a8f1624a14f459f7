"""Rows in D4RL's layout: cut off, joined, and made of a replay buffer whose episodes are known."""

import numpy as np

from xql_jax.data.rows import cut_off, joined_rows, returns_of, rows_of_replay, whole_returns_of
from xql_jax.types import Batch

LENGTHS = (3, 5, 1, 4, 2)  # of known episodes
TERMINAL = (True, False, False, True, False)  # the others are ended by a time-out


def known_episodes(seed=0):
    """Transitions of episodes of these lengths, and bool[N] each: is a terminal, is a time-out."""
    generator = np.random.default_rng(seed)
    parts, terminals, timeouts = [], [], []
    for length, terminal in zip(LENGTHS, TERMINAL, strict=True):
        seen = generator.standard_normal((length + 1, 2)).astype(np.float32)
        is_last = np.arange(length) == length - 1
        actions = generator.uniform(-1, 1, (length, 1)).astype(np.float32)
        rewards = generator.standard_normal(length).astype(np.float32)
        masks = 1.0 - (is_last & terminal).astype(np.float32)
        parts.append(Batch(seen[:-1], actions, rewards, masks, seen[1:]))
        terminals.append(is_last & terminal)
        timeouts.append(is_last & (not terminal))
    batch = Batch(*(np.concatenate(fields) for fields in zip(*parts, strict=True)))
    return batch, np.concatenate(terminals), np.concatenate(timeouts)


def test_ends_of_known_episodes_are_recovered():
    batch, terminals, timeouts = known_episodes()
    rows = rows_of_replay(0, batch, 1)
    np.testing.assert_array_equal(rows["terminals"], terminals)
    np.testing.assert_array_equal(rows["timeouts"], timeouts)
    for key in ("observations", "actions", "rewards", "next_observations"):
        np.testing.assert_array_equal(rows[key], getattr(batch, key))


def test_the_last_bit_of_a_next_observation_counts():
    batch, _, timeouts = known_episodes()
    following = batch.next_observations.copy()
    following[0, 1] = np.nextafter(following[0, 1], np.float32(np.inf))
    rows = rows_of_replay(0, batch._replace(next_observations=following), 1)
    assert rows["timeouts"][0]
    np.testing.assert_array_equal(rows["timeouts"][1:], timeouts[1:])


def test_environments_that_took_turns_are_told_apart():
    """Whatever the number of the first transition: here the buffer's first is of environment 2 of three."""
    parts = [known_episodes(seed) for seed in range(3)]
    count = len(parts[0][1])
    turns = Batch(*(np.stack(fields, 1).reshape(3 * count, *fields[0].shape[1:])
                    for fields in zip(*(batch for batch, *_ in parts), strict=True)))  # fmt: skip
    first = 2
    rows = rows_of_replay(first, Batch(*(field[first:] for field in turns)), 3)
    batch, terminals, timeouts = parts[2]  # whole, where the others lack their first
    np.testing.assert_array_equal(rows["observations"][-count:], batch.observations)
    for number, start in ((0, 0), (1, count - 1)):
        stop = start + count - 1
        batch, terminals, timeouts = parts[number]
        np.testing.assert_array_equal(rows["observations"][start:stop], batch.observations[1:])
        np.testing.assert_array_equal(rows["terminals"][start:stop], terminals[1:])
        np.testing.assert_array_equal(rows["timeouts"][start:stop], timeouts[1:])


def test_what_is_cut_off_ends_by_a_time_out_unless_it_was_terminal():
    rows = rows_of_replay(0, known_episodes()[0], 1)
    cut, at_terminal = cut_off(rows, 5), cut_off(rows, 3)
    np.testing.assert_array_equal(cut["timeouts"], [False, False, False, False, True])
    np.testing.assert_array_equal(cut["terminals"], [False, False, True, False, False])
    np.testing.assert_array_equal(at_terminal["timeouts"], [False, False, False])
    assert not rows["timeouts"][4]  # the rows themselves are as they were


def test_returns_are_the_episodes_sums():
    rows = rows_of_replay(0, known_episodes()[0], 1)
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
    np.testing.assert_array_equal(whole_returns_of(rows, 3, True), [3.0, 12.0])
    fragment = {key: column[5:] for key, column in rows.items()}
    np.testing.assert_array_equal(whole_returns_of(fragment, 3, True), [13.0])  # there is no whole one
    np.testing.assert_array_equal(whole_returns_of(rows, 9, True), [3.0])  # row 1 is a terminal
    # Time-outs before the limit are the environment's own, but for the last one.
    np.testing.assert_array_equal(whole_returns_of(rows, 9, False), [3.0, 12.0])
    np.testing.assert_array_equal(whole_returns_of(rows, 2, False), [3.0, 12.0, 13.0])
