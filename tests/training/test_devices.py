"""Members over several devices: which has which, and that their number changes no member's numbers."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from loop_runs import SCHEDULE
from test_population import make_xql
from training_runs import Start, make_growth, make_training, snapshot, train, untimed

from xql_jax.training import devices
from xql_jax.training.devices import padded, population_mesh
from xql_jax.training.trainable import Divergence

# Seven members of which the fourth and the last, which is copied on 4 devices, diverge.
SEVEN = {"seeds": [3], "grid": {"growth": [1.0, 1.25, 1.5, 4.0, 0.5, 0.75, 8.0]}}
DIVERGED = {3: Divergence(32, "walk/square"), 6: Divergence(22, "walk/square")}


@pytest.mark.parametrize(
    ("members", "number", "used"),
    [
        (1, 1, 1),
        (7, 1, 1),
        (1, 4, 1),
        (3, 4, 3),
        (4, 4, 4),
        (5, 4, 3),
        (6, 4, 3),
        (7, 4, 4),
        (9, 8, 5),
        (30, 8, 8),
    ],
)
def test_devices_that_make_the_members_finish_sooner(monkeypatch, members, number, used):
    monkeypatch.setattr(devices.jax, "local_devices", lambda: list(range(number)))
    monkeypatch.setattr(devices, "Mesh", lambda array, names: SimpleNamespace(size=array.size))
    mesh = population_mesh(members)
    assert mesh.size == used
    slots = padded(list(range(members)), mesh)
    assert slots[:members] == list(range(members))
    assert set(slots[members:]) <= {members - 1}
    each = len(slots) // used
    assert each * used == len(slots)
    assert each == -(-members // number)  # of the fullest device, were all used
    assert len(slots) - members < each  # no device has copies alone


def on_devices(number, script, *arguments):
    """What the script, which finds the tests' modules, prints as JSON on so many devices."""
    here = Path(__file__).parent
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={number}"
    run = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; sys.path.insert(0, {str(here)!r})\n{script}",
            *map(str, arguments),
        ],
        env={**os.environ, "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.slow
def test_seven_members_use_four_devices_and_are_as_on_one():
    script = """
import json, jax
from test_population import make_xql
from training_runs import advance, make_data, snapshot
population = make_xql(range(7), {})
used = {shard.device.id for leaf in jax.tree.leaves(population.states) for shard in leaf.addressable_shards}
metrics = advance(population, 10, 10)
actions = population.policy()(make_data().observations[None, :4].repeat(7, 0))
saved = population.saving()
print(json.dumps({
    "used": sorted(used), "loss": metrics["value/loss"].tolist(), "actions": actions.tolist(),
    "names": list(saved.states), "members": list(saved.members),
    "states": [[leaf.tolist() for leaf in jax.tree.leaves(state)] for state in saved.states.values()],
}))
"""
    found = on_devices(4, script)
    names = [f"seed{seed}" for seed in range(7)]
    assert found["used"] == [0, 1, 2, 3]
    assert found["names"] == found["members"] == names
    alone = make_xql(range(7), {})
    metrics = alone.advance(10)
    np.testing.assert_allclose(found["loss"], metrics["value/loss"], rtol=1e-5)
    for state, name in zip(found["states"], names, strict=True):
        for leaf, expected in zip(state, snapshot(alone.saving().states[name]), strict=True):
            np.testing.assert_allclose(leaf, expected, rtol=1e-4, atol=1e-6)
    assert np.shape(found["actions"]) == (7, 4, 2)


@pytest.mark.slow
@pytest.mark.parametrize(("first", "then"), [(4, 1), (1, 4)])
def test_a_checkpoint_goes_on_with_another_number_of_devices(tmp_path, seven, first, then):
    """Stopped after 31 updates, when a member has diverged and one is about to."""
    script = """
import json, sys, pathlib
from loop_runs import SCHEDULE
from test_devices import SEVEN
from training_runs import make_growth, make_training, train
import signal
population = make_growth(**SEVEN)
training, files = make_training(pathlib.Path(sys.argv[1]), population, SCHEDULE)
until, advance = int(sys.argv[2]), population.advance
class Stop:
    received = None
stop = Stop()
def advance_and_stop(end):
    metrics = advance(end)
    if population.step >= until:
        stop.received = signal.SIGTERM
    return metrics
population.advance = advance_and_stop
with training:
    training.run(stop, show_progress=False, steps_per_call=1)
print(json.dumps({"devices": len(population._mesh.devices), "step": training.progress.step}))
"""
    stopped = on_devices(first, script, tmp_path, 31)
    assert stopped == {"devices": first, "step": 31}
    assert on_devices(then, script, tmp_path, 1000) == {"devices": then, "step": SCHEDULE[0]}
    training, files = make_training(tmp_path, Start(make_growth(**SEVEN)).again(), SCHEDULE)
    with training:
        population = training.population
        assert population.diverged == DIVERGED
        states, metrics, evaluations = seven
        for leaf, expected in zip(snapshot(population.states), states, strict=True):
            np.testing.assert_array_equal(leaf, expected)  # powers of two and what is drawn: exact anywhere
        assert numbers(untimed(files.metrics)) == pytest.approx(numbers(metrics), rel=1e-5)
        assert untimed(files.evaluations) == evaluations


def numbers(lines):
    """Those of a CSV file's lines below the header, row after row."""
    return [float(cell) for line in lines[1:] for cell in line.split(",")]


@pytest.fixture(scope="module")
def seven(tmp_path_factory):
    """States, metrics and evaluations of the seven's unbroken run on one device."""
    training, files = make_training(tmp_path_factory.mktemp("seven"), make_growth(**SEVEN), SCHEDULE)
    with training:
        train(training, steps_per_call=1)
    assert training.population.diverged == DIVERGED
    return snapshot(training.population.states), untimed(files.metrics), untimed(files.evaluations)
