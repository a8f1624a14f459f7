"""What several tests of theory share: small MDPs, and what random instances are drawn from."""

import dataclasses

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from xql_jax.theory.soft_mdp import SoftMDP, value_iteration

EULER = float(np.euler_gamma)

instances = settings(max_examples=60)
several = settings(max_examples=100)
seeds = st.integers(0, 2**32 - 1)
distributions = st.lists(st.integers(1, 20), min_size=3, max_size=3).map(lambda n: np.array(n) / np.sum(n))
triples = st.lists(st.integers(-32, 32), min_size=3, max_size=3).map(lambda n: np.array(n) / 16)
scales = st.sampled_from([0.3, 0.7, 1.0, 2.5])
discounts = st.sampled_from([0.3, 0.6, 0.8])


def random_mdp(seed, num_states=4, num_actions=3, num_successors=2, discount=0.8):
    """Its mu and beta play no part here: unlike any others, so that a use would show."""
    generator = np.random.default_rng(seed)
    sizes = {"num_states": num_states, "num_actions": num_actions, "num_successors": num_successors}
    mdp = SoftMDP.random(generator, **sizes, discount=discount, beta=17.0)
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


def dense_transitions(mdp):
    """P(s'|s, a), f64[S, A, S]."""
    matrix = np.zeros((*mdp.rewards.shape, len(mdp.rewards)))
    pairs = np.indices(mdp.next_states.shape)[:2]
    np.add.at(matrix, (*pairs, mdp.next_states), mdp.probabilities)  # a successor may stand there twice
    return matrix


def evaluated(mdp, policy, rewards):
    """The discounted sum of the rewards f64[S, A] under the policy, by dense algebra, f64[S]."""
    dynamics = np.einsum("sa,san->sn", policy, dense_transitions(mdp))
    return np.linalg.solve(np.eye(len(policy)) - mdp.discount * dynamics, (policy * rewards).sum(-1))


def observed_solution(mdp, location, scale, tolerance):
    """Lemma A.1, an MDP with hidden Gumbel noise: q, v(s) = E max(q + noise) and pi = softmax(q / beta).

    In every state the agent sees new noise for each action and takes the largest q + noise; that action's
    noise is added to its reward. E max(q + noise) is L^beta[q] + beta log A + E[noise] under a uniform mu, so
    q solves the soft-Bellman equation with that constant, discounted, in the rewards.
    """
    constant = scale * np.log(mdp.rewards.shape[1]) + location + scale * EULER
    uniform = np.full(mdp.rewards.shape, 1.0 / mdp.rewards.shape[1])
    rewards = mdp.rewards + mdp.discount * constant
    solution = value_iteration(
        dataclasses.replace(mdp, rewards=rewards, behavior=uniform, beta=scale), tolerance
    )
    return solution._replace(v=solution.v + constant)
