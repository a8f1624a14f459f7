"""What the tests of the loop share: its schedule, and what a run must come to whatever broke it."""

from training_runs import assert_same_bits, untimed

from xql_jax.training.members import stacked
from xql_jax.training.strategy import Divergence

# Updates, and those between logs, evaluations and checkpoints. Member 1 (growth 4) diverges at update 32.
SCHEDULE = 42, 4, 10, 6
SEEDED = {"seeds": [3], "grid": {"growth": [1.0, 4.0]}}


class Killed(BaseException):
    """Stands in for SIGKILL: nothing between here and the test catches it."""


def assert_as_unbroken(training, files, unbroken):
    states, metrics, evaluations = unbroken
    population = training.population
    assert training.progress.step == SCHEDULE[0]
    assert_same_bits(population.states, states)
    assert untimed(files.metrics) == metrics
    assert untimed(files.evaluations) == evaluations
    assert population.diverged == {1: Divergence(32, "walk/square")}
    like = population.saved_shapes()["states"]
    restored, progress = training._checkpoints.restore(like)
    assert_same_bits(stacked([restored[member.name] for member in population.members]), states)
    assert progress.step == 42
    held = progress.members
    assert held["seed3_growth=4"]["diverged"] == {"step": 32, "quantity": "walk/square"}
    assert held["seed3_growth=1"]["diverged"] is None
    sums = held["seed3_growth=1"]["sums"]  # over updates 41 and 42: row 42 is there only because the run ends
    assert (sums["updates"], sums["totals"]["walk/square"]) == (2, 2.0)
