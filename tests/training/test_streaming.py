"""Data streamed from the host against the same data on the device: the same bits, whatever the cuts."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy import stats
from training_runs import Growth, Start, advance, assert_same_bits, make_data, snapshot, widths

from xql_jax.learners.registry import make_learner
from xql_jax.training import minibatches
from xql_jax.training import population as population_module
from xql_jax.training.members import make_members
from xql_jax.training.population import Population
from xql_jax.training.trainable import Divergence
from xql_jax.types import Batch

GRID = {"beta": [0.7, 3.0]}


class Host:
    """Transitions on the host that remember which of them were taken."""

    def __init__(self, data):
        self.data, self.size, self.taken = data, len(data.rewards), []

    def take(self, indices):
        self.taken.append(indices)
        return Batch(*(field[indices] for field in self.data))


@pytest.fixture(autouse=True, scope="module")
def short_blocks():
    """Five updates a block for four members with minibatches of 8: 3 + 2 + 1 + 1 + 3 floats a transition."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(minibatches, "BLOCK_BYTES", 5 * 4 * 8 * 10 * 4)
        yield


def make_xql(data):
    learner = make_learner("xql", {**widths(8, 8), "layer_norm": True, "dropout_rate": 0.1})
    return Population(learner, make_members([5, 6], GRID), data, batch_size=8)


@pytest.fixture(scope="module")
def resident():
    population = make_xql(make_data())
    metrics = advance(population, 23, 23)
    return snapshot(population.states), snapshot(metrics)


@pytest.fixture(scope="module")
def streamed():
    """The same from a host, and the host."""
    host = Host(make_data())
    return Start(make_xql(host)), host


@pytest.mark.parametrize("call", [7, 23, *(pytest.param(call, marks=pytest.mark.slow) for call in (1, 5))])
def test_streamed_equals_resident_bit_for_bit(streamed, resident, call):
    population = streamed[0].again()
    metrics = advance(population, 23, call)
    assert_same_bits(population.states, resident[0])
    assert_same_bits(metrics, resident[1])


def test_under_vmap_too(monkeypatch):
    """The accelerators' program, compiled for the CPU."""
    monkeypatch.setattr(population_module.jax, "default_backend", lambda: "gpu")
    streamed, resident = (
        Population(Growth(), make_members([5, 6], {"growth": [1.0, 2.0]}), data, batch_size=8)
        for data in (Host(make_data()), make_data())
    )
    monkeypatch.undo()
    for population in (streamed, resident):
        advance(population, 23, 10)
    assert_same_bits(streamed.states, snapshot(resident.states))


@pytest.mark.slow
def test_two_devices_stream_each_its_members():
    script = """
import sys, jax
sys.path.insert(0, sys.argv[1])
from test_streaming import Host, make_xql
from training_runs import assert_same_bits, make_data

streamed, resident = make_xql(Host(make_data())), make_xql(make_data())
assert {shard.device.id for shard in jax.tree.leaves(streamed.states)[0].addressable_shards} == {0, 1}
for population in (streamed, resident):
    population.advance(12)
assert_same_bits(streamed.states, resident.states)
"""
    subprocess.run(
        [sys.executable, "-c", script, str(Path(__file__).parent)],
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "2"},
        timeout=120,
        check=True,
    )


def test_blocks_hold_the_draws_of_their_updates_and_no_others(streamed):
    start, host = streamed
    population = start.again()
    population.compile()
    host.taken.clear()
    population.advance(12)
    assert [len(indices) for indices in host.taken] == [5 * 4 * 8, 5 * 4 * 8, 2 * 4 * 8]


def test_draws_are_uniform_over_all_of_the_data():
    """40 transitions, 4 members, 500 updates of 8: each is expected 400 times."""
    host = Host(make_data(size=40))
    population = Population(Growth(), make_members(range(4), {}), host, batch_size=8)
    population.compile()
    host.taken.clear()
    population.advance(500)
    counts = np.bincount(np.concatenate(host.taken), minlength=40)
    assert counts.sum() == 16_000
    assert stats.chisquare(counts).pvalue > 0.001


@pytest.mark.slow
def test_divergence_is_found_in_the_midst_of_a_block():
    grid = {"growth": [1.0, 2.0, 4.0], "silent_growth": [1.0, 2.0]}
    streamed, resident = (
        Population(Growth(), make_members([0], grid), data, batch_size=4)
        for data in (Host(make_data()), make_data())
    )
    for population in (streamed, resident):
        advance(population, 150, 40)
    assert streamed.diverged == resident.diverged
    assert streamed.diverged[1] == Divergence(128, "state")
    assert_same_bits(streamed.states, snapshot(resident.states))


@pytest.mark.slow
def test_the_data_is_not_on_the_device():
    # No other array in the process has that length.
    population = Population(Growth(), make_members([5, 6], {}), Host(make_data(size=43)), batch_size=8)
    population.advance(7)
    assert not [array for array in jax.live_arrays() if 43 in array.shape]
