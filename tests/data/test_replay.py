"""The ring against a deque, draws from what is there and nothing else, and no copy of it."""

import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from xql_jax.data import replay
from xql_jax.types import Batch

O, A = 3, 2


def transitions(numbers):
    """Transitions with these numbers, counted from 0, in every field; every fifth ends in a terminal."""
    k = jnp.asarray(numbers, jnp.float32)
    return Batch(
        observations=jnp.stack([k + 1, -k - 1, k + 0.5], 1),
        actions=jnp.stack([k + 2, -k - 2], 1),
        rewards=k + 1,
        masks=jnp.float32(k % 5 != 4),
        next_observations=jnp.stack([k + 2, -k - 2, k + 1.5], 1),
    )


def filled(capacity, inserted):
    """A buffer after the transitions 0, ..., inserted - 1, one at a time."""

    def body(k, buffer):
        return replay.insert(buffer, transitions(k[None]))

    return jax.lax.fori_loop(0, inserted, body, replay.empty(capacity, O, A))


def assert_same(batch, expected):
    for name, field in expected._asdict().items():
        np.testing.assert_array_equal(getattr(batch, name), field, err_msg=name)


insert = jax.jit(replay.insert)
NUMBERED = jax.tree.map(np.asarray, transitions(np.arange(70)))


def number_rows(numbers):
    return jax.tree.map(lambda field: field[numbers.start : numbers.stop], NUMBERED)


@pytest.mark.slow
@given(st.sampled_from([1, 4, 7]), st.lists(st.integers(0, 7), max_size=9))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_the_ring_holds_what_a_deque_holds(capacity, counts):
    buffer, last, inserted = replay.empty(capacity, O, A), collections.deque(maxlen=capacity), 0
    for count in (min(count, capacity) for count in counts):
        numbers = range(inserted, inserted + count)
        buffer = insert(buffer, number_rows(numbers))
        last.extend(numbers)
        inserted += count
    assert int(buffer.inserted) == inserted
    assert int(replay.size(buffer)) == len(last)
    expected = jax.tree.map(lambda field: np.zeros(field.shape, field.dtype), buffer.data)
    for k in last:
        for field, row in zip(expected, NUMBERED, strict=True):
            field[k % capacity] = row[k]
    assert_same(buffer.data, expected)


def test_an_insertion_across_the_end():
    """By hand: of capacity 5, transitions 3 and 4 end the ring, and 5 and 6 take the places of 0 and 1."""
    buffer = replay.insert(filled(5, 3), transitions([3, 4, 5, 6]))
    np.testing.assert_array_equal(buffer.data.rewards, [6, 7, 3, 4, 5])
    assert_same(buffer.data, transitions([5, 6, 2, 3, 4]))


@pytest.mark.parametrize(("inserted", "there"), [(50, range(50)), (100, range(100)), (137, range(37, 137))])
def test_every_transition_that_is_there_is_equally_likely(inserted, there):
    """Half full, just full, and wrapped: from the oldest to the newest, and no row that was never written."""
    batch = replay.sample(filled(100, inserted), jax.random.key(inserted), 200_000)
    numbers, counts = np.unique(np.asarray(batch.rewards, int) - 1, return_counts=True)
    np.testing.assert_array_equal(numbers, there)
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_rows_stay_whole_and_a_time_out_is_no_terminal():
    """A terminal has mask 0 and a time-out mask 1, whatever is inserted beside them or draws them."""
    buffer = filled(20, 33)
    batch = replay.sample(buffer, jax.random.key(0), 2_000)
    numbers = np.asarray(batch.rewards, int) - 1
    assert_same(batch, transitions(numbers))
    assert {k for k, mask in zip(numbers, batch.masks, strict=True) if mask == 0} == {14, 19, 24, 29}


def test_one_transition_among_a_million_rows():
    buffer = replay.insert(replay.empty(1_000_000, O, A), transitions([6]))
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(buffer)) == replay.num_bytes(1_000_000, O, A)
    assert set(np.asarray(replay.sample(buffer, jax.random.key(0), 10_000).rewards)) == {7.0}


def test_the_key_decides():
    buffer = filled(20, 33)
    first, again, other = (replay.sample(buffer, jax.random.key(seed), 64).rewards for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def add_and_draw(buffer, k):
    """What a program does in each step: three transitions in, eight out."""
    buffer = replay.insert(buffer, transitions(3 * k + jnp.arange(3)))
    return buffer, replay.sample(buffer, jax.random.key(k), 8)


@pytest.mark.slow
def test_a_scan_does_what_single_steps_do():
    buffer, batches = replay.empty(7, O, A), []
    for k in range(6):
        buffer, batch = add_and_draw(buffer, k)
        batches.append(batch)
    scanned, drawn = jax.jit(lambda start: jax.lax.scan(add_and_draw, start, jnp.arange(6)))(
        replay.empty(7, O, A)
    )
    assert_same(scanned.data, buffer.data)
    assert int(scanned.inserted) == 18
    assert_same(drawn, jax.tree.map(lambda *fields: np.stack(fields), *batches))


@pytest.mark.slow
def test_members_do_what_each_does_alone():
    """Also with buffers that are filled to different rows: one empty, one part full, one wrapped."""
    alone = [filled(7, inserted) for inserted in (0, 5, 9)]
    together = jax.tree.map(lambda *fields: jnp.stack(fields), *alone)
    members, batches = jax.jit(jax.vmap(add_and_draw))(together, jnp.arange(3))
    for i, buffer in enumerate(alone):
        expected, batch = add_and_draw(buffer, i)
        assert_same(jax.tree.map(lambda field, i=i: field[i], members.data), expected.data)
        assert_same(jax.tree.map(lambda field, i=i: field[i], batches), batch)
        assert int(members.inserted[i]) == int(expected.inserted)


def cheetahs(count):
    return Batch(
        observations=jnp.ones((count, 17)),
        actions=jnp.ones((count, 6)),
        rewards=jnp.ones(count),
        masks=jnp.ones(count),
        next_observations=jnp.ones((count, 17)),
    )


@pytest.mark.parametrize("steps", [1, 100])
@pytest.mark.parametrize("count", [1, 16])
def test_no_copy_of_a_million_transitions(count, steps):
    """A program that is given the buffer writes to its memory and has no room to copy a field of it."""

    @functools.partial(jax.jit, donate_argnums=0)
    def run(buffer, batch, key):
        def body(k, carry):
            buffer, total = carry
            buffer = replay.insert(buffer, batch)
            drawn = replay.sample(buffer, jax.random.fold_in(key, k), 256)
            return buffer, jax.tree.map(lambda x, y: x + y.sum(), total, drawn)

        return jax.lax.fori_loop(0, steps, body, (buffer, jax.tree.map(lambda _: 0.0, batch)))

    buffer = replay.empty(1_000_000, 17, 6)
    batch, key = cheetahs(count), jax.random.key(0)
    memory = run.lower(buffer, batch, key).compile().memory_analysis()
    assert memory.alias_size_in_bytes >= 4 * 42 * 1_000_000
    assert memory.temp_size_in_bytes < 1_000_000  # the smallest field has four times as many
    places = [field.unsafe_buffer_pointer() for field in buffer.data]
    for _ in range(3):
        given = buffer
        buffer, _ = run(buffer, batch, key)
        assert given.data.observations.is_deleted()
    assert [field.unsafe_buffer_pointer() for field in buffer.data] == places
    assert float(buffer.data.rewards.sum()) == int(buffer.inserted) == 3 * steps * count


def test_how_full_it_is_makes_no_other_program():
    step = jax.jit(add_and_draw)
    buffer = replay.empty(7, O, A)
    for k in range(5):
        buffer, _ = step(buffer, k)
    assert step._cache_size() == 1


def test_more_than_there_is_room_for():
    assert_same(replay.insert(filled(4, 3), transitions(range(3, 7))).data, transitions([4, 5, 6, 3]))
    with pytest.raises(ValueError, match="a replay buffer of capacity 4 cannot take 5 rows at once"):
        replay.insert(replay.empty(4, O, A), transitions(range(5)))
    with pytest.raises(ValueError, match="a replay buffer needs a capacity of at least 1, not 0"):
        replay.empty(0, O, A)


def test_fields_of_another_shape():
    """A single reward for all rows, or one observation for all, would be broadcast."""
    batch = transitions(range(3))
    for wrong in (batch._replace(masks=jnp.ones(1)), batch._replace(observations=jnp.ones((3, 1)))):
        with pytest.raises(AssertionError):
            jax.jit(replay.insert)(replay.empty(5, O, A), wrong)
