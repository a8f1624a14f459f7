"""Hyperparameters that change: how they are asked for, and what they are at a step."""

import pytest

from xql_jax.errors import UserError
from xql_jax.learners.fields import hyperparameters
from xql_jax.learners.registry import make_learner
from xql_jax.training.ramps import Ramp, parse_ramps, ramped


def test_parsing():
    ramps = parse_ramps("beta=1:0.2 awr_temperature=3", make_learner("xql"), 100)
    assert ramps == [Ramp("beta", 1.0, 0.2, 100), Ramp("awr_temperature", 3.0, 3.0, 100)]
    assert parse_ramps("", make_learner("xql"), 100) == []


@pytest.mark.parametrize(("step", "value"), [(0, 1.0), (25, 0.8), (100, 0.2), (500, 0.2)])
def test_values_go_evenly_and_stay(step, value):
    learner = ramped(make_learner("xql"), [Ramp("beta", 1.0, 0.2, 100)], step)
    assert hyperparameters(learner)["beta"] == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("betta=1", "cannot change 'betta'; nearest of what it can: beta"),
        ("num_critics=3", "cannot change 'num_critics'"),
        ("beta=1 beta=2", "gives beta twice"),
        ("beta=1:2:3", "wants FIELD=NUMBER or FIELD=NUMBER:NUMBER, not 'beta=1:2:3'"),
        ("beta=high", "not 'beta=high'"),
        ("beta=1:-1", "--online: beta must be positive"),
        ("tau=0.1", "--sweep varies tau"),
    ],
)
def test_mistakes(text, told):
    with pytest.raises(UserError) as raised:
        parse_ramps(text, make_learner("xql"), 100, taken=("tau",))
    assert told in str(raised.value)
