"""Other programs beside ours: what each gets, and the comparison, with a program of this file as the peer."""

import csv
import importlib
import os
import sys

import gymnasium
import numpy as np
import pytest
from driver import ROOT, run_main

from xql_jax.runs.config_files import config_of
from xql_jax.suites.tasks import get_task

# In the form of a file of JAX-CORL. V is 100 times the number of updates, less the share of rows that are
# terminal; the action is 0.
PEER = """
import os
from types import SimpleNamespace
from typing import Any, NamedTuple
import d4rl, gym, jax, jax.numpy as jnp, wandb
from flax.training.train_state import TrainState
from omegaconf import OmegaConf
import optax

os.environ["XLA_FLAGS"] = "--none"

class Config:
    def __init__(self, **settings):
        vars(self).update(settings)

config = Config(**OmegaConf.from_cli())
assert (config.beta, config.expectile, config.layer_norm) == (4.0, 0.7, False)

class Transition(NamedTuple):
    observations: Any
    dones: Any
    actions: Any

class State(NamedTuple):
    value: TrainState

def create_iql_train_state(key, observations, actions, config):
    assert observations.ndim == actions.ndim == 1
    value = lambda v, observations: jnp.full(len(observations), v)
    return State(TrainState.create(apply_fn=value, params=jnp.zeros(()), tx=optax.sgd(1.0)))

class IQL:
    @classmethod
    def update_n_times(self, state, data, key, config):
        v = (state.value.step + config.n_jitted_updates) * 100.0 - data.dones.mean()
        step = state.value.step + config.n_jitted_updates
        return State(state.value.replace(params=v, step=step)), {}

    @classmethod
    def get_action(self, state, observations, seed, temperature=1.0):
        return jnp.full(2, temperature)
"""


@pytest.fixture
def peers(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("peers")


def test_beta_of_jax_corl_is_our_temperature(peers):
    ours = {**config_of("xql", "adroit"), "beta": 8.0, "awr_temperature": 0.5, "max_steps": 1}
    theirs = peers.JaxCorl.methods["xql"].settings(ours)
    assert (theirs["loss_temp"], theirs["beta"]) == (8.0, 0.5)
    theirs = peers.Authors.methods["xql"].settings(ours)
    assert (theirs["loss_temp"], theirs["temperature"]) == (8.0, 0.5)


@pytest.mark.slow
class TestBesidePeers:
    @pytest.fixture
    def command(self, tmp_path):
        """A clone of the peer, data with 4 terminals and 4 time-outs in 80 rows, and the command's words."""
        algos = tmp_path / "clone" / "algos"
        algos.mkdir(parents=True)
        (algos / "iql.py").write_text(PEER)
        (algos / "xql.py").touch()
        random = np.random.default_rng(0)
        observations, actions = random.normal(size=(80, 4)), random.uniform(-1, 1, size=(80, 2))
        ends = np.arange(80) % 10 == 9
        np.savez(
            tmp_path / "data.npz",
            observations=observations,
            next_observations=np.where(ends[:, None], observations + 1, np.roll(observations, -1, axis=0)),
            actions=actions,
            rewards=random.normal(size=80),
            terminals=ends & (np.arange(80) % 20 == 9),
            timeouts=ends & (np.arange(80) % 20 == 19),
        )
        self.table = tmp_path / "table.csv"
        settings = ["awr_temperature=4", "hidden_dims=[4]", "expectile=0.7", "layer_norm=false"]
        return [
            f"--peer={tmp_path / 'clone'}",
            *("--method=iql", "--env_name=pointmaze-umaze-v0", f"--dataset={tmp_path / 'data.npz'}"),
            *("--max_steps=16", "--eval_interval=8", "--eval_episodes=1", "--num_seeds=2"),
            *(f"--set={setting}" for setting in settings),
            *(f"--save_dir={tmp_path / 'runs'}", f"--output={self.table}"),
        ]

    def run(self, *words):
        return run_main(words, main=ROOT / "benchmarks" / "beside_peers.py")

    def rows(self):
        with self.table.open(newline="") as lines:
            return [*csv.DictReader(lines)]

    def test_the_peer_learns_from_our_data_and_acts_in_our_episodes(self, command):
        outcome = self.run(*command)
        assert outcome.code == 0, outcome.err
        theirs = [row for row in self.rows() if row["program"] == "theirs"]
        assert [(row["seed"], row["step"], float(row["v"])) for row in theirs] == [
            (seed, step, pytest.approx(v)) for seed in "01" for step, v in (("8", 799.95), ("16", 1599.95))
        ]
        still = get_task("pointmaze-umaze-v0").normalized_score(np.zeros(1))[0]
        assert [float(row["score"]) for row in theirs] == pytest.approx(4 * [still], rel=1e-4)
        assert [(row["seed"], row["step"]) for row in self.rows() if row["program"] == "ours"] == [
            (seed, step) for seed in "01" for step in ("8", "16")
        ]
        assert sys.modules.get("gym") is not gymnasium
        assert os.environ.get("XLA_FLAGS") != "--none"

        assert self.run(*command, "--time_outs_end", f"--output={self.table.with_name('2.csv')}").code == 0
        self.table = self.table.with_name("2.csv")
        theirs = [row for row in self.rows() if row["program"] == "theirs"]
        assert [float(row["v"]) for row in theirs] == pytest.approx([799.9, 1599.9, 799.9, 1599.9])
