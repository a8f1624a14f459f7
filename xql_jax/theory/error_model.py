"""The Gumbel error model: errors of Q that travel from step to step (Garg et al. 2023, App. A.2.1).

Dynamics are deterministic, and mu and beta of an MDP are ignored. docs/theory.md lists what the paper's
statements lack; the functions compute what holds.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from xql_jax.theory import arguments
from xql_jax.theory.log_partition import log_partition
from xql_jax.theory.soft_mdp import SoftMDP

OPTIMUM_TOLERANCE = 1e-12  # of the optimal Q, reward units


def evolve(mdp: SoftMDP, location: ArrayLike, scale: float) -> tuple[np.ndarray, float]:
    """Returns location and scale of the Gumbel process after one step, from independent variables.

    The variables are Z(s, a) ~ G(location(s, a), scale). One step turns them into r + discount * max_a' Z(s',
    a'), which is Gumbel with the location r + discount * scale * log sum exp(location(s', .) / scale) and the
    scale discount * scale; so the discount must be above 0. As the scale shrinks, the process ends at
    `optimal_q`, not at a soft optimum.

    Source: Garg et al. 2023, Eq. 26, with its bracket corrected. The sum over actions is not a mean.
    """
    locations = np.asarray(location, np.float64)
    # From the mean of L^beta to the sum.
    values = log_partition(locations, scale) + scale * math.log(locations.shape[1])
    return mdp.rewards + mdp.discount * values[sole_successors(mdp)], mdp.discount * float(scale)


def evolve_samples(mdp: SoftMDP, samples: np.ndarray) -> np.ndarray:
    """Returns r + discount * max_a' Z(s', a') of each draw of Z; draws are f64[N, S, A], reward units.

    Pairs with the same successor get the same Z, up to their rewards. If two such pairs meet in a maximum one
    step later, Eq. 26 fails. Shuffling the draws of each pair separately restores the independence that it
    assumes, as long as the draws descend from many of the first draws: each maximum drops the smaller.

    Source: Garg et al. 2023, Eq. 25.
    """
    return mdp.rewards + mdp.discount * samples.max(-1)[:, sole_successors(mdp)]


def optimal_q(mdp: SoftMDP) -> np.ndarray:
    """Returns Q of the optimum without regularisation, f64[S, A], within `OPTIMUM_TOLERANCE` and rounding."""
    q = np.zeros(mdp.rewards.shape)
    bound = float(np.abs(mdp.rewards).max()) / (1.0 - mdp.discount)
    while bound > OPTIMUM_TOLERANCE:
        q = mdp.backup(q.max(-1))
        bound *= mdp.discount
    return q


def sole_successors(mdp: SoftMDP) -> np.ndarray:
    """Returns the only successor of each pair, i32[S, A]; raises ValueError if there are several."""
    if mdp.next_states.shape[-1] > 1:
        raise ValueError("mdp must be deterministic, as Appendix A.2.1 assumes")
    return mdp.next_states[..., 0]


def error_wave(
    generator: np.random.Generator, mdp: SoftMDP, scale: float, *, state: int, steps: int, num_samples: int
) -> np.ndarray:
    """Starts at Q*, adds G(0, scale) to a state's actions, follows V = max_a Z for some steps of Eq. 25.

    Values flow backwards: after t steps the error is in the states from which t moves can lead to that state.
    In a corridor of one-way moves V is Gumbel there, as Eq. 26 says, with discount^t times the scale. Where
    other moves are possible, only errors pass that make the way to the state the best way.

    Returns the standard deviation of V in every state after each step, f64[T + 1, S].

    Source: Garg et al. 2023, App. A.2.1, Eq. 25 and 26. The paper calls the parents "child states".
    """
    optimum = optimal_q(mdp)
    samples = np.tile(optimum, (num_samples, 1, 1))
    noise = generator.gumbel(0.0, arguments.positive("scale", scale), (num_samples, optimum.shape[1]))
    samples[:, state] += noise
    deviations = []
    for _ in range(steps + 1):
        deviations.append(samples.max(-1).std(0))
        samples = evolve_samples(mdp, samples)
    return np.array(deviations)
