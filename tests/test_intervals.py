"""Intervals of a few numbers by hand, and the steps at which seeds can be averaged."""

import math

import numpy as np

from xql_jax.numerics.statistics import by_seed_and_step, has_all_seeds, mean_and_interval


def test_means_by_hand():
    # Mean 2, standard deviation 1, and t is 4.302653 for 97.5% and two degrees of freedom.
    mean, half_width = mean_and_interval(np.array([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]]))
    np.testing.assert_allclose(mean, [2.0, 20.0])
    np.testing.assert_allclose(half_width, np.array([1.0, 10.0]) * 4.302653 / np.sqrt(3), rtol=1e-6)
    mean, half_width = mean_and_interval(np.array([7.0]))  # one score says nothing of the spread
    assert (mean, math.isnan(half_width)) == (7.0, True)


def test_the_steps_at_which_all_seeds_that_go_on_have_a_value():
    """Seed 2 has another interval, seed 1 ends after step 20, and seed 0 has no finite value at step 50."""
    of_seed = {0: (10, 20, 30, 40, 50, 60), 1: (0, 10, 20), 2: (20, 40, 50, 60)}
    points = [(seed, step, float(seed)) for seed, steps in of_seed.items() for step in steps]
    steps, _, values = by_seed_and_step([*points, (0, 50, math.nan)])
    assert [step for step, whole in zip(steps, has_all_seeds(values), strict=True) if whole] == [20, 40, 60]
