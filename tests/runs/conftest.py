"""Runs of a few updates, each made once."""

import pytest
from blank_pictures import blank_pictures  # noqa: F401
from tiny_runs import SIX, offline_settings, stopped_at, write_dataset

from xql_jax.runs.offline import OfflineRun


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A folder with the data."""
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder / "data.npz")
    return folder


@pytest.fixture(scope="session")
def unbroken(data, tmp_path_factory):
    """A run of six seeds, and its summary."""
    folder = tmp_path_factory.mktemp("unbroken")
    with OfflineRun(offline_settings(data, save_dir=str(folder), **SIX)) as run:
        summary = run.run()
    return run, summary


@pytest.fixture(scope="session")
def stopped(data, tmp_path_factory):
    """The same run, stopped after update 6, and its summary."""
    folder = tmp_path_factory.mktemp("stopped")
    settings = offline_settings(data, save_dir=str(folder), **SIX)
    with OfflineRun(settings) as run, stopped_at(run, "update 6: score"):
        summary = run.run()
    return run, summary
