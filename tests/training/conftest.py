"""A population of two members, and what a run of it leaves that nobody disturbed."""

import os
import sys
from pathlib import Path

import pytest
from loop_runs import SCHEDULE, SEEDED
from training_runs import Start, make_growth, make_training, snapshot, train, untimed

sys.path.append(str(Path(__file__).parents[1] / "envs"))  # an environment in JAX


@pytest.fixture(scope="module", autouse=True)
def _no_loss_of_power():
    """Kills are tried here, which leave what was written; waiting for the disk was most of these tests' time.

    What is synced before what is for the tests that look at `os.fsync` themselves.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session")
def start():
    return Start(make_growth(**SEEDED))


@pytest.fixture(scope="session")
def unbroken(start, tmp_path_factory):
    """States, metrics.csv and evaluations.csv of a run that nobody disturbed, made in calls of one update."""
    training, files = make_training(tmp_path_factory.mktemp("unbroken"), start.again(), SCHEDULE)
    with training:
        train(training, steps_per_call=1)
    return snapshot(training.population.states), untimed(files.metrics), untimed(files.evaluations)
