"""Settings of small runs for the tests of the Python interface, and a problem that is solved at once."""

import numpy as np

SMALL = {"hidden_dims": (16,), "batch_size": 32, "log_interval": 50, "progress": False}


def bandit(size=400):
    """Whatever is done ends the episode, and pays -(a - s)^2: the best action is the state."""
    generator = np.random.default_rng(0)
    states = generator.uniform(-0.9, 0.9, (size, 1))
    actions = generator.uniform(-1, 1, (size, 1))
    return {
        "observations": states,
        "actions": actions,
        "next_observations": states,
        "rewards": -((actions - states)[:, 0] ** 2),
        "terminals": np.ones(size, bool),
    }
