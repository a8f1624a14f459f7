"""Other programs beside ours: what each gets, and the comparison, with a program of this file as the peer."""

import importlib

import pytest
from driver import ROOT

from xql_jax.runs.config_files import config_of


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
