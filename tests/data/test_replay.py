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
from xql_jax.data.replay import PriorData
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


@functools.partial(jax.jit, static_argnums=0)
def filled(capacity, inserted, first=0):
    """A buffer after so many transitions from number `first` on, one at a time."""

    def body(k, buffer):
        return replay.insert(buffer, transitions(first + k[None]))

    return jax.lax.fori_loop(0, inserted, body, replay.empty(capacity, O, A))


def assert_same(batch, expected):
    for name, field in expected._asdict().items():
        np.testing.assert_array_equal(getattr(batch, name), field, err_msg=name)


insert = jax.jit(replay.insert)
NUMBERED = jax.tree.map(np.asarray, transitions(np.arange(70)))


@given(st.sampled_from([1, 4, 7]), st.lists(st.integers(0, 7), max_size=9))
@settings(max_examples=20)
def test_the_ring_holds_what_a_deque_holds(capacity, counts):
    buffer, last, inserted = replay.empty(capacity, O, A), collections.deque(maxlen=capacity), 0
    for count in (min(count, capacity) for count in counts):
        numbers = range(inserted, inserted + count)
        buffer = insert(buffer, jax.tree.map(lambda field, n=numbers: field[n.start : n.stop], NUMBERED))
        last.extend(numbers)
        inserted += count
    assert int(buffer.inserted) == inserted
    assert int(replay.size(buffer)) == len(last)
    expected = jax.tree.map(lambda field: np.zeros(field.shape, field.dtype), buffer.data)
    for k in last:
        for field, row in zip(expected, NUMBERED, strict=True):
            field[k % capacity] = row[k]
    assert_same(buffer.data, expected)


DRAWS = 200_000


def drawn(buffer, prior=None):
    """How often each transition's number is drawn. A row is one transition, and has its mask."""
    batch = jax.jit(replay.sample_buffer, static_argnums=2)(buffer, jax.random.key(3), DRAWS, prior)
    numbers = np.asarray(batch.rewards, int) - 1
    assert_same(batch, transitions(numbers))  # a terminal has mask 0, and a time-out has mask 1
    return dict(zip(*map(np.ndarray.tolist, np.unique(numbers, return_counts=True)), strict=True))


def assert_uniform(counts, numbers):
    assert sorted(counts) == list(numbers)
    assert scipy.stats.chisquare(list(counts.values())).pvalue > 1e-3


@pytest.mark.parametrize(("inserted", "there"), [(50, range(50)), (100, range(100)), (137, range(37, 137))])
def test_every_transition_that_is_there_is_equally_likely(inserted, there):
    """Half full, just full, and wrapped: from the oldest to the newest, and no row that was never written."""
    assert_uniform(drawn(filled(100, inserted)), there)


DATA = transitions(range(7))  # offline; the buffer's begin with number 1000


@pytest.mark.parametrize(
    ("capacity", "inserted", "held"),
    [
        (2_000_000, 3, [*range(7), 1000, 1001, 1002]),
        (10, 3, [*range(7), 1000, 1001, 1002]),  # 10 in all: as many as there is room for
        (10, 5, [*range(2, 7), *range(1000, 1005)]),  # the oldest of the data give way, as in a ring
        (10, 10, range(1000, 1010)),
        (10, 14, range(1004, 1014)),  # then the buffer's own
    ],
)
def test_alike_it_is_the_ring_that_begins_with_the_data(capacity, inserted, held):
    """As IQL's buffer of 10, which has the 7 offline transitions inserted first."""
    assert_uniform(drawn(filled(10, inserted, 1000), PriorData(DATA, capacity=capacity)), held)


@pytest.mark.parametrize("fraction", [0.0, 0.25, 1.0])
def test_by_fraction_a_minibatch_has_exactly_that_share(fraction):
    counts = drawn(filled(5, 9, 1000), PriorData(DATA, fraction=fraction))
    for numbers, share in ((range(7), fraction), (range(1004, 1009), 1 - fraction)):
        found = {number: times for number, times in counts.items() if number in numbers}
        assert sum(found.values()) == share * DRAWS
        if share:
            assert_uniform(found, numbers)


def test_too_many_rows_and_fields_of_another_shape_are_refused():
    """A single reward for all rows, or one observation for all, would be broadcast."""
    with pytest.raises(ValueError, match="a replay buffer of capacity 4 cannot take 5 rows at once"):
        replay.insert(replay.empty(4, O, A), transitions(range(5)))
    batch = transitions(range(3))
    for wrong in (batch._replace(masks=jnp.ones(1)), batch._replace(observations=jnp.ones((3, 1)))):
        with pytest.raises(AssertionError):
            jax.jit(replay.insert)(replay.empty(5, O, A), wrong)
