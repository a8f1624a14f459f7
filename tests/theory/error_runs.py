"""What several tests of the error model share: small MDPs, and what random instances are drawn from."""

import dataclasses

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from xql_jax.theory.soft_mdp import SoftMDP

EULER = float(np.euler_gamma)
DEVIATION = np.pi / np.sqrt(6.0)  # of G(0, 1)

instances = settings(max_examples=200, deadline=None, derandomize=True)
seeds = st.integers(0, 2**32 - 1)
scales = st.sampled_from([0.3, 0.7, 1.0, 2.5])
discounts = st.sampled_from([0.3, 0.6, 0.8])


def random_mdp(seed, num_states=4, num_actions=3, num_successors=2, discount=0.8):
    """Its mu and beta play no part here: unlike any others, so that a use would show."""
    generator = np.random.default_rng(seed)
    mdp = SoftMDP.random(
        generator,
        num_states=num_states,
        num_actions=num_actions,
        num_successors=num_successors,
        discount=discount,
        beta=17.0,
    )
    return dataclasses.replace(mdp, rewards=generator.uniform(-1.0, 1.0, mdp.rewards.shape))


def deterministic_mdp(next_states, rewards, discount):
    """Builds an MDP from successors and rewards of shape [S, A]."""
    next_states = np.asarray(next_states)
    return SoftMDP(
        next_states=next_states[..., None],
        probabilities=np.ones((*next_states.shape, 1)),
        rewards=np.broadcast_to(np.asarray(rewards, float), next_states.shape),
        behavior=np.full(next_states.shape, 1.0 / next_states.shape[1]),
        discount=discount,
        beta=17.0,
    )
