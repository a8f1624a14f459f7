import numpy as np

from xql_jax.rollout.scores import mean_and_interval


def test_by_hand():
    # Mean 2, standard deviation 1, and t is 4.302653 for 97.5% and two degrees of freedom.
    scores = np.array([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]])
    mean, half_width = mean_and_interval(scores)
    np.testing.assert_allclose(mean, [2.0, 20.0])
    np.testing.assert_allclose(half_width, np.array([1.0, 10.0]) * 4.302653 / np.sqrt(3), rtol=1e-6)


def test_one_score_says_nothing_of_the_spread():
    mean, half_width = mean_and_interval(np.array([7.0]))
    assert mean == 7.0
    assert np.isnan(half_width)
