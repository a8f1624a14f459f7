"""A population of two members, and what a run of it leaves that nobody disturbed."""

import pytest
from loop_runs import SCHEDULE, SEEDED
from training_runs import Start, make_growth, make_training, snapshot, untimed


@pytest.fixture(scope="module")
def start():
    return Start(make_growth(**SEEDED))


@pytest.fixture(scope="module")
def unbroken(start, tmp_path_factory):
    """States, metrics.csv and evaluations.csv of a run that nobody disturbed, made in calls of one update."""
    training, folder = make_training(tmp_path_factory.mktemp("unbroken"), start.again(), SCHEDULE)
    training.run(show_progress=False, steps_per_call=1)
    training.close()
    return snapshot(training.population.states), untimed(folder.metrics), untimed(folder.evaluations)
