"""A warning where V follows single rows of the data."""

import logging

import numpy as np
import pytest
from tiny_runs import offline_settings, small, write_dataset

from xql_jax.runs.train import train_run
from xql_jax.training.members import make_members
from xql_jax.training.values import watch_divergence


def warnings_of(caplog):
    warned = (record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)
    return [line for line in warned if "V follows" in line]


def test_weights_of_few_rows_are_told_without_knowing_rewards(caplog):
    """With 256 rows log(256) = 5.55 nats are the most, where one row has all of the weight."""
    watch = watch_divergence(make_members([0, 1], {}), 256)
    for step, row in enumerate([[0.2, 4.9], [0.3, 5.2], [np.nan, 5.5]]):
        watch(step, {"value/divergence_mean": row})
    (warning,) = warnings_of(caplog)
    assert warning.startswith("seed 1: V follows single rows: their weights are 5.2 nats from the data")
    watch(3, {"value/v_mean": [1.0, 1.0]})  # a method without a soft maximum
    assert len(warnings_of(caplog)) == 1


@pytest.mark.parametrize(("beta", "is_warned_of"), [(1e-3, True), (1.0, False)])
def test_a_run_whose_v_runs_away_says_so(tmp_path, caplog, beta, is_warned_of):
    """With steps of V that are large enough for sixty updates, and rewards of -1."""
    write_dataset(tmp_path / "data.npz", rewards=-np.ones(120, np.float32))
    config = small("xql", beta=beta, value_lr=0.3, critic_lr=0.3, tau=0.5, layer_norm=False)
    train_run(offline_settings(tmp_path, config=config, max_steps=60, top_returns=1.0, eval_episodes=0))
    assert bool(warnings_of(caplog)) == is_warned_of
