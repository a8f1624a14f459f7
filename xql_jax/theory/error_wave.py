"""The wave of errors: how an error of Q in one state passes through an MDP (Garg et al. 2023, App. A.2.1).

`error_model` follows errors that start in all states; here they start in one state. One correction to the
paper: the wave runs into the states that lead to the erroneous one, its parents, not "into its child states".
"""

import dataclasses

import numpy as np
from scipy import stats

from xql_jax.theory import arguments
from xql_jax.theory.error_model import (
    TAIL,
    check_maximum_is_gumbel,
    checked_state,
    evolve_samples,
    optimal_q,
    sole_successors,
)
from xql_jax.theory.gumbel import Gumbel, gumbel_max_law
from xql_jax.theory.soft_mdp import SoftMDP

# Quadrature from the kink of an integrand upwards. Across the kink the rule of `error_model` would be slow.
LEGENDRE_NODES, LEGENDRE_WEIGHTS = np.polynomial.legendre.leggauss(100)


@dataclasses.dataclass(frozen=True, eq=False)
class ErrorWave:
    """How an error in one state spreads: moments of V_t - V* in every state, row t after t steps of Eq. 25.

    All are in reward units. The exact fields are computed without simulation.
    """

    distances: np.ndarray  # f64[S], fewest moves from a state to the erroneous one; inf: none lead there
    simulated_bias: np.ndarray  # f64[T + 1, S], means
    simulated_deviation: np.ndarray  # f64[T + 1, S], standard deviations
    exact_bias: np.ndarray  # f64[T + 1, S]
    exact_deviation: np.ndarray  # f64[T + 1, S]
    gumbel: np.ndarray  # bool[T + 1, S], where the law is Gumbel, with discount^t times the first scale


def error_wave(
    generator: np.random.Generator, mdp: SoftMDP, noise: Gumbel, *, state: int, steps: int, num_samples: int
) -> ErrorWave:
    """Starts at Q*, adds noise to the actions of one state, and follows V = max_a Z for some steps of Eq. 25.

    Values flow backwards: after t steps the error is in the states from which t moves can lead to that state.
    There V_t = max(floor, Y). Y is the value of the best such path, Gumbel with discount^t times the scale.
    floor is the value of the best path of t moves that ends elsewhere. If there is no path that ends
    elsewhere, as in a corridor of one-way moves, V_t is Gumbel, as Eq. 26 says. Otherwise only errors above
    the floor pass. Eq. 26 does not cover this case, because it assumes noise of one scale for all actions.

    Source: Garg et al. 2023, App. A.2.1, Eq. 25 and 26. The paper calls the parents "child states".
    Args:
        mdp: with deterministic dynamics and a positive discount; its mu and beta are ignored.
        noise: the law of the noise of each action in that state, independent, with sign 1.
        state: the index of the erroneous state.
        steps: T.
        num_samples: how many draws, N; the simulation takes N * S * A numbers.
    """
    check_maximum_is_gumbel(noise)
    arguments.within_open_unit("discount", mdp.discount)
    state = checked_state("state", state, mdp)
    steps = arguments.positive_count("steps", steps)
    num_samples = arguments.positive_count("num_samples", num_samples)
    optimum = optimal_q(mdp)
    best = optimum.max(-1)

    samples = np.tile(optimum, (num_samples, 1, 1))
    samples[:, state] += noise.sample(generator, (num_samples, optimum.shape[1]))
    first, _ = gumbel_max_law(optimum[state] + noise.location, noise.scale)
    elsewhere, through = best.copy(), np.full(len(best), -np.inf)
    elsewhere[state], through[state] = -np.inf, first.location
    rows = []
    for step in range(steps + 1):
        values = samples.max(-1)
        mean, deviation = _maximum_moments(elsewhere, through, noise.scale * mdp.discount**step)
        rows.append((values.mean(0) - best, values.std(0), mean - best, deviation, np.isneginf(elsewhere)))
        samples = evolve_samples(mdp, samples)
        elsewhere, through = _path_backup(mdp, elsewhere), _path_backup(mdp, through)
    return ErrorWave(_distances(mdp, state), *(np.array(column) for column in zip(*rows, strict=True)))


def _maximum_moments(floor: np.ndarray, location: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and standard deviation of max(floor, G(location, scale)); one of the two may be -inf."""
    lowest, highest = stats.gumbel_r.ppf(TAIL), stats.gumbel_r.isf(TAIL)
    z_floor = (floor - location) / scale
    lower = np.clip(z_floor, lowest, highest)
    # From the kink at the floor upwards the integrand is smooth; below it the excess is 0.
    half = 0.5 * (highest - lower)[:, None]
    excess = half * (LEGENDRE_NODES + 1.0)
    z = lower[:, None] + excess
    masses = half * LEGENDRE_WEIGHTS * np.exp(-z - np.exp(-z))
    first, second = (masses * excess).sum(-1), (masses * excess**2).sum(-1)
    deviation = scale * np.sqrt(np.maximum(second - first**2, 0.0))
    return np.where(z_floor < highest, location + scale * (lower + first), floor), deviation


def _path_backup(mdp: SoftMDP, v: np.ndarray) -> np.ndarray:
    """One step of the hard Bellman equation; -inf marks states without a path."""
    return (mdp.rewards + mdp.discount * v[sole_successors(mdp)]).max(-1)


def _distances(mdp: SoftMDP, target: int) -> np.ndarray:
    successors = sole_successors(mdp)
    distances = np.full(len(successors), np.inf)
    distances[target] = 0.0
    for moves in range(1, len(successors)):
        leads_there = (distances[successors] == moves - 1).any(-1)
        distances[leads_there & np.isinf(distances)] = moves
    return distances
