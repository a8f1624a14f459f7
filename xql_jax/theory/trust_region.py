"""The trust region whose multiplier is beta: how many nats the policy of the soft maximum is from the data.

max E_s E_pi[Q] subject to E_s KL(pi || mu) <= eps is solved by pi_beta = mu * exp((Q - V) / beta), Eq. 2,
with the V of Gumbel regression and the beta that minimises `dual`. Rewards times c give c times this beta.
`state_scale` has the same with a bound in each state.

Source: Peters et al. 2010 (REPS), Abdolmaleki et al. 2018 (MPO).
q (reward units) and behavior, mu(a|s), are f64[S, A]; state_weights f64[S] is the data's share of each state.
"""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from xql_jax.theory import arguments
from xql_jax.theory.conservatism import below_largest
from xql_jax.theory.log_partition import log_partition
from xql_jax.theory.soft_mdp import SoftMDP, Solution, value_iteration
from xql_jax.theory.state_scale import state_divergence


def divergence(q: ArrayLike, behavior: ArrayLike, beta: float, state_weights: ArrayLike) -> float:
    """Returns E_s KL(pi_beta || mu) in nats; it falls with beta, from E_s[-log mu(best actions)] to 0."""
    by_state = state_divergence(q, behavior, arguments.positive("beta", beta))
    return float(arguments.probabilities("state_weights", state_weights) @ by_state)


def dual(q: ArrayLike, behavior: ArrayLike, beta: float, eps: float, state_weights: ArrayLike) -> float:
    """Returns beta * eps + E_s[V_beta(s)], reward units: convex, with the derivative eps - `divergence`."""
    values = log_partition(q, beta, behavior)
    return beta * eps + float(arguments.probabilities("state_weights", state_weights) @ values)


def beta_at(q: ArrayLike, behavior: ArrayLike, eps: float, state_weights: ArrayLike) -> float:
    """Returns the beta whose divergence is eps; raises ValueError unless 0 < eps < the largest divergence."""
    span = -below_largest(arguments.samples("q", q), behavior)[0].min()
    return _largest_root(lambda beta: divergence(q, behavior, beta, state_weights), eps, span, 1e-12 * span)


def solve_at_divergence(mdp: SoftMDP, eps: float, state_weights: ArrayLike) -> tuple[float, Solution]:
    """Returns a beta whose soft-optimal policy has the divergence eps, and the solution; ignores mdp.beta.

    Q depends on beta, so several may have it: this is the largest that steps of a factor of 2 find.
    """
    span = float(np.ptp(mdp.rewards[mdp.behavior > 0])) / (1.0 - mdp.discount)  # bounds the span of Q

    def solution(beta: float) -> Solution:
        return value_iteration(dataclasses.replace(mdp, beta=beta), 1e-12 * span)

    def divergence_at(beta: float) -> float:
        return divergence(solution(beta).q, mdp.behavior, beta, state_weights)

    # The lowest beta is far above the errors of Q, which must not decide between equally good actions.
    beta = _largest_root(divergence_at, eps, span, 1e-9 * span / (1.0 - mdp.discount))
    return beta, solution(beta)


def sample_divergence(z: ArrayLike) -> float:
    """Returns D = log B + sum p log p, p = softmax(z), in nats: a minibatch's estimate of the divergence.

    z f64[B] is (Q - V) / beta at the data's rows. D is at most log B. A constant in V does not change it, but
    an error of V that varies by state adds to it: D is how far exp(z) moves the pairs (s, a), not only a.
    """
    rows = arguments.samples("z", z)
    return divergence(rows[None], np.full((1, rows.size), 1.0 / rows.size), 1.0, [1.0])


def shared_divergence(z: ArrayLike, other: ArrayLike) -> float:
    """Returns half the covariance of two critics' z f64[B], nats: what they agree on, if Q is normal."""
    return float(np.cov(arguments.samples("z", z), arguments.samples("other", other))[0, 1]) / 2.0


def _largest_root(divergence_at: Callable[[float], float], eps: float, span: float, lowest: float) -> float:
    # Q spans at most `span`, so the divergence is at most (span / beta)^2 / 8 (Hoeffding): first below eps.
    beta, reached = span / math.sqrt(2.0 * min(arguments.positive("eps", eps), 1.0)), 0.0
    while beta > lowest:
        reached = divergence_at(beta)
        if reached > eps:
            ends = math.log(beta), math.log(2.0 * beta)
            return math.exp(brentq(lambda log_beta: divergence_at(math.exp(log_beta)) - eps, *ends))
        beta /= 2.0
    raise ValueError(f"eps must be below {reached:.6g} nats, the divergence of the best actions, not {eps}")
