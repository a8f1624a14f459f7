"""A population against lone runs, one device, one call; and what it costs in traces and memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from training_runs import (
    TRACES,
    Growth,
    Start,
    advance,
    assert_same_bits,
    make_data,
    make_growth,
    snapshot,
    widths,
)

from xql_jax.learners.registry import make_learner
from xql_jax.training import population as population_module
from xql_jax.training.members import make_members
from xql_jax.training.population import Population

FIELDS = {**widths(8, 8), "beta": 2.0, "layer_norm": True, "dropout_rate": 0.1}
GRID = {"beta": [0.7, 3.0]}


def make_xql(seeds, grid, **fields):
    return Population(
        make_learner("xql", {**FIELDS, **fields}), make_members(seeds, grid), make_data(), batch_size=8
    )


@pytest.fixture(scope="module")
def four():
    """Two seeds times two values of beta, and where they started."""
    return Start(make_xql([5, 6], GRID))


@pytest.fixture(scope="module")
def after_ten(four):
    population = four.again()
    metrics = advance(population, 10, 10)
    return snapshot(population.states), {name: np.array(metric) for name, metric in metrics.items()}


@pytest.mark.slow
def test_member_equals_lone_run(after_ten):
    states, metrics = after_ten
    alone = make_xql([6], {}, beta=0.7)  # in the config, not in a sweep
    alone_metrics = advance(alone, 10, 10)
    for together, lone in zip(states, snapshot(alone.states), strict=True):
        np.testing.assert_allclose(together[1], lone[0], rtol=1e-4, atol=1e-6)
    for name, metric in alone_metrics.items():
        np.testing.assert_allclose(metrics[name][1], metric[0], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_members_together_equal_members_in_turn(after_ten, monkeypatch):
    """The program that accelerators run, under `vmap`, compiled for the CPU."""
    train_members, chosen = population_module._train_members, set()

    def spy(*arguments, together, **keywords):
        chosen.add(together)
        return train_members(*arguments, together=together, **keywords)

    monkeypatch.setattr(population_module, "_train_members", spy)
    monkeypatch.setattr(population_module.jax, "default_backend", lambda: "gpu")
    population = make_xql([5, 6], GRID)
    population.compile()
    monkeypatch.undo()
    assert chosen == {True}
    metrics = advance(population, 10, 10)
    for together, in_turn in zip(snapshot(population.states), after_ten[0], strict=True):
        np.testing.assert_allclose(together, in_turn, rtol=1e-4, atol=1e-6)
    for name, metric in metrics.items():
        np.testing.assert_allclose(metric, after_ten[1][name], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_every_member_is_another_run(after_ten):
    # Seeds differ in the networks and the batches, the two betas of a seed in the value loss alone.
    states, metrics = after_ten
    for i in range(4):
        for j in range(i):
            assert metrics["value/loss"][i] != metrics["value/loss"][j]
            largest = max(np.abs(leaf[i] - leaf[j]).max() for leaf in states if leaf.dtype == np.float32)
            assert largest > 1e-4


@pytest.mark.parametrize("call", [1, 7])
def test_cutting_into_calls_changes_no_bit(four, call):
    whole = four.again()
    expected_metrics = advance(whole, 23, 1000)
    expected = snapshot(whole.states)
    cut = four.again()
    metrics = advance(cut, 23, call)
    assert_same_bits(cut.states, expected)
    assert_same_bits(metrics, expected_metrics)


def test_update_t_depends_on_t():
    # z follows the key of its update: the same two updates under other numbers draw other noise.
    start = Start(make_growth())
    first = start.again()
    first.advance(2)
    expected = snapshot(first.states)
    second = start.again()
    second.step = 2
    second.advance(4)
    assert (snapshot(second.states)[2] != expected[2]).all()


@pytest.mark.slow
def test_two_devices_equal_one(after_ten):
    script = """
import json, sys, jax
sys.path.insert(0, sys.argv[1])
from test_population import GRID, make_xql
from training_runs import make_data, snapshot

population = make_xql([5, 6], GRID)
shards = [shard for leaf in jax.tree.leaves(population.states) for shard in leaf.addressable_shards]
metrics = population.advance(10)
actions = population.policy()(make_data().observations[None, :4].repeat(4, 0))
result = {"devices": sorted({shard.device.id for shard in shards}), "loss": metrics["value/loss"].tolist()}
result |= {"states": [leaf.tolist() for leaf in snapshot(population.states)], "actions": actions.tolist()}
print(json.dumps(result))
"""
    run = subprocess.run(
        [sys.executable, "-c", script, str(Path(__file__).parent)],
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "2"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    sharded = json.loads(run.stdout)
    states, metrics = after_ten
    assert sharded["devices"] == [0, 1]
    np.testing.assert_allclose(sharded["loss"], metrics["value/loss"], rtol=1e-5)
    for leaf, expected in zip(sharded["states"], states, strict=True):
        np.testing.assert_allclose(leaf, expected, rtol=1e-4, atol=1e-6)
    assert len({json.dumps(actions) for actions in sharded["actions"]}) == 4


def test_one_trace_a_run():
    TRACES.clear()
    population = make_growth()
    population.compile()
    # One trace of the loop's body, and one abstract evaluation for the shapes of its metrics.
    assert len(TRACES) == 2
    population.advance(3)
    assert count_compilations(lambda: jax.jit(lambda x: x + len(TRACES))(1.0)) == 1
    assert count_compilations(lambda: [advance(population, 40, call) for call in (1, 2, 13, 40)]) == 0
    assert len(TRACES) == 2


def count_compilations(run):
    """How often XLA compiled anything while `run` ran."""
    events = []

    def listen(event, seconds, **_):
        if "backend_compile" in event:
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        run()
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    return len(events)


@pytest.mark.parametrize("num_members", [1, 6])
def test_data_is_held_once(num_members):
    # 41 rows: no other array in the process has that length.
    data = make_data(size=41)
    population = Population(Growth(), make_members(range(num_members), {}), data, batch_size=4)
    population.advance(3)
    population.policy()(np.zeros((num_members, 1, 3), np.float32))
    held = [array for array in jax.live_arrays() if 41 in array.shape]
    assert sorted(array.shape for array in held) == sorted(array.shape for array in data)
    assert sum(shard.data.nbytes for array in held for shard in array.addressable_shards) == sum(
        array.nbytes for array in data
    )


def test_member_gives_its_own_learner_and_state():
    population = make_growth(seeds=[0], grid={"growth": [1.0, 2.0, 4.0]})
    population.advance(3)
    learner, state = population.member(2)
    assert (float(learner.growth), float(state["x"])) == (4.0, 64.0)


def test_policy_is_that_of_the_moment():
    population = make_growth()
    observations = np.zeros((2, 1, 3), np.float32)
    for stop in (5, 10):
        population.advance(stop)
        expected = np.tanh(np.array(population.states["z"])[:, :2])
        np.testing.assert_allclose(population.policy()(observations)[:, 0], expected, rtol=1e-6)
