"""What is due when, hyperparameters that change with the steps, and what a log says of the time left."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from xql_jax.errors import UserError
from xql_jax.learners.registry import make_learner
from xql_jax.runs.varied import parse_ramps
from xql_jax.settings import settings_of, values_of
from xql_jax.training.members import Ramp, ramped
from xql_jax.training.schedule import Schedule

KNOWN = settings_of(make_learner("xql"))


def test_stops_and_what_is_due():
    schedule = Schedule(max_steps=23, log_interval=4, eval_interval=10, checkpoint_interval=100)
    stops = [0]
    while stops[-1] < 23:
        stops.append(schedule.next_stop(stops[-1]))
    assert stops == [0, 4, 8, 10, 12, 16, 20, 23]
    assert schedule.next_stop(9) == 10
    assert [step for step in range(1, 24) if schedule.is_due(step, 4)] == [4, 8, 12, 16, 20, 23]
    assert [step for step in range(1, 24) if schedule.is_due(step, 100)] == [23]
    handed_over = dataclasses.replace(schedule, handover=3)  # from which intervals are counted
    assert (handed_over.next_stop(3), handed_over.next_stop(11)) == (7, 13)
    assert [step for step in range(1, 24) if handed_over.is_due(step, 4)] == [3, 7, 11, 15, 19, 23]


def test_ramps_go_evenly_and_stay():
    learner = make_learner("xql")
    ramps = parse_ramps("beta=1:0.2 awr_temperature=3", settings_of(learner), 100, "--ramp")
    assert ramps == (Ramp("beta", (1.0, 0.2), (0.0, 100.0)), Ramp("awr_temperature", (3.0,), (0.0,)))
    assert parse_ramps("", settings_of(learner), 100, "--ramp") == ()
    for step, beta in {0: 1.0, 25: 0.8, 100: 0.2, 500: 0.2}.items():
        values = values_of(ramped(learner, ramps, step))
        assert (values["beta"], values["awr_temperature"]) == (pytest.approx(beta), 3.0)


def test_a_ramp_there_and_back():
    (ramp,) = parse_ramps("beta=2:0.5@0.3:2", KNOWN, 1_000, "--ramp")
    expected = {0: 2.0, 150: 1.25, 300: 0.5, 650: 1.25, 1_000: 2.0, 2_000: 2.0}
    for step, beta in expected.items():
        assert ramp.at(step) == pytest.approx(beta)
        np.testing.assert_allclose(ramp.at(jnp.int32(step)), beta, rtol=1e-6)  # in a program
    two = parse_ramps("beta=2:0.5@0.3\ttau=0.01", KNOWN, 1_000, "--ramp")
    assert [ramp.name for ramp in two] == ["beta", "tau"]
    (ramp,) = parse_ramps("beta=2:0.5@0.3", KNOWN, 1_000, "--ramp")
    assert [ramp.at(step) for step in (300, 1_000)] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("betta=1", "cannot change 'betta'"),
        ("beta=1:2:3", "not 'beta=1:2:3'"),
        ("beta=1@0.5:2", "not 'beta=1@0.5:2'"),
        ("beta=1:2@0.5:3@0.2", "ascending shares"),
        ("beta=1:2@x", "not 'beta=1:2@x'"),
        ("clip=inf:7", "to or from inf"),
        ("tau=0.1", "gives members their tau"),
    ],
)
def test_mistakes_in_ramps(text, told):
    with pytest.raises(UserError, match=told):
        parse_ramps(text, KNOWN, 100, "--ramp", taken=("tau",))


@pytest.mark.parametrize(
    ("method", "name"), [("xql_bellman", "initial_beta"), ("xsac", "initial_entropy_coef")]
)
def test_what_a_state_begins_with_cannot_change(method, name):
    with pytest.raises(UserError, match=f"^--online={name}=0.5: {name} is of the first state alone"):
        parse_ramps(f"{name}=0.5", settings_of(make_learner(method)), 100, "--online")
