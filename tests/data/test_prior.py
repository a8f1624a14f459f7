"""Minibatches from offline data and a replay buffer: their shares, and which of the data give way."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xql_jax.data import replay
from xql_jax.data.prior import PriorData, sample
from xql_jax.types import Batch

DRAWS = 200_000


def transitions(numbers):
    """Each knows its number, in every field."""
    column = jnp.asarray(numbers, jnp.float32)
    return Batch(
        column[:, None] * jnp.ones(3), column[:, None], column, column, column[:, None] * jnp.ones(3)
    )


def filled(capacity, count):
    buffer = replay.empty(capacity, 3, 1)
    for number in range(count):
        buffer = replay.insert(buffer, transitions([1000 + number]))
    return buffer


def counts(prior, buffer, batch_size=DRAWS):
    """How often each number is drawn."""
    drawn = jax.jit(sample, static_argnums=3)(prior, buffer, jax.random.key(3), batch_size)
    for field in drawn:  # a row is one transition
        np.testing.assert_array_equal(
            np.asarray(field).reshape(batch_size, -1)[:, 0], np.asarray(drawn.rewards)
        )
    numbers, times = np.unique(np.asarray(drawn.rewards).astype(int), return_counts=True)
    return dict(zip(numbers.tolist(), times.tolist(), strict=True))


def assert_uniform(found, numbers, draws=DRAWS):
    assert sorted(found) == sorted(numbers)
    expected = draws / len(numbers)
    assert all(abs(times - expected) < 6 * expected**0.5 for times in found.values())


def test_alike_every_transition_has_the_same_chance():
    found = counts(PriorData(transitions(range(7))), filled(5, 3))
    assert_uniform(found, [*range(7), 1000, 1001, 1002])


@pytest.mark.parametrize(
    ("inserted", "held"),
    [
        (3, [*range(7), 1000, 1001, 1002]),  # 10 in all: as many as there is room for
        (5, [*range(2, 7), *range(1000, 1005)]),  # the oldest of the data give way, as in a ring
        (10, range(1000, 1010)),
        (14, range(1004, 1014)),  # then the buffer's own
    ],
)
def test_alike_it_is_the_ring_that_begins_with_the_data(inserted, held):
    """As IQL's buffer of 10, which has the 7 offline transitions inserted first."""
    found = counts(PriorData(transitions(range(7)), capacity=10), filled(10, inserted))
    assert_uniform(found, held)


def test_by_fraction_a_minibatch_has_exactly_that_share():
    found = counts(PriorData(transitions(range(7)), fraction=0.25), filled(5, 9))
    offline = {number: times for number, times in found.items() if number < 1000}
    assert sum(offline.values()) == DRAWS // 4
    assert_uniform(offline, range(7), DRAWS // 4)
    assert_uniform(
        {number: times for number, times in found.items() if number >= 1000},
        range(1004, 1009),
        3 * DRAWS // 4,
    )


@pytest.mark.parametrize(("fraction", "numbers"), [(0.0, [1000, 1001]), (1.0, range(7))])
def test_the_ends_of_the_range(fraction, numbers):
    assert_uniform(counts(PriorData(transitions(range(7)), fraction=fraction), filled(5, 2)), numbers)


def test_without_offline_data_it_is_the_buffers_own_draw():
    buffer, key = filled(5, 4), jax.random.key(1)
    jax.tree.map(np.testing.assert_array_equal, sample(None, buffer, key, 64), replay.sample(buffer, key, 64))
