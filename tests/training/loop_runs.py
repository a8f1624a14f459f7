"""What the tests of the loop share: its schedule, and what a run must come to whatever broke it."""

from training_runs import assert_same_bits, untimed

from xql_jax.training.population import Divergence

# Updates, and those between logs, evaluations and checkpoints. Member 1 (growth 4) diverges at update 32.
SCHEDULE = 42, 4, 10, 6
SEEDED = {"seeds": [3], "grid": {"growth": [1.0, 4.0]}}


class Killed(BaseException):
    """Stands in for SIGKILL: nothing between here and the test catches it."""


def assert_as_unbroken(training, folder, unbroken):
    states, metrics, evaluations = unbroken
    assert training.progress.step == SCHEDULE[0]
    assert_same_bits(training.population.states, states)
    assert untimed(folder.metrics) == metrics
    assert untimed(folder.evaluations) == evaluations
    assert training.population.diverged == {1: Divergence(32, "walk/square")}
    restored, progress = training._checkpoints.restore(training.population.states)
    assert_same_bits(restored, states)
    assert (progress.step, progress.diverged) == (42, {"1": {"step": 32, "quantity": "walk/square"}})
