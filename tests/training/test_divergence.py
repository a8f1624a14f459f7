"""Members that stop being finite: when, what of, where they are frozen, and that nobody else notices."""

import numpy as np
import pytest
from training_runs import Start, advance, make_growth, make_training, train

from xql_jax.training.population import Divergence

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


@pytest.mark.parametrize("call", [1, 7, 1000])
def test_frozen_at_the_last_finite_state(six, call):
    population = six.again()
    advance(population, 150, call)
    assert population.diverged == EXPECTED
    # 2^(t - 1) and 4^(t - 1): exact in float32.
    np.testing.assert_array_equal(
        population.states["x"], np.float32([1, 1, 2.0**63, 2.0**63, 4.0**31, 4.0**31])
    )
    np.testing.assert_array_equal(population.states["y"], np.float32([1, 2.0**127, 1, 2.0**63, 1, 2.0**31]))


def test_finite_parameters_whose_actions_are_not(tmp_path):
    """The square of x = 2^t is finite until update 64; its cube, in the actions, overflows from 43 on."""
    population = make_growth(seeds=[0], grid={"growth": [1.0, 2.0]}, fragile=True)
    training, files = make_training(tmp_path, population, (100, 100, 25, 100))
    with training:
        train(training)
    assert population.diverged == {1: Divergence(64, "walk/square")}  # an evaluation changes no member
    assert float(population.states["x"][1]) == 2.0**63
    header, *rows = [line.split(",") for line in files.evaluations.read_text().splitlines()]
    assert [row[header.index("diverged_at")] for row in rows] == ["", "", "", "50", "", "64", "", "64"]
    assert np.isfinite([float(row[header.index("return")]) for row in rows]).all()


def test_a_run_says_who_diverged_when_and_what_of(tmp_path, caplog):
    """Its rows say so; it survives a checkpoint and is not told again."""
    caplog.set_level("INFO")
    start = Start(make_growth(seeds=[7], grid={"growth": [1.0, 2.0]}))
    training, files = make_training(tmp_path, start.again(), (90, 20, 30, 30))
    with training:
        train(training, steps_per_call=50)
    assert len([line for line in caplog.messages if "diverged at update 64" in line]) == 1
    header, *rows = [line.split(",") for line in files.evaluations.read_text().splitlines()]
    assert [row[header.index("diverged_at")] for row in rows] == ["", "", "", "", "", "64"]
    caplog.clear()
    resumed, _ = make_training(tmp_path, start.again(), (120, 20, 30, 30))
    assert resumed.population.diverged == {1: Divergence(64, "walk/square")}
    with resumed:
        train(resumed)
    assert "diverged" not in caplog.text
