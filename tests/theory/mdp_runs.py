"""What the tests of soft MDPs share: instances, and a dense matrix of what the lists of successors say."""

import dataclasses

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from xql_jax.theory.soft_mdp import SoftMDP

seeds = st.integers(0, 2**32 - 1)
betas = st.integers(-30, 30).map(lambda exponent: 10.0 ** (exponent / 10))  # 0.001 to 1,000
discounts = st.integers(0, 98).map(lambda percent: percent / 100)
instances = settings(max_examples=200, deadline=None, derandomize=True)


def random_mdp(seed=0, num_states=5, num_actions=3, **changes):
    """Stochastic transitions; mu leaves out the best-paid action of state 0."""
    mdp = SoftMDP.random(
        np.random.default_rng(seed),
        num_states=num_states,
        num_actions=num_actions,
        **({"num_successors": 3, "discount": 0.9, "beta": 0.7} | changes),
    )
    rewards, behavior = mdp.rewards.copy(), mdp.behavior.copy()
    rewards[0, 0], behavior[0] = 50.0, [0.0, *np.full(num_actions - 1, 1 / (num_actions - 1))]
    return dataclasses.replace(mdp, rewards=rewards, behavior=behavior)


def dense_transitions(mdp):
    """P(s'|s, a), f64[S, A, S]."""
    num_states, num_actions, _ = mdp.next_states.shape
    matrix = np.zeros((num_states, num_actions, num_states))
    pairs = np.indices(mdp.next_states.shape)[:2]
    np.add.at(matrix, (*pairs, mdp.next_states), mdp.probabilities)  # a successor may stand there twice
    return matrix
