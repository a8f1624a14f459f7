"""Runs of a few updates, each made once."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "training"))  # a learner of exact arithmetic

from blank_pictures import blank_pictures  # noqa: F401
from tiny_runs import SIX, offline_settings, write_dataset

from xql_jax.runs.train import train_run as run_offline


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A folder with the data."""
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder / "data.npz")
    return folder


@pytest.fixture(scope="session")
def unbroken(data, tmp_path_factory):
    """The summary of a run of six seeds."""
    return run_offline(offline_settings(data, save_dir=str(tmp_path_factory.mktemp("unbroken")), **SIX))
