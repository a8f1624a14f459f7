"""Members that stop being finite: when, what of, where they are frozen, and that nobody else notices."""

import numpy as np
import pytest
from training_runs import Start, advance, make_growth

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
    trainer = six.again()
    advance(trainer, 150, call)
    assert trainer.population.diverged == EXPECTED
    # 2^(t - 1) and 4^(t - 1): exact in float32.
    np.testing.assert_array_equal(
        trainer.population.states["x"], np.float32([1, 1, 2.0**63, 2.0**63, 4.0**31, 4.0**31])
    )
    np.testing.assert_array_equal(
        trainer.population.states["y"], np.float32([1, 2.0**127, 1, 2.0**63, 1, 2.0**31])
    )
