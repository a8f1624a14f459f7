"""Members that stop being finite: when, what of, where they stay, and that nobody else notices."""

import numpy as np
import pytest
from training_runs import Start, advance, make_growth

from xql_jax.training.members import Divergence

# Steady; x^2 overflows at update 64 (2^128) or 32 (4^64); y overflows at update 128, in no metric.
CASES = {"growth": [1.0, 2.0, 4.0], "silent_growth": [1.0, 2.0]}
EXPECTED = {
    1: Divergence(130, "state", after=120),
    2: Divergence(70, "walk/square", after=60),
    3: Divergence(70, "walk/square", after=60),
    4: Divergence(40, "walk/square", after=30),
    5: Divergence(40, "walk/square", after=30),
}


@pytest.fixture(scope="module")
def six():
    return Start(make_growth(seeds=[0], grid=CASES))


@pytest.mark.parametrize("call", [10, 70, 1000])
def test_they_stay_at_the_start_of_the_ten_updates_whatever_the_calls(six, call):
    trainer = six.again()
    advance(trainer, 150, call)
    assert trainer.population.diverged == EXPECTED
    # 2^t and 4^t: exact in float32.
    np.testing.assert_array_equal(
        trainer.population.states["x"], np.float32([1, 1, 2.0**60, 2.0**60, 4.0**30, 4.0**30])
    )
    np.testing.assert_array_equal(
        trainer.population.states["y"], np.float32([1, 2.0**120, 1, 2.0**60, 1, 2.0**30])
    )
