"""Members that stop being finite: when, what of, where they are frozen, and that nobody else notices."""

import numpy as np
import pytest
from training_runs import (
    Start,
    advance,
    assert_same_bits,
    make_data,
    make_growth,
    make_training,
    offline_population,
    snapshot,
    train,
    widths,
)

from xql_jax.learners.registry import make_learner
from xql_jax.training.members import make_members
from xql_jax.training.strategy import Divergence

# Steady; x^2 overflows at update 64 (2^128) or 32 (4^64); y overflows at update 128, in no metric.
CASES = {"growth": [1.0, 2.0, 4.0], "silent_growth": [1.0, 2.0]}
EXPECTED = {
    1: Divergence(128, "state"),
    2: Divergence(64, "walk/square"),
    3: Divergence(64, "walk/square"),
    4: Divergence(32, "walk/square"),
    5: Divergence(32, "walk/square"),
}


@pytest.fixture(scope="module")
def six():
    return Start(make_growth(seeds=[0], grid=CASES))


@pytest.mark.parametrize("call", [1, 7, 64, 1000])
def test_frozen_at_the_last_finite_state(six, call):
    population = six.again()
    advance(population, 150, call)
    assert population.diverged == EXPECTED
    # 2^(t - 1) and 4^(t - 1): exact in float32.
    np.testing.assert_array_equal(
        population.states["x"], np.float32([1, 1, 2.0**63, 2.0**63, 4.0**31, 4.0**31])
    )
    np.testing.assert_array_equal(population.states["y"], np.float32([1, 2.0**127, 1, 2.0**63, 1, 2.0**31]))


@pytest.mark.parametrize("call", [1, 7, 1000])
def test_frozen_bits_are_those_of_a_run_stopped_before(six, call):
    population = six.again()
    advance(population, 150, call)
    frozen = snapshot(population.states)
    for index, divergence in EXPECTED.items():
        stopped = six.again()
        stopped.advance(divergence.step - 1)
        assert index not in stopped.diverged
        assert_same_bits([leaf[index] for leaf in frozen], [leaf[index] for leaf in snapshot(stopped.states)])


def test_the_others_do_not_notice(six):
    population = six.again()
    advance(population, 150, 40)
    steady = make_growth(seeds=[0])
    advance(steady, 150, 40)
    assert_same_bits(
        [leaf[0] for leaf in snapshot(population.states)], [leaf[0] for leaf in snapshot(steady.states)]
    )


def test_frozen_for_good(six):
    population = six.again()
    population.advance(70)
    frozen = snapshot(population.states)
    for stop in (71, 72, 91):
        population.advance(stop)
    assert {index: EXPECTED[index] for index in (2, 3, 4, 5)} == population.diverged
    for before, after in zip(frozen, snapshot(population.states), strict=True):
        assert before[2:].tobytes() == after[2:].tobytes()
    assert (snapshot(population.states)[2][:2] != frozen[2][:2]).all()  # the others went on


@pytest.mark.slow
def test_xql_with_huge_rewards():
    """The plain loss without a clip, exp(Q / beta), where rewards of 1e3 teach Q what exp cannot take."""
    fields = {"loss": "plain", "clip": np.inf, "critic_lr": 3.0, "tau": 0.5, "num_critics": 1}
    learner = make_learner("xql", {**widths(8), **fields})
    members = make_members([0], {"beta": [0.5, 1e6]})
    start = Start(offline_population(learner, members, make_data(reward_scale=1e3), 8))
    population = start.again()
    advance(population, 60, 60)
    assert list(population.diverged) == [0]
    step, quantity = population.diverged[0].step, population.diverged[0].quantity
    assert 1 < step <= 60
    frozen = snapshot(population.states)
    assert all(np.isfinite(leaf).all() for leaf in frozen)
    stopped = start.again()
    advance(stopped, step - 1, 7)
    assert not stopped.diverged
    for leaf, expected in zip(snapshot(stopped.states), frozen, strict=True):
        assert leaf[0].tobytes() == expected[0].tobytes()
    metrics = stopped.advance(step)
    # A metric, or the state alone: processors differ in what overflows first.
    for name, metric in metrics.items():
        assert np.isfinite(metric).tolist() == [name not in quantity.split(", "), True]


def test_a_run_says_who_diverged_when_and_what_of(tmp_path, caplog):
    """Its rows say so; it survives a checkpoint and is not told again."""
    caplog.set_level("INFO")
    start = Start(make_growth(seeds=[7], grid={"growth": [1.0, 2.0]}))
    training, files = make_training(tmp_path, start.again(), (90, 20, 30, 30))
    with training:
        train(training, steps_per_call=50)
    told = [line for line in caplog.messages if "diverged" in line]
    assert told == ["seed 7, growth=2 diverged at update 64 (walk/square not finite)"]
    metrics = [line.split(",")[:3] for line in files.metrics.read_text().splitlines()[1:]]
    both = [[str(step), "7", growth] for step in (20, 40, 60) for growth in ("1", "2")]
    assert metrics == [*both, ["80", "7", "1"], ["90", "7", "1"]]
    header, *rows = [line.split(",") for line in files.evaluations.read_text().splitlines()]
    assert [row[header.index("diverged_at")] for row in rows] == ["", "", "", "", "", "64"]
    caplog.clear()
    resumed, _ = make_training(tmp_path, start.again(), (120, 20, 30, 30))
    assert resumed.population.diverged == {1: Divergence(64, "walk/square")}
    with resumed:
        train(resumed)
    assert "diverged" not in caplog.text


def test_finite_parameters_whose_actions_are_not(tmp_path, caplog):
    # The square of x = 2^t is finite until update 64; its cube, in the actions, overflows from update 43 on.
    population = make_growth(seeds=[0], grid={"growth": [1.0, 2.0]}, fragile=True)
    training, files = make_training(tmp_path, population, (100, 100, 25, 100))
    caplog.set_level("INFO")
    with training:
        train(training)
    assert population.diverged == {1: Divergence(50, "actions")}
    assert float(population.states["x"][1]) == 2.0**50
    assert "seed 0, growth=2 diverged at update 50 (actions not finite)" in caplog.messages
    header, *rows = [line.split(",") for line in files.evaluations.read_text().splitlines()]
    assert [row[header.index("diverged_at")] for row in rows] == ["", "", "", "50", "", "50", "", "50"]
    assert np.isfinite([float(row[header.index("return")]) for row in rows]).all()
