"""The Gumbel error model: hidden noise in rewards, and errors that travel (Garg et al. 2023, App. A).

Section A.1 (McFadden-Rust model) assumes noise that the agent sees and we do not. Section A.2.1 follows
errors of Q from step to step. Here the errors start in all state-action pairs; in `error_wave` they start in
one state. The paper needs these corrections:

- Section 3.1 prints the Bellman error as r - gamma Q(s', pi(s')) - Q(s, a); Appendix D.2 has it right.
- Lemma A.1 and Eq. 21: noise G(0, beta) has the mean 0.577... beta, which is also in E max(q + noise). The
  paper drops it, so Eq. 21 holds only for centred noise, G(-0.577... beta, beta). Its L^beta, without a
  reference policy, is beta log sum exp(q / beta), while that of Eq. 1 is a mean under mu.
- Eq. 22 (and the last lines of A.2) print softmax(q) for softmax(q / beta); Section 2.2 has it right.
- Corollary A.1.1 needs at least three actions, as its proof says; its statement and Section 2.2 leave that
  out. With two actions, mirrored Gumbel noise gives a softmax as well.
- Eq. 26 has a bracket in the wrong place: the location is r + gamma beta log sum exp(Q(s', .) / beta), the
  scale gamma beta.
- Eq. 26 needs errors that are independent between pairs. Eq. 25 does not keep them independent: pairs with
  the same successor have the same error from then on. From the second step on Eq. 26 is exact only for pairs
  with paths that do not meet, as in a tree.
- The bias does not decay "as gamma-contraction": errors of mean zero become biased (Eq. 24). By Eq. 26 the
  location is within gamma^t (|first error| + t beta log A) of Q*, and it reaches that distance if all actions
  are equally good. By Eq. 25 what contracts is each draw's largest error over the pairs, and so the mean of
  that.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from xql_jax.theory import arguments
from xql_jax.theory.gumbel import Gumbel
from xql_jax.theory.log_partition import log_partition
from xql_jax.theory.soft_mdp import SoftMDP, Solution, value_iteration

Sampler = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]  # such as `Gumbel.sample`

# The quadrature omits this much probability at either end. The trapezoidal rule converges geometrically on a
# smooth density that vanishes there: for the Gumbel and normal laws these nodes leave only rounding.
TAIL = 1e-17
NODES = 1024


def bellman_error(rewards: ArrayLike, next_q: ArrayLike, q: ArrayLike, *, discount: float) -> np.ndarray:
    """Returns r + discount * Q(s', pi(s')) - Q(s, a), f64[...], reward units: 0 if Q is that of pi.

    Source: Garg et al. 2023, Appendix D.2. Section 3.1 prints the second sign the other way, see
    `printed_bellman_error`.
    Args:
        rewards, next_q, q: f64[...], of one shape; next_q is 0 after a terminal transition.
        discount: within [0, 1).
    """
    target = arguments.samples("rewards", rewards) + arguments.discount("discount", discount) * (
        arguments.samples("next_q", next_q)
    )
    return target - arguments.samples("q", q)


def printed_bellman_error(
    rewards: ArrayLike, next_q: ArrayLike, q: ArrayLike, *, discount: float
) -> np.ndarray:
    """Returns r - discount * Q(s', pi(s')) - Q(s, a), as Section 3.1 has it: no policy's Q makes it 0."""
    return bellman_error(rewards, -arguments.samples("next_q", next_q), q, discount=discount)


def centred_gumbel(beta: float) -> Gumbel:
    """Returns G(-0.577... * beta, beta), the noise of mean zero for which Eq. 21 holds as printed."""
    return Gumbel(-arguments.positive("beta", beta) * float(np.euler_gamma), beta)


def soft_equivalent(mdp: SoftMDP, noise: Gumbel) -> SoftMDP:
    """Returns a soft MDP with the same Q and optimal policy as an MDP with hidden Gumbel noise.

    In every state the agent sees new noise for each action and takes the action with the largest q + noise.
    That action's noise is added to its reward. The mean E max(q + noise) is L^beta[q] + constant, where
    L^beta is the mean under a uniform mu and constant = beta log A + E[noise]. Therefore q solves the
    soft-Bellman equation with the rewards r + discount * constant. The V of the soft MDP is v minus the
    constant; `observed_solution` returns v.

    Source: Garg et al. 2023, Lemma A.1, Eq. 19-22, with E[noise] and 1 / beta restored.
    Args:
        mdp: dynamics, rewards and discount; its own mu and beta are ignored.
        noise: the law of the noise, independent for each visit and action, with sign 1.
    """
    rewards = mdp.rewards + mdp.discount * _excess(mdp, noise)
    uniform = np.full(mdp.rewards.shape, 1.0 / mdp.rewards.shape[1])
    return dataclasses.replace(mdp, rewards=rewards, behavior=uniform, beta=noise.scale)


def observed_solution(mdp: SoftMDP, noise: Gumbel, tolerance: float = 1e-9) -> Solution:
    """Solves an MDP with hidden Gumbel noise: q, v(s) = E max(q + noise) and pi = softmax(q / beta).

    Source: Garg et al. 2023, Eq. 17-20. Arguments as `soft_equivalent` and `value_iteration`.
    """
    solution = value_iteration(soft_equivalent(mdp, noise), tolerance)
    return dataclasses.replace(solution, v=solution.v + _excess(mdp, noise))


def _excess(mdp: SoftMDP, noise: Gumbel) -> float:
    """Returns E max(q + noise) - beta log mean exp(q / beta), reward units."""
    check_maximum_is_gumbel(noise)
    return noise.scale * math.log(mdp.rewards.shape[1]) + noise.mean


@dataclasses.dataclass(frozen=True, eq=False)
class Rollouts:
    """Returns and action counts of simulated agents."""

    returns: np.ndarray  # f64[N], discounted, the noise of the chosen actions included, reward units
    choices: np.ndarray  # i64[S, A], how often an action was chosen in a state, over all agents and steps


def simulate_choices(
    generator: np.random.Generator,
    mdp: SoftMDP,
    q: ArrayLike,
    noise: Sampler,
    *,
    start: int,
    num_agents: int,
    horizon: int,
) -> Rollouts:
    """Lets agents act by argmax_a(q + noise), with new noise in every state they visit.

    If q solves Eq. 19, the mean return is v(start) minus what lies beyond the horizon, which is at most
    discount^horizon * max |v|.

    Source: Garg et al. 2023, Eq. 15, 16 and 20.
    Args:
        mdp: as for `soft_equivalent`.
        q: f64[S, A], the values that the agents act by, without the noise, reward units.
        noise: a function that draws independent noise of a given shape, from any law.
        start: the initial state of all agents.
        num_agents, horizon: the number of agents, and of steps of each.
    """
    values = arguments.of_shape("q", q, mdp.rewards.shape)
    num_agents = arguments.positive_count("num_agents", num_agents)
    state = np.full(num_agents, checked_state("start", start, mdp))
    returns = np.zeros(num_agents)
    choices = np.zeros(values.shape, np.int64)
    cumulative = mdp.probabilities.cumsum(-1)
    cumulative /= cumulative[..., -1:]  # exactly 1 at the end, so that no draw lies beyond it
    for step in range(arguments.positive_count("horizon", horizon)):
        drawn = noise(generator, (num_agents, values.shape[1]))
        action = (values[state] + drawn).argmax(-1)
        np.add.at(choices, (state, action), 1)
        reward = mdp.rewards[state, action] + drawn[np.arange(num_agents), action]
        returns += mdp.discount**step * reward
        successor = (generator.random((num_agents, 1)) >= cumulative[state, action]).sum(-1)
        state = mdp.next_states[state, action, successor]
    return Rollouts(returns, choices)


def noisy_choice(q: ArrayLike, distribution: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns the law of argmax_a(q + noise) and the mean of max_a(q + noise), for i.i.d. noise of any law.

    Both are sums over actions i of integrals over the noise of i. The integrand contains the probability that
    no other action has a larger q + noise: pi(i) = integral of prod_{j != i} F(noise + q_i - q_j) dF(noise).
    For Gumbel noise they are softmax(q / beta) and beta log sum exp(q / beta) + E[noise].

    Source: Garg et al. 2023, Eq. 23 and, for the mean, Eq. 18 and 24.
    Args:
        q: f64[..., A], reward units.
        distribution: of the noise; a frozen one of `scipy.stats` with a smooth density and light tails. A
            ValueError refuses one that is too rough or too wide for the quadrature.
    Returns:
        Probabilities f64[..., A] and mean maxima f64[...], reward units.
    """
    values = np.atleast_1d(arguments.samples("q", q))
    noise = np.linspace(distribution.ppf(TAIL), distribution.isf(TAIL), NODES)
    masses = distribution.pdf(noise) * (noise[1] - noise[0])
    if not abs(masses.sum() - 1.0) < 1e-10:
        raise ValueError(f"distribution must have a smooth density; its quadrature gives {masses.sum()}")
    differences = values[..., :, None] - values[..., None, :]
    not_larger = distribution.cdf(differences[..., None] + noise)  # [..., i, j, node]
    each = np.arange(values.shape[-1])
    not_larger[..., each, each, :] = 1.0
    weights = not_larger.prod(-2) * masses  # [..., i, node]
    return weights.sum(-1), (weights * (values[..., None] + noise)).sum((-2, -1))


def evolve(mdp: SoftMDP, location: ArrayLike, scale: float) -> tuple[np.ndarray, float]:
    """Returns location and scale of the Gumbel process after one step, from independent variables.

    The variables are Z(s, a) ~ G(location(s, a), scale). One step turns them into r + discount * max_a' Z(s',
    a'), which is Gumbel with the location r + discount * scale * log sum exp(location(s', .) / scale) and the
    scale discount * scale. So the location follows a soft-Bellman equation with a beta that shrinks at every
    step. The process ends at the optimum without regularisation, `optimal_q`, not at a soft one.

    Source: Garg et al. 2023, Eq. 26, with its bracket corrected. The sum over actions is not a mean.
    Args:
        mdp: with deterministic dynamics; its mu and beta are ignored.
        location: f64[S, A], reward units.
        scale: not negative, reward units; at 0 the law is the Delta distribution, and the maximum hard.
    """
    locations = arguments.of_shape("location", location, mdp.rewards.shape)
    successors = sole_successors(mdp)
    if scale == 0.0:
        values = locations.max(-1)
    else:
        sums = scale * math.log(locations.shape[1])  # from the mean of L^beta to the sum
        values = log_partition(locations, arguments.positive("scale", scale)) + sums
    return mdp.rewards + mdp.discount * values[successors], mdp.discount * float(scale)


def evolve_samples(mdp: SoftMDP, samples: ArrayLike) -> np.ndarray:
    """Returns r + discount * max_a' Z(s', a') of each draw of Z, f64[N, S, A].

    Pairs with the same successor get the same Z, up to their rewards. If two such pairs meet in a maximum one
    step later, Eq. 26 fails. Calling `independent` between the steps restores the independence that it
    assumes.

    Source: Garg et al. 2023, Eq. 25.
    Args:
        mdp: with deterministic dynamics.
        samples: f64[N, S, A], draws of Z, reward units.
    """
    draws = arguments.samples("samples", samples)
    if draws.shape[1:] != mdp.rewards.shape:
        raise ValueError(f"samples must have the shape (N, *{mdp.rewards.shape}), not {draws.shape}")
    return mdp.rewards + mdp.discount * draws.max(-1)[:, sole_successors(mdp)]


def independent(generator: np.random.Generator, samples: ArrayLike) -> np.ndarray:
    """Shuffles the N draws of each pair (s, a) separately: same marginals, but no dependence between pairs.

    Each maximum in `evolve_samples` drops the smaller draws. If the two take turns, the draws of later steps
    descend from fewer and fewer of the first ones, fastest if all actions are equally good. The draws
    represent the law only as long as their ancestors are many.

    Args:
        samples: f64[N, S, A].
    """
    return generator.permuted(arguments.samples("samples", samples), axis=0)


def optimal_q(mdp: SoftMDP, tolerance: float = 1e-12) -> np.ndarray:
    """Returns the optimal Q without regularisation, f64[S, A].

    The process of Garg et al. 2023, Appendix A.2.1, converges to it.

    Args:
        mdp: with deterministic dynamics; its mu and beta are ignored.
        tolerance: largest error of an entry apart from rounding, positive, reward units.
    """
    arguments.positive("tolerance", tolerance)
    q = np.zeros((1, *mdp.rewards.shape))
    bound = float(np.abs(mdp.rewards).max()) / (1.0 - mdp.discount)
    while bound > tolerance:
        q = evolve_samples(mdp, q)
        bound *= mdp.discount
    return q[0]


def sole_successors(mdp: SoftMDP) -> np.ndarray:
    """Returns the only successor of each pair, i32[S, A]; raises ValueError if one has several."""
    likeliest = np.take_along_axis(mdp.next_states, mdp.probabilities.argmax(-1)[..., None], axis=-1)
    others = (mdp.next_states != likeliest) & (mdp.probabilities > 0)
    if others.any():
        state, action, _ = np.argwhere(others)[0]
        successors = np.unique(mdp.next_states[state, action][mdp.probabilities[state, action] > 0])
        raise ValueError(
            f"mdp must be deterministic, as Appendix A.2.1 assumes, but action {action} in state {state} can "
            f"lead to the states {successors.tolist()}"
        )
    return likeliest[..., 0]


def checked_state(name: str, state: int, mdp: SoftMDP) -> int:
    """Returns the index of a state; raises ValueError if there is no such state."""
    if not 0 <= state < len(mdp.rewards):
        raise ValueError(f"{name} must be a state, 0 to {len(mdp.rewards) - 1}, not {state}")
    return int(state)


def check_maximum_is_gumbel(noise: Gumbel) -> None:
    """Raises ValueError for mirrored noise: the maximum of such noise is not Gumbel."""
    if noise.sign != 1:
        raise ValueError(f"noise must have sign 1, for its maximum to be Gumbel, not {noise.sign}")
