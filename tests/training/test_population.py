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
    advance,
    assert_same_bits,
    make_data,
    make_growth,
    offline_trainer,
    snapshot,
    widths,
)

from xql_jax.learners.registry import make_learner
from xql_jax.training.members import Ramp, make_members

FIELDS = {**widths(8, 8), "beta": 2.0, "layer_norm": True, "dropout_rate": 0.1}
GRID = {"beta": [0.7, 3.0]}


def make_xql(seeds, grid, together=None, **fields):
    learner, members = make_learner("xql", {**FIELDS, **fields}), make_members(seeds, grid)
    return offline_trainer(learner, members, make_data(), 8, together=together)


@pytest.mark.slow
@pytest.mark.parametrize("alone", [True, False])
def test_members_in_turn_equal_a_lone_run_and_members_together(alone):
    """The value of beta is in the config, not in a sweep; accelerators run members together."""
    trainer = make_xql([5, 6], GRID)
    metrics = trainer.advance(10)
    other = make_xql([6], {}, beta=0.7) if alone else make_xql([5, 6], GRID, together=True)
    others = other.advance(10)
    chosen = slice(1, 2) if alone else slice(None)
    for leaf, expected in zip(
        snapshot(trainer.population.states), snapshot(other.population.states), strict=True
    ):
        np.testing.assert_allclose(leaf[chosen], expected, rtol=1e-4, atol=1e-6)
    for name, metric in others.items():
        np.testing.assert_allclose(metrics[name][chosen], metric, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("stops", [[6], [1, 2, 6], [4, 6]])
def test_a_ramp_gives_every_update_its_own_value(stops):
    """x is the product of the growths 1, 1.25, 1.5, 1.75, 2, 2, however the updates are cut into calls."""
    ramps = (Ramp("growth", (1.0, 2.0), (0.0, 4.0)),)
    trainer = offline_trainer(Growth(), make_members([0, 1], {}), make_data(), 4, ramps=ramps)
    for stop in stops:
        trainer.advance(stop)
    np.testing.assert_array_equal(trainer.population.states["x"], 1.25 * 1.5 * 1.75 * 4)


def test_no_call_traces_anew():
    trainer = make_growth()
    trainer.advance(3)
    TRACES.clear()
    for call in (1, 2, 13, 40):
        advance(trainer, 40, call)
    assert TRACES == []


def test_data_is_held_once():
    # 41 rows: no other array in the process has that length.
    data = make_data(size=41)
    trainer = offline_trainer(Growth(), make_members(range(6), {}), data, 4)
    trainer.advance(3)
    trainer.policy()(np.zeros((6, 1, 3), np.float32))
    held = [array for array in jax.live_arrays() if 41 in array.shape]
    assert sum(array.nbytes for array in held) == sum(array.nbytes for array in data)


@pytest.mark.slow
@pytest.mark.parametrize("together", [False, True])
def test_seven_members_on_four_devices_are_as_on_one(together):
    """Together, a copy of the last member fills the free place."""
    script = f"""
import json, sys, jax
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_population import make_xql
from training_runs import advance, make_data, snapshot
from xql_jax.training.checkpoints import Progress
trainer = make_xql(range(7), {{}}, together={together})
leaves = [jax.tree.leaves(group.members.state)[0] for group in trainer.population.groups]
metrics = advance(trainer, 10, 10)
actions = trainer.policy()(make_data().observations[None, :4].repeat(7, 0))
end = metrics["value/loss"].tolist(), [leaf.tolist() for leaf in snapshot(trainer.population.states)]
assert actions.shape == (7, 4, 2)
used = sorted({{shard.device.id for leaf in leaves for shard in leaf.addressable_shards}})
print(json.dumps([used, *end, list(trainer.snapshot(Progress()).progress.members)]))
"""
    run = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "4"},
        capture_output=True, text=True, timeout=240, check=True,
    )  # fmt: skip
    used, loss, states, names = json.loads(run.stdout.splitlines()[-1])
    assert used == [0, 1, 2, 3]
    assert names == [f"seed{seed}" for seed in range(7)]
    alone = make_xql(range(7), {})
    np.testing.assert_allclose(loss, alone.advance(10)["value/loss"], rtol=1e-5)
    for leaf, expected in zip(states, snapshot(alone.population.states), strict=True):
        np.testing.assert_allclose(leaf, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("call", [1, 7])
def test_cutting_into_calls_changes_no_bit(call, compiled_fully):
    whole, cut = make_xql([5, 6], GRID), make_xql([5, 6], GRID)
    expected_metrics = advance(whole, 23, 1000)
    metrics = advance(cut, 23, call)
    assert_same_bits(cut.population.states, snapshot(whole.population.states))
    assert_same_bits(metrics, expected_metrics)
