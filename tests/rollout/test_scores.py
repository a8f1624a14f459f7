"""Entries of a report by hand, and scores and steps in words."""

import math

import numpy as np

from xql_jax.rollout.evaluation import EpisodeResults
from xql_jax.rollout.scores import describe_episodes
from xql_jax.suites.tasks import get_task


def test_wilsons_interval_of_a_success_rate():
    """8 of 10 by hand; of none in N the upper end is z^2 / (N + z^2), where Student's interval is empty."""
    z, p, n = 1.959963985, 0.8, 10
    center, half_width = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    ends = np.array([center - half_width, center + half_width]) / (1 + z**2 / n)
    successes = np.zeros((2, n), bool)
    successes[0, :8] = True
    results = EpisodeResults(np.zeros((2, n)), np.ones((2, n), np.int64), successes)
    most, none = describe_episodes(results, get_task("antmaze-umaze-v0"))
    np.testing.assert_allclose(most["success_interval_95"], ends, rtol=1e-8)
    np.testing.assert_allclose(none["success_interval_95"], [0.0, z**2 / (n + z**2)], rtol=1e-8, atol=1e-12)
    assert (most["success_rate"], none["success_rate"]) == (0.8, 0.0)
    assert most["successes"] == [True] * 8 + [False] * 2
