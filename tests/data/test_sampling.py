"""Minibatches are uniform and their rows stay whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from xql_jax.data.sampling import sample, sample_indices
from xql_jax.types import Batch

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


def test_rows_stay_whole():
    batch = draw(DATA, jax.random.key(0), batch_size=500)
    index = np.asarray(batch.rewards)
    assert set(index) == set(range(SIZE))
    np.testing.assert_array_equal(batch.observations, np.stack([index, -index], 1))
    np.testing.assert_allclose(batch.actions[:, 0], index / SIZE, rtol=1e-6)
    np.testing.assert_array_equal(batch.masks, index % 2)
    np.testing.assert_array_equal(batch.next_observations, np.stack([index + 1, -index - 1], 1))


def test_every_transition_is_equally_likely():
    counts = np.bincount(np.asarray(draw(DATA, jax.random.key(1), batch_size=200_000).rewards, int))
    assert len(counts) == SIZE
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_draws_of_a_batch_are_independent():
    # Neighbours in a batch, as pairs: with 37 * 37 equal cells.
    index = np.asarray(draw(DATA, jax.random.key(2), batch_size=200_000).rewards, int).reshape(-1, 2)
    counts = np.bincount(index[:, 0] * SIZE + index[:, 1], minlength=SIZE**2)
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_the_key_decides():
    first, again, other = (draw(DATA, jax.random.key(seed), batch_size=64).rewards for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(
        first, sample(jax.tree.map(np.asarray, DATA), jax.random.key(3), 64).rewards
    )


@pytest.mark.parametrize("size", [2**24 + 1, 70_851_063, 3 * 2**29, 2**31 - 1])
def test_large_sizes_are_scaled_by_64_bits_exactly(size):
    key = jax.random.key(7)
    high, low = np.asarray(jax.random.bits(key, (2, 10_000), jnp.uint32)).astype(object)
    expected = [size * (int(h) * 2**32 + int(l)) >> 64 for h, l in zip(high, low, strict=True)]
    indices = np.asarray(sample_indices(key, size, 10_000))
    assert indices.dtype == np.int32
    np.testing.assert_array_equal(indices, expected)


@pytest.mark.parametrize("size", [0, 1, 37, 65_537, 1_000_000, 10_000_000, 2**31 - 1])
def test_sizes_that_the_device_knows_are_scaled_by_64_bits_exactly(size):
    key = jax.random.key(7)
    high, low = np.asarray(jax.random.bits(key, (2, 10_000), jnp.uint32)).astype(object)
    expected = [size * (int(h) * 2**32 + int(l)) >> 64 for h, l in zip(high, low, strict=True)]
    indices = jax.jit(sample_indices, static_argnums=2)(key, size, 10_000)
    assert indices.dtype == jnp.int32
    np.testing.assert_array_equal(indices, expected)


def test_none_but_the_first_rows():
    batch = sample(DATA, jax.random.key(0), 500, jnp.int32(5))
    assert set(np.asarray(batch.rewards)) == set(range(5))


def test_large_sizes_are_drawn_from_evenly():
    """The first quarter of so many rows gets 28% of 32 random bits modulo the size."""
    size = 3 * 2**29
    indices = np.asarray(sample_indices(jax.random.key(0), size, 100_000))
    quarters = np.bincount(indices // (size // 4), minlength=4)
    assert scipy.stats.chisquare(quarters).pvalue > 0.001
